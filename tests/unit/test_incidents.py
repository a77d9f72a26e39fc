"""The life of an incident, on scripted findings."""

from __future__ import annotations

import pytest

from agent.frame import Frame
from agent.messages import EventPayload
from agent.rules import Finding
from agent.snapshots import Album
from engines.results import Result
from tests.support.tracks import rule
from tests.support.watching import Scene, Scripted, Told

HERE = (0, 0.8, 100.0, 200.0)


class Kept(Album):
    def __init__(self) -> None:
        self.offered: list[tuple[str, int, int | None, float]] = []

    def saw(self, frame: Frame) -> None:
        """Nobody asks."""

    def offer(self, incident: str, frame: Frame, result: Result, row: int | None, score: float, labels=()) -> str:
        self.offered.append((incident[-1], frame.seq, row, round(score, 2)))
        return "first"

    def ended(self, incident: str) -> str:
        return "best"


def test_start_update_and_end_have_one_id_and_the_next_incident_another() -> None:
    script = {
        0: [Finding("start", 1, 0)],
        1: [Finding("update", 1, 0, data={"event": "dwell"})],
        2: [Finding("end", 1, 0, "left")],
        3: [Finding("start", 1, 0)],
    }
    scene = Scene([Scripted("gate", script)], tracker=Told())
    for _ in range(4):
        scene.frame(HERE)
    assert scene.told("id", "phase", "rule", "kind", "reason") == [
        ("01234567-dock-1", "start", "gate", "zone", None),
        ("01234567-dock-1", "update", "gate", "zone", None),
        ("01234567-dock-1", "end", "gate", "zone", "left"),
        ("01234567-dock-2", "start", "gate", "zone", None),
    ]
    assert scene.events[1].data == {"event": "dwell"}


def test_an_event_says_when_and_where_its_object_was_seen_though_the_incident_began_later() -> None:
    scene = Scene(
        [Scripted("gate", {2: [Finding("start", 1, 0)], 4: [Finding("end", 1, None, "gone")]})], tracker=Told()
    )
    for x, score in ((10, 0.5), (110, 0.9), (210, 0.7), (310, 0.6)):
        scene.frame((0, score, x, 200))
    scene.frame()
    start, end = scene.events
    assert (start.captured_at, start.started_at, start.seq) == ("1970-01-01T00:00:00.200000Z",) * 2 + (2,)
    assert (start.first_seen, start.last_seen) == ("1970-01-01T00:00:00.000000Z", "1970-01-01T00:00:00.200000Z")
    assert (start.label, start.score, start.track, start.box) == ("a", 0.9, 1, [200.0, 160.0, 220.0, 200.0])
    assert start.path == [(0.0, 10.0, 200.0), (0.1, 110.0, 200.0), (0.2, 210.0, 200.0)]
    assert (end.captured_at, end.started_at, end.seq) == ("1970-01-01T00:00:00.400000Z", start.captured_at, 4)
    assert (end.last_seen, end.box) == ("1970-01-01T00:00:00.300000Z", [300.0, 160.0, 320.0, 200.0])
    assert len(end.path) == 4


def test_what_is_open_ends_once_when_the_camera_is_lost_and_tracker_and_rules_begin_anew() -> None:
    script = {
        0: [Finding("start", 1, 0), Finding("start", 2, 1)],
        1: [Finding("end", 2, 1, "left")],
        2: [Finding("end", 1, 0)],
    }
    rule, tracker = Scripted("gate", script), Told()
    scene = Scene([rule], tracker=tracker)
    scene.frame(HERE, (1, 0.5, 300, 300))
    scene.frame(HERE, (1, 0.5, 300, 300))
    scene.watch.lost()
    scene.watch.lost()
    scene.frame(HERE)  # the rule says an end of what has ended
    assert [e for e in scene.told("id", "phase", "reason") if e[1] == "end"] == [
        ("01234567-dock-2", "end", "left"),
        ("01234567-dock-1", "end", "camera_lost"),
    ]
    assert scene.events[-1].captured_at == "1970-01-01T00:00:00.100000Z", "of the newest frame"
    assert rule.forgot == tracker.forgot == 2


def test_after_the_agent_has_stopped_nothing_is_told_any_more() -> None:
    scene = Scene([Scripted("gate", {0: [Finding("start", 1, 0)], 1: [Finding("start", 2, 0)]})], tracker=Told())
    scene.frame(HERE)
    scene.watch.close()
    assert scene.frame((1, 0.9, 10, 10)) is None
    scene.watch.lost()
    assert scene.told("phase", "reason") == [("start", None), ("end", "agent_stopped")]


def test_a_moment_is_an_incident_of_its_own_and_leaves_open_ones_alone() -> None:
    rule = Scripted(
        "door", {0: [Finding("start", 1, 0)], 1: [Finding("moment", 1, 0)], 2: [Finding("end", 1, 0, "left")]}
    )
    scene = Scene([rule], tracker=Told())
    for _ in range(3):
        scene.frame(HERE)
    assert scene.told("id", "phase") == [
        ("01234567-dock-1", "start"),
        ("01234567-dock-2", "moment"),
        ("01234567-dock-1", "end"),
    ]


def test_a_second_start_of_what_is_open_is_an_update_and_an_end_of_what_is_not_is_nothing() -> None:
    script = {
        0: [Finding("end", 1, 0, "left"), Finding("update", 1, 0), Finding("start", 1, 0), Finding("start", 1, 0)]
    }
    scene = Scene([Scripted("gate", script)], tracker=Told())
    scene.frame(HERE)
    assert scene.told("phase") == [("start",), ("update",)]


