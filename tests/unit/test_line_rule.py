"""Lines on synthetic tracks: who crosses, where, and in which direction."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.rules import Rule, Seen
from tests.support.tracks import HEIGHT, SIZE, objects, rule, said, told, walk

DOOR = [[0.2, 0.5], [0.8, 0.5]]
"""From left to right: its right-hand side is below it in the picture."""
ABOVE, BELOW = (0.5, 0.2), (0.5, 0.8)
MARGIN = 0.05 * HEIGHT / SIZE[1]
"""The default one, as a share of the picture's height."""


def line(points: Any = DOOR, **keys: Any) -> Rule:
    """At once, unless a test is about that."""
    return rule("line", "door", points=points, **{"after": 0, **keys})


def directions(judge: Rule, frames: list[Seen]) -> list[str]:
    return [finding.data["direction"] for _, finding in told(judge, frames)]


def test_from_the_left_of_the_line_to_its_right_is_in_and_back_is_out() -> None:
    found = told(line(), walk([ABOVE, BELOW, ABOVE], seconds=20))
    assert [(f.phase, f.key, f.row, f.data) for _, f in found] == [
        ("moment", 1, 0, {"direction": "in", "in": 1, "out": 0}),
        ("moment", 1, 0, {"direction": "out", "in": 1, "out": 1}),
    ]
    assert [at for at, _ in found] == [pytest.approx(5, abs=0.4), pytest.approx(15, abs=0.4)]


def test_the_other_order_of_its_points_turns_the_line_round() -> None:
    assert directions(line(DOOR[::-1]), walk([ABOVE, BELOW])) == ["out"]


def test_on_a_line_from_top_to_bottom_in_is_towards_the_left() -> None:
    assert directions(line([[0.5, 0.1], [0.5, 0.9]]), walk([(0.8, 0.5), (0.2, 0.5)])) == ["in"]


@pytest.mark.parametrize("rate", [1, 3, 10, 30])
def test_a_crossing_is_found_however_far_apart_the_frames_are(rate: float) -> None:
    assert directions(line(), walk([(0.3, 0.1), (0.7, 0.9)], seconds=2, rate=rate)) == ["in"]


def test_who_goes_round_the_end_does_not_cross() -> None:
    round_the_end = [(0.5, 0.2), (0.1, 0.3), (0.1, 0.7), (0.5, 0.8)]
    assert directions(line(), walk(round_the_end, seconds=20)) == []
    there_and_round = [(0.5, 0.2), (0.5, 0.8), (0.1, 0.7), (0.1, 0.3), (0.5, 0.2), (0.5, 0.8)]
    assert directions(line(), walk(there_and_round, seconds=40)) == ["in", "in"]


def test_between_far_frames_the_straight_way_decides_whether_it_met_the_line() -> None:
    assert directions(line(), [objects(0, {1: (0.1, 0.3)}), objects(1, {1: (0.35, 0.7)})]) == ["in"]
    assert directions(line(), [objects(0, {1: (0.1, 0.3)}), objects(1, {1: (0.25, 0.7)})]) == []


def test_who_is_hidden_while_crossing_has_crossed() -> None:
    frames = [objects(0, {1: ABOVE}), *(objects(t, {}, hidden=[1]) for t in (1, 2)), objects(3, {1: BELOW})]
    assert directions(line(), frames) == ["in"]


def test_who_is_lost_and_found_as_another_has_not() -> None:
    assert directions(line(), [objects(0, {1: ABOVE}), objects(1, {}), objects(3, {2: BELOW})]) == []


@pytest.mark.parametrize("seed", range(5))
def test_a_foot_that_jitters_on_the_line_crosses_once(seed: int) -> None:
    noise = np.clip(np.random.default_rng(seed).normal(0, MARGIN / 2, 600), -0.9 * MARGIN, 0.9 * MARGIN)
    stands = [objects(1 + i / 30, {1: (0.5, 0.5 + noise[i])}) for i in range(600)]
    judge = line()
    assert directions(judge, [objects(0, {1: ABOVE}), *stands]) == []
    assert directions(judge, [objects(30, {1: BELOW})]) == ["in"]
    assert directions(judge, stands) == []


