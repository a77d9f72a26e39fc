"""Frigate's topics, for dashboards and flows that know them: `events`, counts per camera and zone, `available`.

Format: docs.frigate.video/integrations/mqtt; what the page leaves open is as `TrackedObject.to_dict` of its sources has
it. Where sightwire knows no such thing the value is neutral (docs/dialects.md lists them).
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Hashable
from dataclasses import dataclass, field, replace
from typing import Literal

from typing_extensions import TypedDict

from agent.messages import AboutPayload, AgentStatus, Blob, CountsPayload, EventPayload
from agent.sinks import Message
from agent.sinks.dialects import Dialect, DialectConfig, Said
from agent.sinks.dialects._wire import TEXT, Prefix, json_bytes, level, seconds

OBJECTS = 1024
"""So many open objects are remembered."""
EVENTS = 256
"""So many events are remembered as they were said: more than are ever on their way to a broker."""

Kind = Literal["zone", "presence"]
Box = list[int]
"""left, top, right, bottom in source pixels."""


class Snapshot(TypedDict):
    """The frame that showed the object best."""

    frame_time: float
    box: Box
    area: int
    region: Box
    score: float
    attributes: list[str]


class State(TypedDict):
    """One object at one time. Times are seconds since 1970."""

    id: str
    camera: str
    frame_time: float
    snapshot: Snapshot | None
    label: str
    sub_label: None
    top_score: float
    false_positive: bool
    start_time: float
    end_time: float | None
    score: float
    box: Box
    area: int
    ratio: float
    region: Box
    current_zones: list[str]
    entered_zones: list[str]
    thumbnail: None
    has_snapshot: bool
    has_clip: bool
    active: bool
    stationary: bool
    motionless_count: int
    position_changes: int
    attributes: dict[str, float]
    current_attributes: list[str]
    pending_loitering: bool
    max_severity: None
    current_estimated_speed: float
    average_estimated_speed: float
    velocity_angle: float
    recognized_license_plate: None
    path_data: list[tuple[tuple[float, float], float]]
    """((x, y) as shares of the picture, time): the foot of the box."""


class Change(TypedDict):
    """Topic `events`."""

    type: Literal["new", "update", "end"]
    before: State
    after: State


class Config(DialectConfig):
    """`dialect: frigate`."""

    type: Literal["frigate"] = "frigate"
    prefix: Prefix = "frigate"
    """Frigate's `topic_prefix`; each agent needs one of its own."""
    kinds: tuple[Kind, ...] = ("zone", "presence")
    """Which incidents are objects: visits to zones (all of a track are one), and presence of a class."""

    def open(self, prefix: str, agent: str) -> Dialect:  # noqa: ARG002
        """See DialectConfig."""
        return Frigate(self.prefix, self.kinds)


@dataclass(eq=False)
class _Object:
    """One that has begun and not ended."""

    id: str
    inside: dict[str, str] = field(default_factory=dict)
    """Open incident -> its zone, empty for what is in none."""
    after: State | None = None
    """As it was last told."""


