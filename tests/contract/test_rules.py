"""What every rule promises, whatever it is about."""

from __future__ import annotations

import dataclasses
import random
from collections.abc import Iterator
from functools import cache
from typing import Any

import pytest

from agent.rules import Finding, Rule, RuleConfig, Seen
from engines.parts import find_parts
from tests.support.tracks import CLASSES, LABELS, classes, objects, rule

GATE = [[0.2, 0.2], [0.8, 0.2], [0.8, 0.8], [0.2, 0.8]]
RULES: dict[str, dict[str, Any]] = {
    "zone": {"type": "zone", "polygon": GATE, "leave_after": "200ms", "enter_after": "100ms"},
    "zone of all events": {
        "type": "zone",
        "polygon": GATE,
        "events": ["enter", "leave", "dwell>500ms", "dwell>1s", "count>1", "count>3"],
        "enter_after": 0,
        "leave_after": 0,
    },
    "zone of dwelling only": {"type": "zone", "polygon": GATE, "events": ["dwell>500ms"], "labels": ["person", "dog"]},
    "zone of leaving only": {"type": "zone", "polygon": GATE, "events": ["leave"], "anchor": "centre"},
    "line": {"type": "line", "points": [[0.5, 0.1], [0.5, 0.9]]},
    "presence of objects": {"type": "presence", "labels": ["person"], "after": 0, "gone_after": "200ms", "least": 2},
    "presence of a class": {"type": "presence", "use": "scene", "labels": ["open"], "score": 0.4, "gone_after": 0},
    "absence of objects": {"type": "absence", "labels": ["dog", "car"], "after": "200ms", "back_after": 0},
    "absence of a class": {"type": "absence", "use": "scene", "labels": ["open"], "score": 0.4, "after": 0},
    "changed": {"type": "changed", "use": "scene", "hold": 0},
    "undecided objects": {"type": "undecided", "after": "300ms"},
    "undecided picture": {"type": "undecided", "use": "scene", "after": 0, "lead": 0.1},
    "undecided objects that nobody follows": {"type": "undecided", "use": "others", "after": 0},
}


@pytest.fixture(params=RULES)
def keys(request: pytest.FixtureRequest) -> dict[str, Any]:
    return RULES[request.param]


def build(keys: dict[str, Any]) -> Rule:
    return rule(keys["type"], **{key: value for key, value in keys.items() if key != "type"})


def frames(keys: dict[str, Any], seed: int = 0) -> list[Seen]:
    return _film(keys.get("use"), seed)


@cache
def _film(use: str | None, seed: int, many: int = 300) -> list[Seen]:
    """Objects that come, go, hide and change their names, or classes that come and go; at an uneven pace."""
    dice = random.Random(seed)  # a film, not a secret
    followed: dict[int, tuple[float, float]] = {}
    named: dict[int, str] = {}
    shown, at_s, next_track = [], 0.0, 1
    for _ in range(many):
        at_s = round(at_s + dice.choice([0.04, 0.1, 0.3, 0.3, 2.0]), 3)
        if use == "scene":
            scores = {name: dice.random() for name in CLASSES}
            whole = sum(scores.values())
            shown.append(classes(at_s, **{name: s / whole for name, s in scores.items() if s / whole > 0.1}))
            continue
        if dice.random() < 0.2:
            followed[next_track], next_track = (dice.random(), dice.random()), next_track + 1
        if followed and dice.random() < 0.1:
            del followed[dice.choice(list(followed))]
        hidden = {track for track in followed if dice.random() < 0.2}
        for track, (x, y) in followed.items():
            followed[track] = x + dice.gauss(0, 0.15), y + dice.gauss(0, 0.15)
            named[track] = dice.choice([named.get(track, "person")] * 9 + [*LABELS])
        where = {track: point for track, point in followed.items() if track not in hidden}
        scores = {track: dice.choice([0.3, 0.5, 0.9]) for track in where}
        # Some detections have no track yet.
        shown.append(objects(at_s, where, hidden=hidden, label=named, score=scores, tracked=use is None))
        if dice.random() < 0.3 and use is None and where:
            shown[-1] = dataclasses.replace(
                shown[-1],
                track=shown[-1].track * [dice.random() < 0.8 for _ in where],  # type: ignore[operator]
            )
    return shown


def findings(judge: Rule, shown: list[Seen]) -> Iterator[tuple[Seen, Finding]]:
    for seen in shown:
        for finding in judge.see(seen):
            yield seen, finding