def test_without_margin_the_same_foot_crosses_all_the_time() -> None:
    noise = np.random.default_rng(0).normal(0, MARGIN / 2, 600)
    stands = [objects(1 + i / 30, {1: (0.5, 0.5 + noise[i])}) for i in range(600)]
    assert len(directions(line(margin=0), stands)) > 100


def test_one_bad_frame_is_no_crossing_but_staying_is() -> None:
    jumps = [objects(0.0, {1: ABOVE}), objects(0.1, {1: BELOW}), objects(0.2, {1: ABOVE}), objects(0.3, {})]
    assert directions(rule("line", points=DOOR), jumps) == []
    assert directions(line(), jumps) == ["in", "out"]
    stays = [objects(0.0, {1: ABOVE}), *(objects(at / 10, {1: BELOW}) for at in range(1, 6))]
    assert [at for at, _ in told(rule("line", points=DOOR), stays)] == [0.4]


def test_time_goes_on_within_the_margin_but_not_on_the_old_side() -> None:
    near, before = (0.5, 0.5 + MARGIN / 2), (0.5, 0.5 - MARGIN / 2)
    ways = [ABOVE, BELOW, near, near, near], [ABOVE, BELOW, before, BELOW, near]
    found = [said(rule("line", points=DOOR), [objects(n / 10, {1: at}) for n, at in enumerate(way)]) for way in ways]
    assert found == [[(0.4, "moment", 1)], []]


def test_who_vanishes_just_after_crossing_has_crossed_when_it_is_gone() -> None:
    frames = [objects(0.0, {1: ABOVE}), objects(0.1, {1: BELOW}), objects(0.2, {}, hidden=[1]), objects(2.1, {})]
    ((at, found),) = told(rule("line", points=DOOR), frames)
    assert (at, found.row, found.data) == (2.1, None, {"direction": "in", "in": 1, "out": 0})


def test_who_appears_on_the_line_has_not_crossed_it() -> None:
    frames = [objects(0, {1: (0.5, 0.499)}), objects(1, {1: BELOW}), objects(2, {1: ABOVE})]
    assert directions(line(), frames) == ["out"]


def test_only_the_directions_that_were_asked_for_are_told_but_both_are_counted() -> None:
    judge = line(events=["out"])
    found = told(judge, walk([ABOVE, BELOW, ABOVE], seconds=20))
    assert [f.data for _, f in found] == [{"direction": "out", "in": 1, "out": 1}]
    assert judge.counts() == {"in": 1, "out": 1}


def test_other_labels_do_not_cross() -> None:
    judge = line(labels=["car", "dog"])
    assert said(judge, walk([ABOVE, BELOW])) == []
    assert directions(judge, walk([ABOVE, BELOW], label="dog")) == ["in"]


def test_a_lost_camera_does_not_reset_the_counts_and_nobody_crosses_meanwhile() -> None:
    judge = line()
    told(judge, walk([ABOVE, BELOW]))
    judge.forget()
    assert directions(judge, [objects(0, {1: ABOVE}), objects(1, {2: BELOW})]) == []
    assert judge.counts() == {"in": 1, "out": 0}


walks = st.lists(st.tuples(st.floats(0, 1), st.floats(0, 1)), min_size=2, max_size=60)


@given(walks)
def test_in_less_out_is_the_change_of_side_on_any_walk_over_a_line_across_the_picture(
    points: list[tuple[float, float]],
) -> None:
    judge = line([[0, 0.5], [1, 0.5]])
    clear = [y > 0.5 for _, y in points if abs(y - 0.5) >= MARGIN]
    told(judge, [objects(i, {1: point}) for i, point in enumerate(points)])
    counts = judge.counts()
    assert counts["in"] - counts["out"] == (clear[-1] - clear[0] if clear else 0)
    assert counts["in"] + counts["out"] == sum(a != b for a, b in itertools.pairwise(clear))


@given(walks)
def test_the_line_turned_round_counts_the_same_the_other_way(points: list[tuple[float, float]]) -> None:
    judge, turned = line(), line(DOOR[::-1])
    for i, point in enumerate(points):
        list(judge.see(objects(i, {1: point})))
        list(turned.see(objects(i, {1: point})))
    assert (judge.counts()["in"], judge.counts()["out"]) == (turned.counts()["out"], turned.counts()["in"])