class Frigate(Dialect):
    """Remembers open objects (for `before`, and which visits are one object's), what was counted, and what was said."""

    def __init__(self, prefix: str, kinds: tuple[Kind, ...]) -> None:
        self._prefix, self._kinds = prefix, kinds
        self._objects: OrderedDict[Hashable, _Object] = OrderedDict()
        self._told: OrderedDict[tuple[str, int], list[Said]] = OrderedDict()
        """An event that is delivered again is said again to the byte, whatever happened since."""
        self._expected: dict[str, list[str]] = {}
        """Camera -> labels that are to be seen as 0 too."""
        self._counts: dict[str, CountsPayload] = {}
        self._shown: dict[str, int] = {}
        """Topic -> the count it has."""

    def say(self, message: Message, now_ns: int) -> list[Said]:  # noqa: ARG002
        """See Dialect."""
        payload = message.payload
        if isinstance(payload, EventPayload):
            return self._event(payload, message.qos)
        if isinstance(payload, CountsPayload):
            self._counts[payload.camera] = payload
            return self._changed_counts(message.qos)
        if isinstance(payload, AgentStatus):
            return [Said(f"{self._prefix}/available", payload.state.encode(), message.retain, message.qos, TEXT)]
        if isinstance(payload, AboutPayload):
            return self._about(payload, message.qos)
        if isinstance(payload, Blob):
            return self._snapshot(message, payload)
        return []

    def _snapshot(self, message: Message, picture: Blob) -> list[Said]:
        """A picture of an object that is open: only of those the label is known."""
        states = (this.after for this in self._objects.values() if picture.facts.get("id") in this.inside)
        return [
            Said(
                f"{self._prefix}/{state['camera']}/{level(state['label'])}/snapshot",
                picture.data,
                message.retain,
                message.qos,
                picture.content_type,
            )
            for state in states
            if state is not None
        ]

    # -- counts

    def _about(self, about: AboutPayload, qos: int) -> list[Said]:
        for name, camera in about.cameras.items():
            tracked = camera.uses.get(camera.tracked or "")
            self._expected[name] = camera.track_labels or (tracked.labels if tracked else [])
        for gone in self._counts.keys() - about.cameras.keys():
            del self._counts[gone]
        return self._changed_counts(qos)

    def _changed_counts(self, qos: int) -> list[Said]:
        """What is counted otherwise than before; what is not counted any more is 0."""
        counts = dict.fromkeys(self._shown, 0)
        for name, camera in self._counts.items():
            # Also the labels that nothing was seen of: an earlier life of the agent may have left them with a number.
            labels = {**dict.fromkeys(self._expected.get(name, []), 0), **camera.labels}
            if labels:
                self._add(counts, name, labels)
            for zone, inside in camera.zones.items():
                if zone not in self._counts:  # a camera of that name has the topic
                    self._add(counts, zone, {**dict.fromkeys(labels, 0), **inside})
        changed = {topic: n for topic, n in counts.items() if self._shown.get(topic) != n}
        self._shown.update(changed)
        return [Said(topic, str(n).encode(), retain=True, qos=qos, content_type=TEXT) for topic, n in changed.items()]

    def _add(self, counts: dict[str, int], place: str, labels: dict[str, int]) -> None:
        """Zones of one name are one place, as Frigate has it."""
        for label, n in [*labels.items(), ("all", sum(labels.values()))]:
            topic = f"{self._prefix}/{place}/{level(label)}"
            counts[topic] = counts.get(topic, 0) + n

    # -- events

    def _event(self, event: EventPayload, qos: int) -> list[Said]:
        if event.kind not in self._kinds or event.camera is None or (event.kind == "zone" and event.track is None):
            return []
        key = event.boot_id, event.event_seq
        if key not in self._told:
            topic = f"{self._prefix}/events"
            self._told[key] = [Said(topic, json_bytes(change), qos=qos) for change in self._changes(event)]
            while len(self._told) > EVENTS:
                self._told.popitem(last=False)
        return self._told[key]

    def _changes(self, event: EventPayload) -> list[Change]:
        # An incident's id begins with the life of the agent and the camera, in which tracks are unique.
        key: Hashable = (event.id.rpartition("-")[0], event.track) if event.kind == "zone" else event.id
        known = key in self._objects
        this = self._objects.setdefault(key, _Object(event.id))
        self._objects.move_to_end(key)
        while len(self._objects) > OBJECTS:
            self._objects.popitem(last=False)
        zone = (event.rule or "") if event.kind == "zone" else ""
        if event.phase in ("start", "update"):
            this.inside[event.id] = zone
        elif event.phase == "end":
            this.inside.pop(event.id, None)
        begins = not known and event.phase in ("start", "moment")
        ends = not this.inside
        changes: list[Change] = []
        if begins:
            first = replace(this, inside={event.id: zone})
            this.after = _state(event, first, ended=False)
            changes.append({"type": "new", "before": this.after, "after": this.after})
        if ends or not begins:  # both for a moment: who sees an object begin must see it end
            after = _state(event, this, ended=ends)
            changes.append({"type": "end" if ends else "update", "before": this.after or after, "after": after})
            this.after = after
        if ends:
            del self._objects[key]
        return changes


def _state(event: EventPayload, this: _Object, *, ended: bool) -> State:
    before = this.after
    time_s = seconds(event.captured_at)
    size = (event.frame.width, event.frame.height) if event.frame else (1, 1)
    box = [round(edge) for edge in event.box] if event.box else before["box"] if before else [0, 0, 0, 0]
    width, height = max(0, box[2] - box[0]), max(0, box[3] - box[1])
    region = [0, 0, *size] if event.frame else before["region"] if before else [0, 0, 0, 0]
    score = event.score if event.score is not None else before["score"] if before else 0.0
    best = before["snapshot"] if before else None
    if event.box and (best is None or score > best["score"]):
        best = {
            "frame_time": time_s,
            "box": box,
            "area": width * height,
            "region": region,
            "score": score,
            "attributes": [],
        }
    inside = list(dict.fromkeys(zone for zone in this.inside.values() if zone))
    been = [*(before["entered_zones"] if before else []), *event.zones, *inside]
    start_s = before["start_time"] if before else seconds(event.first_seen) if event.first_seen else time_s
    path_from_s = seconds(event.first_seen) if event.first_seen else start_s
    return {
        "id": this.id,
        "camera": event.camera or "",
        "frame_time": time_s,
        "snapshot": best,
        "label": event.label or (before["label"] if before else event.rule or ""),
        "sub_label": None,
        "top_score": max(score, before["top_score"]) if before else score,
        "false_positive": False,
        "start_time": start_s,
        "end_time": time_s if ended else None,
        "score": score,
        "box": box,
        "area": width * height,
        "ratio": round(width / max(1, height), 6),
        "region": region,
        "current_zones": inside,
        "entered_zones": list(dict.fromkeys(been)),
        "thumbnail": None,
        "has_snapshot": event.snapshot is not None,
        "has_clip": event.clip is not None,
        "active": True,
        "stationary": False,
        "motionless_count": 0,
        "position_changes": 0,
        "attributes": {},
        "current_attributes": [],
        "pending_loitering": False,
        "max_severity": None,
        "current_estimated_speed": 0.0,
        "average_estimated_speed": 0.0,
        "velocity_angle": 0.0,
        "recognized_license_plate": None,
        "path_data": [
            ((round(x / size[0], 4), round(y / size[1], 4)), round(path_from_s + t, 6)) for t, x, y in event.path
        ],
    }
