"""Zones on synthetic tracks: who is in, since when, and what is told of it."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.rules import Rule
from agent.rules._places import Edges
from tests.support.tracks import HEIGHT, SIZE, objects, rule, said, told, walk

GATE = [[0.2, 0.4], [0.6, 0.4], [0.6, 0.9], [0.2, 0.9]]
OUT, IN = (0.1, 0.5), (0.4, 0.5)
MARGIN = 0.05 * HEIGHT / SIZE[0]
"""The default one beyond an upright edge, as a share of the picture's width."""


def zone(*events: str, polygon: Any = GATE, **keys: Any) -> Rule:
    """At once, unless a test is about that."""
    keys = {"enter_after": 0, **({"events": events} if events else {}), **keys}
    return rule("zone", "gate", polygon=polygon, **keys)


def visit(inside_s: float = 5.0, rate: float = 10.0) -> list[Any]:
    """One second outside, so long inside, three seconds outside again."""
    times = np.round(np.arange(0, inside_s + 4, 1 / rate), 6).tolist()
    return [objects(at, {1: IN if 1 <= at < 1 + inside_s else OUT}) for at in times]


def test_who_comes_in_starts_an_incident_and_ends_it_when_out_for_a_second() -> None:
    assert said(zone(), visit()) == [(1.0, "start", 1), (7.0, "end", 1)]
    _, (_, end) = told(zone(), visit())
    assert (end.reason, end.row, end.data) == ("left", 0, {"event": "leave", "inside_s": 4.9})


@pytest.mark.parametrize(
    ("events", "expected"),
    [
        (["enter", "leave"], [(1.0, "start", "enter"), (7.0, "end", "leave")]),
        (["enter"], [(1.0, "moment", "enter")]),
        (["leave"], [(7.0, "moment", "leave")]),
        (["dwell>3s"], [(4.1, "start", "dwell>3s"), (7.0, "end", "leave")]),
        (["dwell>9s"], []),
        (["enter", "dwell>3s"], [(1.0, "start", "enter"), (4.1, "update", "dwell>3s"), (7.0, "end", "leave")]),
        (["dwell>9s", "leave"], [(7.0, "moment", "leave")]),
        (["leave", "dwell>3s"], [(4.1, "start", "dwell>3s"), (7.0, "end", "leave")]),
        (["dwell>4s", "dwell>2s"], [(3.1, "start", "dwell>2s"), (5.1, "update", "dwell>4s"), (7.0, "end", "leave")]),
        (["count>0"], [(1.0, "start", "count>0"), (8.0, "end", "count>0")]),
        (["count>1"], []),
    ],
)
def test_what_is_told_is_what_was_asked_for_and_each_start_has_its_end(events: list[str], expected: list[Any]) -> None:
    found = told(zone(*events), visit())
    assert [(at, finding.phase, finding.data["event"]) for at, finding in found] == expected


def test_an_object_that_appears_inside_has_entered_and_that_is_said() -> None:
    (_, start), *_ = told(zone(), [objects(0.0, {1: IN, 2: OUT}), objects(0.1, {1: IN, 2: IN})])
    assert (start.phase, start.data["appeared"]) == ("start", True)
    *_, (_, came) = told(zone(), [objects(0.0, {1: IN, 2: OUT}), objects(0.1, {1: IN, 2: IN})])
    assert (came.key, came.data["appeared"]) == (2, False)


def test_an_object_that_vanishes_inside_is_gone_as_soon_as_nobody_follows_it() -> None:
    frames = [objects(0.0, {1: IN}), objects(0.1, {}, hidden=[1]), objects(5.0, {}, hidden=[1]), objects(5.1, {})]
    assert said(zone(), frames) == [(0.0, "start", 1), (5.1, "end", 1)]
    *_, (_, end) = told(zone(), frames)
    assert (end.reason, end.row, end.data["inside_s"]) == ("gone", None, 0.0)


def test_an_object_that_vanishes_after_it_went_out_has_left() -> None:
    *_, (_, end) = told(zone(), [objects(0.0, {1: IN}), objects(0.5, {1: OUT}), objects(0.7, {})])
    assert (end.phase, end.reason) == ("end", "left")


