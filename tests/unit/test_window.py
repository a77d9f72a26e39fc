"""How many events may be on their way."""

from __future__ import annotations

from agent.sinks._window import BYTES, LEAST, Window

SOON_NS = 50_000_000


def test_answers_that_come_soon_open_it_as_far_as_the_broker_takes() -> None:
    """One more with each."""
    window = Window(20)
    for n in range(100):
        window.answered(n, n + 1, SOON_NS)
    assert window.limit == 20
    assert window.has_room(19, 1000)
    assert not window.has_room(20, 1000)


def test_one_late_answer_halves_it_and_those_before_it_do_not_halve_it_again() -> None:
    """They were on the same way at the same time."""
    window = Window(64)
    for n in range(100):
        window.answered(n, n + 1, SOON_NS)
    late_ns = 10 * SOON_NS
    for begun_ns in range(200, 210):
        window.answered(begun_ns, begun_ns + late_ns, SOON_NS)
    assert window.limit == 32
    for n in range(1, 50):
        window.answered(n * late_ns, (n + 2) * late_ns, SOON_NS)
    assert window.limit == LEAST


def test_a_broker_that_takes_one_gets_one() -> None:
    """Late or not."""
    window = Window(1)
    window.answered(0, 10 * SOON_NS, SOON_NS)
    assert window.limit == 1


def test_one_event_is_never_too_large_and_a_few_large_ones_are_enough() -> None:
    """A path of a thousand points is delivered, too."""
    window = Window(20)
    assert window.has_room(0, 0)
    assert window.has_room(1, BYTES - 1)
    assert not window.has_room(1, BYTES)
