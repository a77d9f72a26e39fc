"""How a soak is judged."""

from tests.prove.soak import HELD, NOT_HELD, NOT_JUDGED, judged_times
from tests.support.soak.faults import Fault


def _fault(**how: object) -> Fault:
    normal = {"undone_s": 110.0, "found_s": 3.0, "back_s": 2.0, "over": True, "idle": 0.5}
    return Fault("camera frozen", began_s=100.0, **{"where": "north", **normal, **how})  # type: ignore[arg-type]


def _verdicts(*faults: Fault) -> list[str]:
    """Of: never back, found, back."""
    return [row[2] for row in judged_times(faults)]


def test_faults_that_are_found_and_over_in_time_hold() -> None:
    assert _verdicts(_fault(), _fault()) == [HELD, HELD, HELD]


def test_a_fault_that_takes_long_does_not_hold() -> None:
    assert _verdicts(_fault(), _fault(found_s=5.1)) == [HELD, NOT_HELD, HELD]
    assert _verdicts(_fault(), _fault(back_s=6.1)) == [HELD, HELD, NOT_HELD]
    assert _verdicts(_fault(), _fault(back_s=6.1, where="broker")) == [HELD, HELD, HELD]


def test_a_camera_that_is_away_for_long_and_not_found_does_not_hold() -> None:
    assert _verdicts(_fault(), _fault(found_s=None)) == [HELD, NOT_HELD, HELD]
    assert _verdicts(_fault(), _fault(found_s=None, undone_s=104.0)) == [HELD, HELD, HELD]


def test_a_fault_that_is_never_over_does_not_hold_on_a_busy_machine_either() -> None:
    assert _verdicts(_fault(back_s=None, idle=0.0)) == [NOT_HELD, NOT_JUDGED, NOT_JUDGED]


def test_times_are_judged_where_the_machine_was_not_busy_and_no_other_fault_was_there() -> None:
    assert _verdicts(_fault(back_s=20, idle=0.05), _fault(back_s=20, alone=False)) == [HELD, NOT_JUDGED, NOT_JUDGED]


def test_a_fault_that_the_end_of_the_soak_cut_off_is_not_judged() -> None:
    assert _verdicts(_fault(over=False, back_s=None)) == [NOT_JUDGED] * 3