def test_an_incident_without_an_object_shows_the_newest_row_and_has_no_path() -> None:
    rule = Scripted("someone", {0: [Finding("start", "a", 0)], 1: [Finding("update", "a", 0)]}, kind="presence")
    scene = Scene([rule], tracker=Told())
    scene.frame((0, 0.9, 100, 200))
    scene.frame((1, 0.4, 300, 200))
    start, update = scene.events
    assert (start.label, start.score, update.label, update.score) == ("a", 0.9, "b", 0.4)
    assert update.box == [290.0, 160.0, 310.0, 200.0]
    assert (update.track, update.path, update.zones) == (None, [], [])
    assert (update.first_seen, update.last_seen) == ("1970-01-01T00:00:00.000000Z", "1970-01-01T00:00:00.100000Z")


def test_what_lasts_without_an_object_was_seen_from_before_it_was_told_until_it_was_seen_last() -> None:
    keys = {"after": "200ms", "gone_after": "500ms"}
    album = Kept()
    scene = Scene([rule("presence", tracked="things", **keys)], tracker=Told(), album=album)
    scene.frame()
    for score in (0.6, 0.6, 0.6, 0.9, 0.7):
        scene.frame((0, score, 100, 200))
    for _ in range(6):
        scene.frame()
    start, end = scene.events
    assert (start.started_at[-8:], start.first_seen[-8:], start.last_seen[-8:]) == (".300000Z", ".100000Z", ".300000Z")
    assert (end.first_seen[-8:], end.last_seen[-8:], end.score) == (".100000Z", ".500000Z", 0.7)
    assert [score for *_, score in album.offered] == [0.6, 0.9, 0.7]


def test_zones_are_where_the_object_is_or_was_in_the_order_it_came_there() -> None:
    class Place(Scripted):
        inside: tuple[int, ...] = ()

    yard, gate = Place("yard", {}), Place("gate", {2: [Finding("start", 1, 0)]})
    scene = Scene([gate, yard], tracker=Told())
    yard.inside = (1,)
    scene.frame(HERE)
    scene.frame(HERE)
    yard.inside, gate.inside = (), (1,)
    scene.frame(HERE)
    assert scene.events[0].zones == ["yard", "gate"]


def test_what_a_cascade_says_of_the_object_goes_into_its_events() -> None:
    scene = Scene(
        [Scripted("gate", {0: [Finding("start", 1, 1)], 1: [Finding("end", 1, None, "gone")]})], tracker=Told()
    )
    scene.frame((1, 0.9, 10, 10), (0, 0.8, 50, 50), attributes=[{}, {"colour": [{"label": "red", "score": 0.9}]}])
    scene.frame()
    assert [event.data for event in scene.events] == [{"attributes": {"colour": [{"label": "red", "score": 0.9}]}}] * 2


def test_a_rule_that_fails_takes_nothing_else_along(caplog: pytest.LogCaptureFixture) -> None:
    class Broken(Scripted):
        def see(self, seen):
            raise ZeroDivisionError

    scene = Scene([Broken("bad", {}), Scripted("gate", {1: [Finding("start", 1, 0)]})], tracker=Told())
    scene.frame(HERE)
    scene.frame(HERE)
    assert scene.told("rule") == [("gate",)]
    assert caplog.text.count("rule bad") == 1


def test_every_frame_that_shows_an_object_is_offered_for_its_picture_and_the_end_names_the_best() -> None:
    album = Kept()
    rule = Scripted(
        "gate", {1: [Finding("start", 1, 0)], 2: [Finding("update", 1, 1)], 4: [Finding("end", 1, None, "gone")]}
    )
    scene = Scene([rule], tracker=Told(), album=album)
    scene.frame(HERE)
    scene.frame(HERE)
    scene.frame((1, 0.9, 10, 10), HERE)
    scene.frame()
    scene.frame()
    assert album.offered == [("1", 1, 0, 0.8), ("1", 2, 1, 0.8)]
    assert scene.told("snapshot") == [("first",), ("first",), ("best",)]


def test_an_object_that_is_gone_is_forgotten_when_its_last_incident_has_ended() -> None:
    scene = Scene(
        [Scripted("gate", {0: [Finding("start", 1, 0)], 50: [Finding("end", 1, None, "gone")]})], tracker=Told()
    )
    for _ in range(50):
        scene.frame((0, 0.5, 10, 10), (1, 0.5, 10, 10))
        scene.frame()
    incidents = scene.watch._incidents
    assert incidents._trails == {}
    assert incidents._open == incidents._of_track == {}


def test_what_is_said_of_an_object_in_the_moment_when_it_is_gone_still_knows_it() -> None:
    scene = Scene([Scripted("gate", {1: [Finding("moment", 1, None, "gone")]})], tracker=Told())
    scene.frame(HERE)
    scene.frame()
    assert scene.told("phase", "reason", "label", "track", "last_seen") == [
        ("moment", "gone", "a", 1, "1970-01-01T00:00:00.000000Z")
    ]


def test_the_largest_event_stays_small() -> None:
    """Fifty points of a path, six zones with the longest names, five attributes."""
    names = [f"{n}" + "z" * 62 for n in range(6)]

    class Place(Scripted):
        inside = (1,)

    attributes = {"dress": [{"label": "a label of some length", "score": 0.1234}] * 5}
    rules = [Place(name, {599: [Finding("start", 1, 0)]} if name == names[0] else {}) for name in names]
    scene = Scene(rules, tracker=Told())
    for n in range(600):
        scene.frame((0, 0.5, 10 + n, 100 + n / 7), attributes=[attributes])
    (event,) = scene.events
    assert 25 <= len(event.path) <= 50
    assert event.path[-1][0] == 59.9
    assert len(encoded(event)) < 3072


def encoded(event: EventPayload) -> bytes:
    return event.model_dump_json(by_alias=True, exclude_unset=True).encode()
