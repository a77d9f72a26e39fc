"""How many are there: on change only, held against flicker, on the camera's own time."""

from __future__ import annotations

from typing import Any

from agent.rules import Finding
from agent.watching.counts import Steady
from tests.support.watching import RATE, Scene, Scripted, Told

A = (0, 0.9, 100.0, 100.0)
B = (1, 0.9, 300.0, 100.0)


class Door(Scripted):
    """Counts what it is told to."""

    def __init__(self, *args: Any, **more: Any) -> None:
        super().__init__(*args, **more)
        self.numbers: dict[str, int] = {}

    def counts(self) -> dict[str, Any]:
        return self.numbers


def test_counts_are_told_when_they_change_and_only_then() -> None:
    scene = Scene([], tracker=Told(), labels_told=("a",))
    for boxes in [(), (), (A,), (A,), (A, B), (A, B)]:
        scene.frame(*boxes)
    assert [told.labels for told in scene.counts] == [{"a": 0}, {"a": 1}, {"a": 1, "b": 1}]
    assert scene.counts[1].captured_at == "1970-01-01T00:00:00.200000Z"


def test_a_number_falls_when_it_has_been_lower_for_a_second_of_the_camera() -> None:
    scene = Scene([], tracker=Told())
    scene.frame(A)
    scene.frame()
    scene.frame(A)
    assert len(scene.counts) == 1, "it flickered"
    for _ in range(2 * RATE):
        scene.frame()
    assert [told.labels for told in scene.counts] == [{"a": 1}, {"a": 0}]
    assert scene.counts[1].captured_at == "1970-01-01T00:00:01.300000Z"


def test_zones_and_lines_say_their_own_numbers_and_other_rules_whether_they_are_open() -> None:
    gate, door = Door("gate", {}, kind="zone"), Door("door", {}, kind="line")
    someone = Scripted("someone", {1: [Finding("start", "a", 0)]}, kind="presence")
    scene = Scene([gate, door, someone], tracker=Told())
    door.numbers = {"in": 0, "out": 0}
    scene.frame(A)
    gate.numbers, door.numbers = {"a": 1}, {"in": 1, "out": 0}
    scene.frame(A)
    first, second = scene.counts
    assert (first.zones, first.lines, first.rules) == ({"gate": {}}, {"door": {"in": 0, "out": 0}}, {"someone": False})
    assert (second.zones, second.lines) == ({"gate": {"a": 1}}, {"door": {"in": 1, "out": 0}})
    assert second.rules == {"someone": True}


def test_a_lost_camera_sees_nobody_at_once_but_crossings_stay_counted() -> None:
    gate, door = Door("gate", {}, kind="zone"), Door("door", {}, kind="line")
    gate.numbers, door.numbers = {"a": 1}, {"in": 3, "out": 1}
    scene = Scene([gate, door], tracker=Told())
    scene.frame(A)
    gate.numbers = {"a": 0}
    scene.watch.lost()
    scene.watch.lost()
    assert len(scene.counts) == 2
    last = scene.counts[-1]
    assert (last.labels, last.zones, last.lines) == ({"a": 0}, {"gate": {"a": 0}}, {"door": {"in": 3, "out": 1}})


def test_results_of_another_use_do_not_say_that_nobody_is_there() -> None:
    scene = Scene([], tracker=Told())
    scene.frame(A)
    scene.use.name = "others"
    for _ in range(3 * RATE):
        scene.frame()
    assert [told.labels for told in scene.counts] == [{"a": 1}]


def test_a_number_that_rises_while_it_falls_starts_to_wait_anew() -> None:
    steady, key = Steady(10), ("labels", "", "a")
    shown = [
        dict(steady.take({key: n}, at))[key] for at, n in enumerate([2, 1, 1, 1, 2, 1, 1, 1, 1, 1, 1, 1, 1, 0, 0, 0])
    ]
    assert shown == [2] * 15 + [0]
