"""One message of every kind, made as the agent makes them, and what a dialect says of them."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import numpy as np

from agent.flow import Mailbox, Request
from agent.frame import Frame, Timestamp
from agent.messages import (
    AboutPayload,
    AgentStatus,
    Blob,
    CameraAbout,
    CameraStatus,
    CountsPayload,
    EventPayload,
    Metrics,
    UseAbout,
)
from agent.results import message_for
from agent.rules import Finding
from agent.sinks import Message
from agent.sinks.dialects import Dialect, Said
from agent.uses import Use
from engines.results import Classification, Detections
from tests.support.watching import SIZE, Scene, Scripted, Told, grey

LABELS = ("person", "traffic light", "car")
AT = "2026-11-22T08:00:00.123456Z"
CAPTURED = Timestamp(1_795_334_400_123_456_000, 10**9, "rtcp", 1_795_334_400_158_112_000)


def detections(count: int = 2, *, tracked: bool = True, attributes: bool = False) -> Message:
    """What the agent says of a frame with so many objects."""
    left = np.arange(count, dtype=np.float32) * 20
    found = Detections(
        xyxy=np.stack([left, left + 10.25, left + 15.5, left + 50], axis=1).astype(np.float32).reshape(-1, 4),
        score=np.linspace(0.9, 0.3, count, dtype=np.float32),
        label=(np.arange(count) % len(LABELS)).astype(np.int32),
    )
    colours: list[dict[str, Any]] = [{"colour": [{"label": "red", "score": 0.8}], "make": []} for _ in range(count)]
    use, told = Use("people", LABELS, Mailbox()), colours if attributes else []
    message = message_for("gatehouse", use, _request("people"), found, told, lossless=False)
    if not tracked:
        return message
    # The first has no track yet.
    objects = [row.model_copy(update={"track": n or None}) for n, row in enumerate(message.payload.detections)]  # type: ignore[attr-defined]
    return replace(message, payload=message.payload.model_copy(update={"detections": objects}))


def classification() -> Message:
    """What the agent says of a frame that was classified."""
    found = Classification(score=np.array([0.7, 0.2], np.float32), label=np.array([2, 0], np.int32))
    use = Use("scene", LABELS, Mailbox(), retain=True)
    return message_for("gatehouse", use, _request("scene"), found, [], lossless=False)


def _request(use: str) -> Request:
    frame = Frame("dock", 4711, CAPTURED, grey(SIZE))
    return Request(("dock", use), frame, (None,), False, 10**9, lambda *_: None, model="person-ssdlite@int8")


def watched(*scripts: Scripted, frames: int = 1) -> Scene:
    """A camera with one object (track 1) in so many frames, and what its rules made of it."""
    scene = Scene(scripts, tracker=Told(), labels=("person", "car"))
    for n in range(frames):
        scene.frame((0, 0.5 + n / 100, 100.0 + 10 * n, 200.0))
    return scene


def numbered(events: list[EventPayload]) -> list[Message]:
    """Events as the outbox hands them out."""
    return [
        Message(f"{e.camera}/events", e.model_copy(update={"boot_id": "0123456789abcdef", "event_seq": n}), qos=1)
        for n, e in enumerate(events, 1)
    ]


def event(phase: str = "start", **fields: Any) -> Message:
    """An event with as little in it as there may be."""
    payload = EventPayload.model_validate(
        {
            "agent": "gatehouse", "boot_id": "0123456789abcdef", "event_seq": 1, "id": "01234567-dock-1",
            "kind": "zone", "phase": phase, "camera": "dock", "captured_at": AT, **fields,
        }
    )  # fmt: skip
    return Message(f"{payload.camera}/events" if payload.camera else "events", payload, qos=1)


def counts(camera: str = "dock", labels: dict[str, int] | None = None, **fields: Any) -> Message:
    """What is where."""
    payload = CountsPayload(agent="gatehouse", camera=camera, captured_at=AT, labels=labels or {}, **fields)
    return Message(f"{camera}/counts", payload, retain=True, qos=1)


def about(**cameras: CameraAbout) -> Message:
    """What the agent is set up for; without arguments one camera with everything."""
    payload = AboutPayload(agent="gatehouse", version="1.2.3", cameras=cameras or {"dock": camera()})
    return Message("about", payload, retain=True, qos=1)


def camera(**fields: Any) -> CameraAbout:
    """A camera with everything."""
    uses = {
        "people": UseAbout(task="detections", model="person-ssdlite@int8", labels=list(LABELS)),
        "scene": UseAbout(task="classification", model="efficientnet-lite0@int8", labels=["day", "night"]),
    }
    told: dict[str, Any] = {
        "uses": uses, "tracked": "people", "track_labels": ["person", "traffic light"], "zones": ["gate"],
        "lines": ["door"], "rules": {"anyone": "presence", "nobody": "absence", "light": "changed"}, "snapshots": True,
    }  # fmt: skip
    return CameraAbout(**{**told, **fields})


def status(state: str = "online") -> Message:
    """The agent's state, which is its will too."""
    payload = AgentStatus(agent="gatehouse", state=state, version="1", since=AT, cameras={}, engines={}, sinks={})  # type: ignore[arg-type]
    return Message("status", payload, retain=True, qos=1)


def camera_status(state: str = "streaming") -> Message:
    """A camera's state."""
    facts: dict[str, Any] = {"reason": None if state == "streaming" else "no route", "since": AT, "source": "rtsp://x"}
    payload = CameraStatus(agent="gatehouse", camera="dock", state=state, facts={}, **facts)  # type: ignore[arg-type]
    return Message("dock/status", payload, retain=True, qos=1)


def picture(incident: str) -> Message:
    """A snapshot."""
    return Message("dock/snapshot", Blob(data=b"\xff\xd8", facts={"id": incident, "captured_at": AT}))


def every_kind() -> list[Message]:
    """One message of every kind there is."""
    metrics = Metrics(agent="gatehouse", at=AT, uptime_s=1.0, rss_mb=1.0, cpu_s=1.0, cameras={}, sinks={})
    life = watched(Scripted("gate", {0: [Finding("start", 1, 0)], 1: [Finding("end", 1, None, "gone")]}), frames=2)
    kinds = ["zone", "line", "presence", "absence", "changed", "undecided", "gap", "something-new"]
    return [
        status(),
        camera_status(),
        about(),
        Message("metrics", metrics),
        detections(0),
        detections(3, attributes=True),
        detections(1, tracked=False),
        classification(),
        counts(labels={"person": 1}, zones={"gate": {"person": 1}}, lines={"door": {"in": 1}}, rules={"anyone": True}),
        *[Message("dock/counts", payload, retain=True, qos=1) for payload in life.counts],
        *numbered(life.events),
        *[event(phase, kind=kind) for kind in kinds for phase in ("start", "update", "end", "moment")],
        event(kind="gap", camera=None, phase="moment", data={"from": 1, "to": 9}),
        picture("01234567-dock-1"),
        status("offline"),
    ]


def say(dialect: Dialect, *messages: Message) -> list[Said]:
    """All that it says of them, in order."""
    return [said for message in messages for said in dialect.say(message, 2 * 10**9)]


def read(said: Said) -> Any:
    """Its payload as JSON."""
    return json.loads(said.payload)