def test_who_is_back_within_a_second_never_left() -> None:
    frames = [objects(0.0, {1: IN}), objects(1.0, {1: OUT}), objects(1.9, {1: IN}), objects(2.9, {1: OUT})]
    assert said(zone(), frames) == [(0.0, "start", 1)]


def test_who_passes_through_in_less_than_the_time_asked_for_never_entered() -> None:
    judge = zone(enter_after="2s")
    assert said(judge, visit(inside_s=1.5)) == []
    assert said(zone(enter_after="2s"), visit()) == [(3.0, "start", 1), (7.0, "end", 1)]


def test_one_bad_frame_is_no_visit_unless_asked() -> None:
    frames = [objects(0.0, {1: OUT}), objects(0.1, {1: IN}), objects(0.2, {1: OUT}), objects(0.3, {})]
    assert said(rule("zone", polygon=GATE), frames) == []
    assert said(zone(), frames) == [(0.1, "start", 1), (0.3, "end", 1)]
    stays = [objects(at / 10, {1: IN}) for at in range(6)]
    assert said(rule("zone", polygon=GATE), stays) == [(0.3, "start", 1)]


@pytest.mark.parametrize("seed", range(5))
def test_a_foot_that_jitters_on_the_edge_enters_once(seed: int) -> None:
    noise = np.clip(np.random.default_rng(seed).normal(0, MARGIN / 3, 600), -MARGIN * 0.9, MARGIN * 0.9)
    edge = 0.2
    frames = [objects(i / 30, {1: (edge + noise[i], 0.5)}) for i in range(600)]
    assert [phase for _, phase, _ in said(zone(leave_after=0), frames)] == ["start"]


def test_without_margin_and_patience_the_same_foot_flaps() -> None:
    noise = np.random.default_rng(0).normal(0, MARGIN / 3, 600)
    frames = [objects(i / 30, {1: (0.2 + noise[i], 0.5)}) for i in range(600)]
    assert len(said(zone(leave_after=0, margin=0), frames)) > 100


def test_counts_start_at_more_than_the_limit_grow_and_end_after_a_second_of_less() -> None:
    three, two, four = ({n: (0.3 + n / 100, 0.5) for n in range(many)} for many in (4, 3, 5))  # track 0 is nobody's
    frames = [objects(at, at_once) for at, at_once in enumerate([two, three, four, three, two, two], 0)]
    found = told(zone("count>2"), frames)
    assert [(at, f.phase, f.data["count"]) for at, f in found] == [
        (1.0, "start", 3),
        (2.0, "update", 4),
        (6.0 - 1, "end", 2),
    ]
    assert found[-1][1].data["most"] == 4
    assert {f.key for _, f in found} == {"count>2"}


def test_it_counts_by_label_also_what_is_no_longer_there() -> None:
    judge = zone(labels=["person", "car"], leave_after=0)
    names = {1: "person", 2: "car", 3: "dog", 4: "car"}
    list(judge.see(objects(0.0, dict.fromkeys(names, IN), label=names)))
    assert judge.counts() == {"car": 2, "person": 1}
    assert sorted(judge.inside) == [1, 2, 4]
    list(judge.see(objects(0.1, {1: OUT, 2: IN, 3: IN, 4: OUT}, label=names)))
    assert judge.counts() == {"car": 1, "person": 0}


def test_other_labels_do_not_enter_but_who_is_inside_may_be_mistaken_for_one() -> None:
    judge = zone(labels=["person"])
    frames = [
        objects(0.0, {1: IN, 2: IN}, label={1: "dog", 2: "person"}),
        objects(1.0, {1: IN, 2: IN}, label={1: "dog", 2: "car"}),
        objects(2.0, {1: IN, 2: OUT}, label={1: "dog", 2: "car"}),
        objects(3.0, {1: IN, 2: OUT}, label={1: "dog", 2: "car"}),
    ]
    assert said(judge, frames) == [(0.0, "start", 2), (3.0, "end", 2)]


