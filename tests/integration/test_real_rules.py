"""Every kind of rule on a real video with real models: the street of the demo."""

from __future__ import annotations

import threading
from collections import defaultdict
from typing import Any

import pytest

from agent.replay.replaying import Replay
from engines.store import ModelStore
from tests.support.agents import settings_of
from tests.support.street import street_video

FAR, NEAR = ([[0, top], [1, top], [1, bottom], [0, bottom]] for top, bottom in ((0, 0.85), (0.85, 1)))
STREET: dict[str, Any] = {
    "source": "rtsp://camera.invalid/live",
    "models": [{"use": "people", "every": "80ms", "threshold": 0.3}, {"use": "scene", "every": "400ms"}],
    "track": {"use": "people"},
    "zones": {
        "all": {"polygon": [[0, 0], [1, 0], [1, 1], [0, 1]], "events": ["enter", "leave", "dwell>1s", "count>0"]},
        "far": {"polygon": FAR, "margin": 0, "leave_after": 0},
        "near": {"polygon": NEAR, "margin": 0, "leave_after": 0},
    },
    "lines": {"kerb": {"points": [[0, 0.85], [1, 0.85]]}},
    "rules": {
        "somebody": {"type": "presence", "labels": ["person"], "gone_after": "1s"},
        "nobody": {"type": "absence", "labels": ["person"], "after": "400ms", "back_after": 0},
        "scene": {"type": "changed", "use": "scene", "score": 0.15, "lead": 0.05, "hold": "400ms"},
        "odd": {"type": "undecided", "under": 0.95, "after": "300ms"},
        "unclear": {"type": "undecided", "use": "scene", "under": 0.4, "after": "400ms"},
    },
}


@pytest.fixture(scope="module")
def events(real_models: ModelStore) -> list[dict[str, Any]]:
    models = {"people": {"model": "person-ssdlite"}, "scene": {"model": "efficientnet-lite0", "threshold": 0.01}}
    settings = settings_of(models=models, cameras={"street": STREET})
    return Replay(settings, None, str(street_video(real_models)), real_models).run(threading.Event())


def test_every_rule_has_something_to_say_of_the_street(events: list[dict[str, Any]]) -> None:
    assert {event["rule"] for event in events} == {*STREET["zones"], *STREET["lines"], *STREET["rules"]}
    zones = {event["data"].get("event") for event in events if event["rule"] == "all" and "data" in event}
    assert zones >= {"enter", "leave", "dwell>1s", "count>0"}


def test_every_incident_of_the_street_is_one_start_updates_and_one_end(events: list[dict[str, Any]]) -> None:
    phases = defaultdict(list)
    for event in events:
        phases[event["incident"]].append(event["phase"])
    for said in phases.values():
        assert said == ["moment"] or (said[0], said[-1], {*said[1:-1]} <= {"update"}) == ("start", "end", True)


def test_who_crossed_the_line_was_in_the_zones_on_both_sides_of_it(events: list[dict[str, Any]]) -> None:
    """They share an edge; the zones have no margin, so they know of it before the line does."""
    sides, crossed = defaultdict(list), []
    for event in events:
        if event["rule"] in ("far", "near") and event["phase"] == "start":
            sides[event["track"]].append(event["rule"])
        elif event["rule"] == "kerb":
            crossed.append(event["data"]["direction"])
            assert sides[event["track"]][-2:] == {"in": ["far", "near"], "out": ["near", "far"]}[crossed[-1]]
    assert "in" in crossed, "the cyclist comes nearer"


def test_somebody_is_there_after_somebody_was_seen_and_nobody_is_missing_then(events: list[dict[str, Any]]) -> None:
    of = {(event["rule"], event["phase"]): event for event in reversed(events)}
    start, end = of["somebody", "start"], of["somebody", "end"]
    assert end["reason"] == "gone"
    assert start["at_s"] >= min(event["first_seen_s"] for event in events if "track" in event)
    back = [e["at_s"] for e in events if (e["rule"], e["phase"]) == ("nobody", "end")]
    assert any(at_s <= start["at_s"] for at_s in back)


def test_who_was_asked_about_is_decided_when_seen_well(events: list[dict[str, Any]]) -> None:
    start, end = (event for event in events if event["rule"] == "odd")
    assert (start["phase"], end["phase"], end["reason"]) == ("start", "end", "over")
    assert start["data"]["score"] < 0.95 <= end["score"]
