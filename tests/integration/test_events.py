"""From a recording to events: a real network, tracks, zones and lines, the outbox, and sinks."""

from __future__ import annotations

import itertools
import os
import signal
import threading
from pathlib import Path
from typing import Any

import pytest
import yaml

from agent.config import Settings
from agent.messages import AboutPayload, CountsPayload, EventPayload, Payload
from agent.service import Service
from agent.sinks.memory import MemorySink
from tests.support.agents import fake_model, fake_store, settings_of
from tests.support.blobs import MODEL, USE, add_blobs
from tests.support.broker import Mosquitto, Subscriber
from tests.support.patience import PATIENCE_S
from tests.support.process import Sightwire

FILM = {"type": "synthetic", "pace": "lossless", "rate": 20, "frames": 150}
"""A block goes from the left to the right, and again."""
STREAM = {"type": "synthetic", "rate": 60}
STATUS = "sightwire/test/status"
PLACES = {
    "track": {"use": "blobs", "confirm": "100ms"},
    "zones": {"gate": {"polygon": [[0.3, 0.3], [0.6, 0.3], [0.6, 1], [0.3, 1]], "enter_after": 0}},
    "lines": {"door": {"points": [[0.5, 1], [0.5, 0]], "after": 0}},
}


def document(source: dict[str, Any], *more: Any, delays: tuple[int, int] = (2, 0), **sections: Any) -> dict[str, Any]:
    """A configuration as a file has it. `delays`: of the fake engines beside the real one, ms."""
    models = {
        "blobs": MODEL,
        "colours": fake_model("classes", delay_ms=delays[0]),
        "things": fake_model("boxes", delay_ms=delays[1]) | {"threshold": 0.3},
    }
    camera = {"source": source, "models": [USE, *more], **PLACES}
    return {"agent": {"name": "test"}, "models": models, "cameras": {"dock": camera}, **sections}


def site(source: dict[str, Any], *more: Any, **sections: Any) -> Settings:
    return settings_of(**document(source, *more, **sections))


class Agent:
    def __init__(self, settings: Settings, folder: Path) -> None:
        self.sink = MemorySink()
        store = fake_store(folder)
        add_blobs(folder)
        self.service = Service(settings, store, [self.sink])

    def run(self) -> None:
        self.service.run(threading.Event())

    def said(self, topic: str) -> list[dict[str, Any]]:
        return [kept.data for kept in self.sink.messages if kept.topic == topic]

    @property
    def events(self) -> list[dict[str, Any]]:
        return self.said("dock/events")


def balanced(events: dict[str, dict[str, int]]) -> bool:
    """Law 7, for each sink, and nothing is left."""
    parts = ("acknowledged", "expired", "dropped", "waiting")
    return all(n["waiting"] == 0 and n["made"] == sum(n[part] for part in parts) for n in events.values())


def test_a_recording_gives_the_events_of_its_zones_and_lines_with_tracks_in_its_detections(tmp_path: Path) -> None:
    agent = Agent(site(FILM), tmp_path)
    agent.run()
    assert [(e["event_seq"], e["id"][-1], e["rule"], e["phase"], e.get("reason")) for e in agent.events] == [
        (1, "1", "gate", "start", None),
        (2, "2", "door", "moment", None),
        (3, "1", "gate", "end", "left"),
        (4, "3", "gate", "start", None),
        (5, "4", "door", "moment", None),
        (6, "3", "gate", "end", "left"),
    ]
    start, _, end, again, *_ = agent.events
    assert (start["captured_at"], start["seq"], start["label"]) == ("1970-01-01T00:00:01.000000Z", 20, "block")
    assert start["zones"] == ["gate"]
    assert start["track"] == end["track"] != again["track"]
    assert len(end["path"]) > 10
    assert end["path"][-1][1] == pytest.approx(sum(end["box"][::2]) / 2, abs=0.2)
    tracks = [d.get("track", "absent") for m in agent.said("dock/blobs/detections") for d in m["detections"]]
    assert set(tracks) == {None, start["track"], again["track"]}
    assert agent.said("dock/counts")[-1]["labels"] == {"block": 0}
    assert agent.said("dock/counts")[-1]["lines"] == {"door": {"in": 2, "out": 0}}
    assert balanced(agent.service.metrics().events)
    kinds: dict[str, type[Payload]] = {"events": EventPayload, "counts": CountsPayload, "about": AboutPayload}
    for kept in agent.sink.messages:
        if kind := kinds.get(kept.topic.rpartition("/")[2]):
            assert not kind.model_validate_json(kept.payload, strict=True).model_extra


def test_what_is_open_when_a_recording_ends_is_over_and_when_the_agent_stops_says_so(tmp_path: Path) -> None:
    """The block is in the zone from frame 20 on."""
    agent = Agent(site({**FILM, "frames": 30}), tmp_path / "ended")
    agent.run()
    assert [(e["phase"], e.get("reason")) for e in agent.events] == [("start", None), ("end", "recording_ended")]
    agent = Agent(site(STREAM), tmp_path / "stopped")
    agent.service.start()
    try:
        opened = agent.sink.wait_for(lambda kept: any(k.topic == "dock/events" for k in kept), PATIENCE_S)
    finally:
        agent.service.stop()
    assert opened
    phases: dict[str, list[str]] = {}
    for event in agent.events:
        phases.setdefault(event["id"], []).append(event["phase"])
    assert all(said == ["moment"] or (said[0], said[-1], len(said)) == ("start", "end", 2) for said in phases.values())
    assert balanced(agent.service.metrics().events)


