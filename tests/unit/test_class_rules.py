"""Presence, absence, change and doubt, with scores that flicker."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from agent.rules import Seen
from agent.rules._held import Held
from tests.support.tracks import classes, objects, rule, said, told

HERE = {1: (0.5, 0.5)}


def shown(*spans: tuple[float, Seen | None], rate: float = 10) -> list[Seen]:
    """Frames that show the same thing for so many seconds each; None: nothing."""
    frames, at_ns = [], 0
    for seconds, seen in spans:
        for _ in range(round(seconds * rate)):
            frames.append(Seen(**{**vars(seen or objects(0, {})), "at_ns": at_ns}))
            at_ns += round(1e9 / rate)
    return frames


def test_a_value_turns_when_the_other_has_held() -> None:
    held = Held(yes_after_s=1, no_after_s=2)
    flickers = [
        (0, True),
        (0.9, False),
        (1.0, True),
        (1.9, True),
        (2.0, True),
        (3.0, False),
        (4.9, False),
        (5.0, False),
    ]
    assert [at for at, value in flickers if held.turns(value, round(at * 1e9))] == [2.0, 5.0]


# -- presence and absence


def test_what_is_seen_for_half_a_second_is_there_until_it_has_not_been_seen_for_five() -> None:
    frames = shown((1, None), (3, objects(0, HERE)), (4, None), (1, objects(0, HERE)), (7, None))
    found = told(rule("presence"), frames)
    assert [(at, f.phase, f.reason) for at, f in found] == [(1.5, "start", None), (14.0, "end", "gone")]
    assert found[0][1].data == {"count": 1}
    assert found[1][1].data == {"there_s": pytest.approx(7.9)}  # from the first frame that showed it to the last one


def test_presence_shows_the_best_of_what_is_there_as_long_as_it_is_there() -> None:
    judge, two = rule("presence"), objects(0, {2: (0.1, 0.5), 1: (0.5, 0.5)})
    showing = [(list(judge.see(seen)), judge.showing)[1] for seen in shown((0.7, two), (1, None), (0.2, two))]
    assert showing == [{}] * 5 + [{"presence": 0}] * 2 + [{}] * 10 + [{"presence": 0}] * 2


def test_a_glimpse_is_not_presence() -> None:
    assert said(rule("presence"), shown((1, None), (0.4, objects(0, HERE)), (3, None))) == []


def test_so_many_must_be_there_at_once_and_of_that_label() -> None:
    two = objects(0, {1: (0.5, 0.5), 2: (0.6, 0.5), 3: (0.1, 0.1)}, label={1: "dog", 2: "person", 3: "person"})
    found = told(rule("presence", labels=["person"], least=2), shown((2, two)))
    assert [(f.phase, f.row, f.data["count"]) for _, f in found] == [("start", 1, 2)]
    assert said(rule("presence", labels=["person"], least=3), shown((2, two))) == []


def test_objects_without_a_track_do_not_count_where_objects_are_followed() -> None:
    ghost = objects(0, {0: (0.5, 0.5)})
    assert said(rule("presence"), shown((3, ghost))) == []
    assert len(said(rule("presence", use="people", tracked=None), shown((3, objects(0, HERE, tracked=False))))) == 1


def test_a_class_is_there_when_its_score_is_good() -> None:
    frames = shown((1, classes(0, open=0.4, closed=0.3)), (1, classes(0, open=0.6, closed=0.3)))
    keys: dict[str, Any] = {"use": "scene", "labels": ["open"], "after": 0}
    assert said(rule("presence", **keys), frames) == [(1.0, "start", "presence")]
    assert said(rule("presence", score=0.7, **keys), frames) == []


def test_what_was_not_seen_for_ten_seconds_is_missing_until_it_is_back() -> None:
    frames = shown((2, objects(0, HERE)), (12, None), (0.3, objects(0, HERE)), (1, None), (2, objects(0, HERE)))
    found = told(rule("absence", labels=["person"]), frames)
    assert [(at, f.phase, f.row, f.reason) for at, f in found] == [
        (12.0, "start", None, None),
        (15.8, "end", 0, "over"),
    ]
    assert found[0][1].data["missing_s"] == pytest.approx(10.1)


def test_what_was_never_seen_is_missing_too() -> None:
    assert said(rule("absence"), shown((11, None))) == [(10.0, "start", "absence")]


def test_flicker_is_neither_presence_nor_absence() -> None:
    rng = np.random.default_rng(1)
    frames = shown(*((0.1, objects(0, HERE) if seen else None) for seen in rng.random(600) < 0.5))
    assert [phase for _, phase, _ in said(rule("presence", after="2s", gone_after="2s"), frames)] == []
    assert said(rule("absence", after="2s"), frames) == []


# -- changed


def changed(**keys: Any) -> Any:
    return rule("changed", use="scene", **keys)


def test_a_class_that_was_best_for_two_seconds_is_the_present_one() -> None:
    opened, closed = classes(0, open=0.8, closed=0.2), classes(0, closed=0.9, open=0.1)
    found = told(changed(), shown((5, opened), (1.9, closed), (1, opened), (5, closed)))
    assert [(at, f.phase, f.data["from"], f.data["to"]) for at, f in found] == [
        (2.0, "moment", None, "open"),
        (pytest.approx(9.9), "moment", "open", "closed"),
    ]
    assert found[1][1].data["lasted_s"] == pytest.approx(7.9)
    assert "lasted_s" not in found[0][1].data


@pytest.mark.parametrize("seed", range(5))
def test_two_classes_that_are_as_good_as_each_other_do_not_flap(seed: int) -> None:
    rng = np.random.default_rng(seed)
    flicker = [(0.1, classes(0, open=0.5 + e, closed=0.5 - e)) for e in rng.normal(0, 0.04, 3000)]
    found = told(changed(), shown((3, classes(0, open=0.9)), *flicker))
    assert [f.data["to"] for _, f in found] == ["open"]


def test_without_hold_and_lead_they_do() -> None:
    rng = np.random.default_rng(0)
    flicker = [(0.1, classes(0, open=0.5 + e, closed=0.5 - e)) for e in rng.normal(0, 0.04, 3000)]
    assert len(told(changed(hold=0, lead=0), shown(*flicker))) > 500


def test_on_its_way_a_class_may_dip_a_little() -> None:
    rng = np.random.default_rng(3)
    noisy = [(0.1, classes(0, closed=0.5 + e)) for e in rng.uniform(-0.09, 0.09, 60)]
    (_, first), (at, then) = told(changed(), shown((3, classes(0, open=0.9)), *noisy))
    assert (first.data["to"], then.data["to"]) == ("open", "closed")
    assert at < 6


def test_a_poor_score_changes_nothing() -> None:
    poor = classes(0, closed=0.45, open=0.3, blocked=0.25)
    assert [f.data["to"] for _, f in told(changed(), shown((3, classes(0, open=0.9)), (60, poor)))] == ["open"]


def test_labels_that_are_not_named_are_not_states() -> None:
    frames = shown((3, classes(0, blocked=0.6, open=0.4)), (3, classes(0, closed=0.55, blocked=0.45)))
    found = told(changed(labels=["open", "closed"], score=0.3), frames)
    assert [f.data["to"] for _, f in found] == ["open", "closed"]
    assert [f.row for _, f in found] == [1, 0]


# -- undecided


def undecided(**keys: Any) -> Any:
    return rule("undecided", use="scene", **keys)


def test_a_human_is_asked_when_no_class_is_good_enough_for_two_seconds() -> None:
    unsure, sure = classes(0, open=0.55, closed=0.45), classes(0, open=0.7, closed=0.3)
    found = told(undecided(), shown((3, sure), (1, unsure), (1, sure), (4, unsure), (4, sure)))
    assert [(at, f.phase, f.row, f.reason) for at, f in found] == [
        (7.0, "start", 0, None),
        (11.0, "end", 0, "over"),
    ]
    assert found[0][1].data == {"score": pytest.approx(0.55), "under": 0.6}


def test_a_picture_without_any_class_is_undecided() -> None:
    ((_, found),) = told(undecided(after=0), [classes(0)])
    assert (found.phase, found.row, found.data["score"]) == ("start", None, 0.0)


def test_so_is_one_with_two_good_ones_if_a_lead_is_asked_for() -> None:
    frames = shown((3, classes(0, open=0.5, closed=0.48)))
    assert said(undecided(under=0.4), frames) == []
    assert said(undecided(under=0.4, lead=0.1), frames) == [(2.0, "start", "undecided")]


@pytest.mark.parametrize("seed", range(3))
def test_a_score_that_flickers_round_the_threshold_asks_at_most_once(seed: int) -> None:
    rng = np.random.default_rng(seed)
    frames = shown(*((0.1, classes(0, open=0.6 + e)) for e in rng.normal(0, 0.02, 3000)))
    assert [phase for _, phase, _ in said(undecided(after="300ms"), frames)] == ["start"]


def test_an_object_that_is_never_sure_is_asked_about_until_one_good_look_at_it() -> None:
    doubtful, good = objects(0, {7: (0.5, 0.5)}, score=0.4), objects(0, {7: (0.5, 0.5)}, score=0.8)
    found = told(rule("undecided"), shown((3, doubtful), (1, good), (9, doubtful)))
    assert [(at, f.phase, f.key, f.reason) for at, f in found] == [(2.0, "start", 7, None), (3.0, "end", 7, "over")]


def test_an_object_is_not_asked_about_twice_and_one_that_vanishes_is_gone() -> None:
    doubtful, hidden = objects(0, {7: (0.5, 0.5)}, score=0.4), objects(0, {}, hidden=[7])
    found = told(rule("undecided"), shown((3, doubtful), (1, hidden), (3, doubtful), (1, None)))
    assert [(at, f.phase, f.reason) for at, f in found] == [(2.0, "start", None), (7.0, "end", "gone")]


def test_objects_that_nobody_follows_are_asked_about_together() -> None:
    doubtful = objects(0, {1: (0.5, 0.5), 2: (0.6, 0.5)}, score={1: 0.9, 2: 0.4}, tracked=False)
    found = told(rule("undecided", tracked=None, use="people"), shown((3, doubtful), (3, None)))
    assert [(at, f.phase, f.key, f.row) for at, f in found] == [
        (2.0, "start", "undecided", 1),
        (5.0, "end", "undecided", None),
    ]
