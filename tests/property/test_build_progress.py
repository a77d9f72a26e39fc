"""Whatever phases TensorRT says it begins and ends, the share that is told rises from 0 to 1 at most."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from engines.trt.progress import Phases

_NAMES = st.sampled_from(["Building engine", "Optimizing graph", "Timing tactics"])
_CALLS = st.one_of(
    st.tuples(st.just("start"), _NAMES, st.integers(-1, 50)),
    st.tuples(st.just("step"), _NAMES, st.integers(-1, 100)),
    st.tuples(st.just("finish"), _NAMES, st.just(0)),
)


@given(calls=st.lists(_CALLS, max_size=60))
def test_the_share_never_falls(calls: list[tuple[str, str, int]]) -> None:
    """In any order, with steps beyond the last and phases that never began."""
    told: list[float] = []
    phases = Phases(lambda share, _: told.append(share))
    for kind, phase, number in calls:
        if kind == "start":
            phases.start(phase, number)
        elif kind == "step":
            assert phases.step(phase, number)
        else:
            phases.finish(phase)
    assert told == sorted(told)
    assert all(0 < share <= 1 for share in told)
    assert len(told) <= 200


def test_phases_in_phases_are_parts_of_a_step() -> None:
    """Half of the first of two steps is a quarter."""
    told: list[tuple[float, str]] = []
    phases = Phases(lambda share, what: told.append((share, what)))
    phases.start("all", 2)
    phases.start("part", 4)
    phases.step("part", 0)
    phases.step("part", 1)
    phases.finish("part")
    phases.step("all", 0)
    assert told == [(0.125, "part"), (0.25, "part"), (0.5, "all")]