def test_every_kind_of_rule_is_in_this_suite() -> None:
    assert {keys["type"] for keys in RULES.values()} == set(find_parts("agent.rules", "sightwire.rules"))


def test_it_says_something(keys: dict[str, Any]) -> None:
    assert len(list(findings(build(keys), frames(keys)))) > 3


@pytest.mark.parametrize("seed", range(5))
def test_nothing_ends_that_did_not_start_and_nothing_starts_twice(keys: dict[str, Any], seed: int) -> None:
    begun = set()
    for _, finding in findings(build(keys), frames(keys, seed)):
        if finding.phase == "start":
            assert finding.key not in begun
            begun.add(finding.key)
        elif finding.phase in ("update", "end"):
            assert finding.key in begun
            if finding.phase == "end":
                begun.remove(finding.key)


def test_whatever_followed_objects_start_has_ended_when_all_are_gone(keys: dict[str, Any]) -> None:
    if keys.get("use") or keys["type"] == "absence":
        pytest.skip("its incidents are not of objects that are followed")
    judge, begun = build(keys), {}
    for at_s in (0.0, 1.0, 60.0):  # gone, and for long enough
        last = frames(keys)[-1].at_ns / 1e9 + at_s
        shown = [objects(last, {})] if at_s else frames(keys)
        for _, finding in findings(judge, shown):
            begun[finding.key] = finding.phase
    assert set(begun.values()) <= {"end", "moment"}


def test_a_reason_is_given_for_ends_only_and_is_one_of_those_that_are_documented(keys: dict[str, Any]) -> None:
    for _, finding in findings(build(keys), frames(keys)):
        if finding.phase == "end":
            assert finding.reason in {"left", "gone", "over"}
        elif keys["type"] != "zone" or finding.phase != "moment":
            assert finding.reason is None


def test_every_row_is_one_of_the_frame(keys: dict[str, Any]) -> None:
    for seen, finding in findings(build(keys), frames(keys)):
        assert finding.row is None or 0 <= finding.row < len(seen.result)
        if finding.row is not None and seen.track is not None and isinstance(finding.key, int):
            assert seen.track[finding.row] == finding.key


def test_what_is_said_can_be_sent(keys: dict[str, Any]) -> None:
    for _, finding in findings(build(keys), frames(keys)):
        assert all(isinstance(value, str | int | float | None) for value in finding.data.values())
        assert isinstance(finding.key, str | int)


def test_a_new_rule_says_the_same_of_the_same_frames(keys: dict[str, Any]) -> None:
    once, again = ([finding for _, finding in findings(build(keys), frames(keys))] for _ in range(2))
    assert once == again


def test_forgetting_begins_anew(keys: dict[str, Any]) -> None:
    judge = build(keys)
    before = [finding for _, finding in findings(judge, frames(keys))]
    judge.forget()
    after = [finding for _, finding in findings(judge, frames(keys))]
    assert [_uncounted(finding) for finding in after] == [_uncounted(finding) for finding in before]


def _uncounted(finding: Finding) -> Finding:
    """A line's running counts go on when a camera was lost."""
    data = {key: value for key, value in finding.data.items() if key not in ("in", "out")}
    return dataclasses.replace(finding, data=data)


def test_its_counts_are_numbers_by_label_or_direction_and_never_negative(keys: dict[str, Any]) -> None:
    judge = build(keys)
    for seen in frames(keys):
        list(judge.see(seen))
        counts = judge.counts()
        assert all(isinstance(name, str) and isinstance(n, int) and n >= 0 for name, n in counts.items())
        assert set(judge.inside) <= {*seen.present, *(seen.track.tolist() if seen.track is not None else ())}
    assert bool(judge.counts()) == (keys["type"] in ("zone", "line"))


def test_a_frame_of_another_kind_of_result_is_no_reason_to_fall_over(keys: dict[str, Any]) -> None:
    judge = build(keys)
    list(findings(judge, [classes(0.0, open=0.9), objects(1.0, {1: (0.5, 0.5)}), classes(2.0), objects(3.0, {})]))


def test_it_has_the_name_and_the_use_that_it_was_given(keys: dict[str, Any]) -> None:
    judge = build(keys)
    assert (judge.name, judge.kind, judge.use) == ("rule", keys["type"], keys.get("use", "people"))


def test_its_config_says_what_it_needs() -> None:
    for config in find_parts("agent.rules", "sightwire.rules").values():
        assert issubclass(config, RuleConfig)
        assert config.model_config["extra"] == "forbid"
