"""Events of a recording against those of an earlier time."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.replay.baseline import MOVED_S, BaselineError, differences, read, told, written


def event(at_s: float, rule: str = "gate", phase: str = "start", **more: Any) -> dict[str, Any]:
    return {"at_s": at_s, "rule": rule, "kind": "zone", "phase": phase, "label": "person", **more}


def found(before: list[dict[str, Any]], now: list[dict[str, Any]], within_s: float = 0.5) -> list[tuple[str, float]]:
    return [(difference.what, difference.at_s) for difference in differences(before, now, within_s)]


def test_what_is_missing_new_or_has_moved_is_told_in_the_order_of_the_recording() -> None:
    before = [event(1), event(5), event(9, "door"), event(20)]
    now = [event(1.4), event(7), event(8, "yard"), event(40)]
    assert found(before, now) == [("moved", 5), ("new", 8), ("missing", 9), ("missing", 20), ("new", 40)]
    (moved, *_) = differences(before, now, 0.5)
    assert (moved.before, moved.now) == (before[1], now[1])


def test_ids_tracks_scores_boxes_and_numbers_may_differ() -> None:
    before = event(
        1, incident=1, track=3, score=0.9, box=[1, 2, 3, 4], seq=30, data={"event": "enter", "inside_s": 4.2}
    )
    now = event(1, incident=7, track=9, score=0.4, seq=33, data={"inside_s": 5.0, "event": "enter"})
    assert found([before], [now]) == []


@pytest.mark.parametrize(
    "other",
    [
        {"rule": "yard"},
        {"kind": "line"},
        {"phase": "end"},
        {"label": "car"},
        {"reason": "gone"},
        {"data": {"direction": "out"}},
        {"data": {}},
    ],
)
def test_what_happened_may_not(other: dict[str, Any]) -> None:
    was = event(1, data={"direction": "in"})
    assert sorted(found([was], [{**was, **other}])) == [("missing", 1), ("new", 1)]


@pytest.mark.parametrize(("apart", "expected"), [(0.5, []), (0.51, [("moved", 1)]), (MOVED_S + 0.1, None)])
def test_an_event_may_move_so_far(apart: float, expected: list[Any] | None) -> None:
    if expected is None:
        expected = [("missing", 1), ("new", 1 + apart)]
    assert found([event(1)], [event(1 + apart)]) == expected
    assert found([event(1)], [event(1 + apart)], within_s=20) == []


def test_as_many_as_can_be_are_the_same() -> None:
    assert found([event(1), event(1.4)], [event(0.9), event(1.1)]) == []
    assert found([event(1), event(1.4)], [event(1.3)]) == [("missing", 1.4)]


times = st.lists(st.integers(0, 60).map(lambda n: n / 4), max_size=12)


@given(times, times, st.randoms(use_true_random=False))
def test_every_event_is_the_same_or_told_once(before: list[float], now: list[float], dice: random.Random) -> None:
    was, are = [event(at) for at in before], [event(at) for at in now]
    told = differences(was, are, 0.5)
    assert len(was) - sum(d.before is not None for d in told) == len(are) - sum(d.now is not None for d in told)
    assert differences(was, was, 0) == []
    swapped = {"missing": "new", "new": "missing", "moved": "moved"}
    back = differences(are, was, 0.5)
    assert sorted(swapped[d.what] for d in told) == sorted(d.what for d in back)
    dice.shuffle(are)
    assert [(d.what, d.at_s) for d in differences(was, are, 0.5)] == [(d.what, d.at_s) for d in told]


def test_a_file_is_read_as_it_was_written(tmp_path: Path) -> None:
    events = [event(1, data={"event": "enter"}), event(2.25, label="Fußgänger")]
    (tmp_path / "base.jsonl").write_text(written(events), encoding="utf-8")
    assert read(tmp_path / "base.jsonl") == events


def test_empty_lines_are_no_events_and_no_mistakes(tmp_path: Path) -> None:
    (tmp_path / "base.jsonl").write_text("\n" + written([event(1)]) + "\r\n\n")
    assert read(tmp_path / "base.jsonl") == [event(1)]


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("{", ":2: not a JSON object"),
        ("[" * 100_000, ":2: not a JSON object"),
        ("[1]", ":2: not an event: expected {...}"),
        ('{"rule": "gate"}', ":2: not an event: at_s: expected seconds"),
        ('{"at_s": "1", "rule": "gate"}', "at_s: expected seconds"),
        ('{"at_s": true, "rule": "gate"}', "at_s: expected seconds"),
        ('{"at_s": NaN, "rule": "gate"}', "at_s: expected seconds"),
        ('{"at_s": 1, "kind": "zone", "phase": "start"}', "rule: expected a text"),
        ('{"at_s": 1, "rule": 3, "kind": "zone", "phase": "start"}', "rule: expected a text"),
        ('{"at_s": 1, "rule": "a", "kind": "zone", "phase": "start", "label": []}', "label: expected a text"),
        ('{"at_s": 1, "rule": "a", "kind": "zone", "phase": "start", "data": 1}', "data: expected {...}"),
    ],
)
def test_a_malformed_line_is_named(tmp_path: Path, line: str, expected: str) -> None:
    path = tmp_path / "base.jsonl"
    path.write_text(written([event(1)]) + line + "\n")
    with pytest.raises(BaselineError) as caught:
        read(path)
    assert str(caught.value).startswith(str(path))
    assert expected in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_file_that_is_not_there_or_no_text_is_a_line(tmp_path: Path) -> None:
    (tmp_path / "picture").write_bytes(b"\xff\xd8\xff")
    for name, expected in (("none", "cannot be read: No such file"), ("picture", "not UTF-8"), (".", "cannot be read")):
        with pytest.raises(BaselineError, match=expected):
            read(tmp_path / name)


@given(
    st.recursive(
        st.none() | st.booleans() | st.floats() | st.text(max_size=5),
        lambda inner: (
            st.lists(inner, max_size=3)
            | st.dictionaries(
                st.sampled_from(["at_s", "rule", "kind", "phase", "label", "reason", "data", "x"]), inner, max_size=8
            )
        ),
        max_leaves=12,
    )
)
def test_any_json_is_events_that_can_be_compared_or_a_mistake(
    tmp_path_factory: pytest.TempPathFactory, value: Any
) -> None:
    path = tmp_path_factory.getbasetemp() / "any.jsonl"
    path.write_text(json.dumps(value) + "\n")
    try:
        events = read(path)
    except BaselineError:
        return
    assert differences(events, events, 0.5) == []
    assert all(isinstance(told(each), str) for each in events)