def test_what_is_open_when_the_camera_is_lost_ends_and_is_another_incident_when_it_is_back(tmp_path: Path) -> None:
    agent = Agent(site({**STREAM, "fail_after": 40}), tmp_path)
    agent.service.start()
    try:
        ended = agent.sink.wait_for(
            lambda kept: sum(k.topic == "dock/events" and k.data.get("reason") == "camera_lost" for k in kept) >= 2, 20
        )
    finally:
        agent.service.stop()
    assert ended
    ids = [e["id"] for e in agent.events if e.get("reason") == "camera_lost"]
    assert len(set(ids)) == len(ids)
    tracks = [e["track"] for e in agent.events if e["phase"] == "start"]
    assert len(set(tracks)) == len(tracks), "ids of tracks are not used again"
    lost = next(c for c in agent.said("dock/counts")[::-1] if c["labels"])
    assert lost["labels"] == {"block": 0}


def test_events_of_a_recording_are_the_same_whichever_engine_is_faster(tmp_path: Path) -> None:
    told: list[dict[str, Any]] = []
    for n in range(2):
        uses = ({"use": "colours", "every": "100ms"}, {"use": "things", "every": "150ms"})
        agent = Agent(site({**FILM, "frames": 70}, *uses, delays=((0, 4), (4, 0))[n]), tmp_path / str(n))
        agent.run()
        topics = sorted({kept.topic for kept in agent.sink.messages if kept.topic.count("/") == 2} | {"dock/events"})
        told.append({topic: [alike(data) for data in agent.said(topic)] for topic in topics})
    assert [len(said) for said in told[0].values()] == [70, 35, 3, 24]
    assert all(one == told[0] for one in told)


def alike(data: dict[str, Any]) -> dict[str, Any]:
    """Without what differs from run to run by its nature."""
    drop = ("boot_id", "event_seq", "timing_ms")
    kept = {key: value for key, value in data.items() if key not in drop}
    return kept | ({"id": kept["id"].partition("-")[2]} if "id" in kept else {})


def test_results_of_one_use_of_a_live_camera_never_overtake_each_other(tmp_path: Path) -> None:
    agent = Agent(site({**STREAM, "rate": 300}, "colours"), tmp_path)
    agent.service.start()
    try:
        enough = agent.sink.wait_for(lambda kept: sum("classification" in k.topic for k in kept) > 100, PATIENCE_S)
    finally:
        agent.service.stop()
    assert enough
    for topic in ("dock/blobs/detections", "dock/colours/classification"):
        seqs = [m["seq"] for m in agent.said(topic)]
        assert all(a < b for a, b in itertools.pairwise(seqs))
    assert balanced(agent.service.metrics().events)


def test_what_a_killed_agent_left_open_ends_when_it_starts_again(tmp_path: Path) -> None:
    models = fake_store(tmp_path / "models").root
    add_blobs(models)
    config = tmp_path / "site.yaml"
    sections = {"events": {"path": str(tmp_path / "events.db")}, "sinks": [{"type": "jsonl", "path": "-"}]}

    def run(source: dict[str, Any]) -> Sightwire:
        config.write_text(yaml.safe_dump(document(source, **sections)))
        return Sightwire("run", config, models=models)

    def events(of: Sightwire) -> list[dict[str, Any]]:
        return [m for m in of.messages if m["topic"].endswith("/events")]

    with run({**STREAM, "rate": 20}) as agent:  # inside for a second: this process may be slow to kill it
        agent.wait_for(lambda it: any(e["phase"] == "start" for e in events(it)))
        os.kill(agent.pid, signal.SIGKILL)
        agent.wait()
        phases = {e["id"]: e["phase"] for e in events(agent) if e["phase"] != "moment"}
    left = [incident for incident, phase in phases.items() if phase == "start"]
    with run({**FILM, "frames": 1}) as agent:
        assert agent.wait() == 0
        (end,) = [e for e in events(agent) if e.get("reason") == "agent_vanished"]
    assert (end["id"], end["phase"]) == (left[-1], "end")


def test_a_real_broker_gets_the_events_once_each_and_keeps_counts_and_about_for_who_comes_late(tmp_path: Path) -> None:
    with Mosquitto(tmp_path) as broker, Subscriber(broker.observer_url) as listener:
        agent = Agent(site(FILM, mqtt={"url": broker.url}), tmp_path)
        agent.run()
        assert balanced(agent.service.metrics().events)
        listener.wait_for(lambda heard: any(m.topic == STATUS and m.data["state"] == "offline" for m in heard))
        events = [m for m in listener.messages if m.topic == "sightwire/test/dock/events"]
        assert [m.data["event_seq"] for m in events] == [1, 2, 3, 4, 5, 6]
        with Subscriber(broker.observer_url) as late:
            about = late.wait_for_topic("sightwire/test/about").data
            counts = late.wait_for_topic("sightwire/test/dock/counts").data
    assert about["cameras"]["dock"]["zones"] == ["gate"]
    assert counts["lines"] == {"door": {"in": 2, "out": 0}}