@pytest.mark.parametrize(("anchor", "inside"), [("foot", True), ("centre", False), ("top", False)])
def test_the_anchor_is_the_point_that_counts(anchor: str, inside: bool) -> None:
    frames = [objects(0.0, {1: (0.4, 0.42)})]  # the box reaches from 0.22 to 0.42
    assert bool(said(zone(anchor=anchor), frames)) == inside


def test_what_is_cut_by_the_picture_stands_at_its_edge() -> None:
    judge = zone(polygon=[[0, 0.5], [1, 0.5], [1, 1], [0, 1]])
    assert said(judge, [objects(0.0, {1: (0.5, 1.02), 2: (-0.01, 0.7)})]) == [(0.0, "start", 1), (0.0, "start", 2)]


def test_seconds_are_the_cameras_own_at_any_rate() -> None:
    for rate in (3, 10, 30):
        start, dwell, end = told(zone("enter", "leave", "dwell>3s"), visit(rate=rate))
        assert start[0] == pytest.approx(1.0, abs=1 / rate)
        assert 4.0 < dwell[0] <= 4.0 + 2 / rate
        assert end[0] == pytest.approx(7.0, abs=2 / rate)


def test_a_path_through_the_zone_is_one_visit_each_time() -> None:
    path = walk([(0.0, 0.5), (0.8, 0.5), (0.0, 0.5)], seconds=20)
    assert [phase for _, phase, _ in said(zone(), path)] == ["start", "end", "start", "end"]


@given(st.lists(st.tuples(st.floats(0, 1), st.floats(0, 1)), min_size=1, max_size=60), st.floats(0.03, 1.5))
def test_enters_and_leaves_balance_on_any_walk(points: list[tuple[float, float]], step_s: float) -> None:
    judge, enters = zone(), zone("enter")
    frames = [objects(i * step_s, {1: point}) for i, point in enumerate(points)]
    phases = [phase for _, phase, _ in said(judge, [*frames, objects(len(frames) * step_s, {})])]
    assert phases == ["start", "end"] * (len(phases) // 2)
    assert judge.counts().get("person", 0) == len(judge.inside) == 0
    assert len(said(enters, frames)) == phases.count("start")


@given(st.floats(0.21, 0.59), st.floats(0.41, 0.89), st.floats(0, 1), st.floats(0, 1))
def test_depth_is_the_distance_to_the_edge(x: float, y: float, out_x: float, out_y: float) -> None:
    polygon = np.array(GATE)
    (inside,) = Edges(polygon).depth(np.array([[x, y]]))
    assert inside == pytest.approx(min(x - 0.2, 0.6 - x, y - 0.4, 0.9 - y))
    (there,) = Edges(polygon).depth(np.array([[out_x, out_y]]))
    beside = max(0.2 - out_x, 0, out_x - 0.6), max(0.4 - out_y, 0, out_y - 0.9)
    if any(beside):
        assert there == pytest.approx(-np.hypot(*beside))
    else:
        assert there >= 0


def test_a_dent_is_outside() -> None:
    star = np.array([[0.0, 0.0], [1.0, 0.0], [1.0, 1.0], [0.5, 0.2], [0.0, 1.0]])
    points = np.array([[0.5, 0.1], [0.5, 0.5], [0.05, 0.5], [0.95, 0.5], [0.0, 0.0]])
    assert (Edges(star).depth(points) >= 0).tolist() == [True, False, True, True, True]
    turned = star[::-1]
    assert (Edges(turned).depth(points) >= 0).tolist() == [True, False, True, True, True]


def test_neighbours_share_an_edge_without_a_gap() -> None:
    left, right = [[0, 0], [0.5, 0], [0.5, 1], [0, 1]], [[0.5, 0], [1, 0], [1, 1], [0.5, 1]]
    for x, y in itertools.product((0.0, 0.3, 0.5, 0.9, 1.0), (0.0, 0.5, 1.0)):
        frame = [objects(0.0, {1: (x, y)})]
        assert said(zone(polygon=left), frame) or said(zone(polygon=right), frame)
