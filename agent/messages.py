"""What goes over the wire: every payload is defined here, once. Within a major version fields are only added."""

from __future__ import annotations

from datetime import datetime, timezone
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field


def rfc3339(wall_ns: int) -> str:
    """Unix time in ns as RFC 3339, UTC, microseconds: `2026-11-22T08:00:00.123456Z`."""
    seconds, nanoseconds = divmod(wall_ns, 1_000_000_000)
    moment = datetime.fromtimestamp(seconds, timezone.utc)
    return f"{moment:%Y-%m-%dT%H:%M:%S}.{nanoseconds // 1000:06d}Z"


class Payload(BaseModel):
    """Base of all payloads. Built with `model_construct` on the hot path: our own values need no validation."""

    # Strings that are read are kept for the next time, thousands of them: keys come again, times and ids do not.
    model_config = ConfigDict(populate_by_name=True, extra="allow", cache_strings="keys")


class Blob(BaseModel):
    """What is no JSON, as it goes over the wire: a picture on `<camera>/snapshot`."""

    model_config = ConfigDict(frozen=True)

    data: bytes = Field(repr=False)
    content_type: str = "image/jpeg"
    facts: dict[str, str] = {}
    """What there is to say of it (`captured_at`, `id`, ...): user properties, where a protocol has them."""


class Size(Payload):
    """Of the source picture, pixels."""

    width: int
    height: int


class Timing(Payload):
    """Where the time of one result went, ms."""

    wait: float
    """From the picture being in hand to the engine taking it."""
    prepare: float
    infer: float
    read: float


class ResultPayload(Payload):
    """What every per-frame result carries."""

    schema_: str = Field(alias="schema")
    agent: str
    camera: str
    use: str
    model: str
    """Model name and precision: `person-ssdlite@int8`."""
    seq: int
    captured_at: str
    received_at: str | None = None
    """Absent for recordings."""
    clock: Literal["rtcp", "device", "receive", "file"]
    age_ms: float | None
    """Age of the pixels when the message was handed over, on our monotonic clock; null for recordings."""
    frame: Size
    timing_ms: Timing


class ClassScore(Payload):
    """One class of a classification."""

    label: str
    score: float


class ClassificationPayload(ResultPayload):
    """Topic `<camera>/<use>/classification`: best classes first."""

    schema_: Literal["sightwire.classification/1"] = Field(default="sightwire.classification/1", alias="schema")
    classes: list[ClassScore]


class Detection(Payload):
    """One object."""

    label: str
    score: float
    box: list[float]
    """left, top, right, bottom in source pixels."""
    track: int | None = None
    """Of one object as long as it is followed; absent where nothing is tracked, null for what has no track yet."""
    attributes: dict[str, Any]
    """Results of cascades on this object, by use."""


class DetectionsPayload(ResultPayload):
    """Topic `<camera>/<use>/detections`: best objects first."""

    schema_: Literal["sightwire.detections/1"] = Field(default="sightwire.detections/1", alias="schema")
    predicted_ms: float | None = None
    """`predict: true`: boxes of tracks are where the objects are expected so long after `captured_at`; else absent."""
    detections: list[Detection]


Phase = Literal["start", "update", "end", "moment"]


class EventPayload(Payload):
    """Topic `<camera>/events`, through the durable outbox: one incident begins, changes or ends, or a moment passed.

    `event_seq` counts an agent's events without gaps; what was dropped is announced by an event of kind `gap`. The
    same `event_seq` twice is the same event, delivered again.
    """

    schema_: Literal["sightwire.event/1"] = Field(default="sightwire.event/1", alias="schema")
    agent: str
    boot_id: str
    """Another one with each start of the agent."""
    event_seq: int
    id: str
    """Of the incident: the same in its start, updates and end."""
    kind: str
    """`zone`, `line`, `presence`, `absence`, `changed`, `undecided`, `blind`, `gap`, ..."""
    phase: Phase
    rule: str | None = None
    """Name of the zone, line or rule in the configuration; null for what needs none: `blind`, `gap`."""
    camera: str | None = None
    """Null for what is about the agent."""
    use: str | None = None
    model: str | None = None
    seq: int | None = None
    """Of the frame."""
    captured_at: str
    """Of the frame that showed it; for what is about the agent, when it happened."""
    clock: Literal["rtcp", "device", "receive", "file"] = "receive"
    started_at: str | None = None
    """When the incident began: `captured_at` of its `start`."""
    first_seen: str | None = None
    """The object, or what the incident is about: perhaps before it began."""
    last_seen: str | None = None
    frame: Size | None = None
    label: str | None = None
    score: float | None = None
    track: int | None = None
    box: list[float] | None = None
    """left, top, right, bottom in source pixels."""
    zones: list[str] = []
    """Where the object is or has been, in the order it came there."""
    path: list[tuple[float, float, float]] = []
    """Seconds since first_seen, x and y of the box's foot in source pixels; thinned out."""
    snapshot: str | None = None
    """Name of the incident's best picture, where snapshots are kept."""
    clip: str | None = None
    reason: str | None = None
    """Of an end: `left`, `gone`, `over`, `accepted`; by no rule: `recording_ended`, `camera_lost`, `camera_disabled`,
    `agent_stopped`, `agent_vanished`."""
    data: dict[str, Any] = {}
    """What this kind of event has to say."""


class CountsPayload(Payload):
    """Topic `<camera>/counts`, retained, said anew when it changes: how many of what are there."""

    schema_: Literal["sightwire.counts/1"] = Field(default="sightwire.counts/1", alias="schema")
    agent: str
    camera: str
    captured_at: str
    labels: dict[str, int]
    """Label of the tracked use -> objects in the picture."""
    zones: dict[str, dict[str, int]] = {}
    """Zone -> label -> objects in it."""
    lines: dict[str, dict[str, int]] = {}
    """Line -> direction (`in`, `out`) -> crossings since the agent started."""
    rules: dict[str, bool] = {}
    """Rule -> whether its incident is open."""


class UseAbout(Payload):
    """One model on one camera."""

    task: str
    """Last level of its topic: `detections`, `classification`."""
    model: str
    labels: list[str]
    on: str | None = None
    """Cascade: the use whose objects it looks at."""


class CameraAbout(Payload):
    """What one camera is used for."""

    uses: dict[str, UseAbout]
    tracked: str | None = None
    """The use whose objects are followed."""
    track_labels: list[str] = []
    zones: list[str] = []
    lines: list[str] = []
    rules: dict[str, str] = {}
    """Rule -> its kind."""
    snapshots: bool = False
    """Whether `<camera>/snapshot` is published."""


class AboutPayload(Payload):
    """Topic `about`, retained: what this agent is set up for, for those who must know labels and names in advance."""

    schema_: Literal["sightwire.about/1"] = Field(default="sightwire.about/1", alias="schema")
    agent: str
    version: str
    cameras: dict[str, CameraAbout]


class CameraStatus(Payload):
    """Topic `<camera>/status`, retained; valid while the agent is online."""

    schema_: Literal["sightwire.camera/1"] = Field(default="sightwire.camera/1", alias="schema")
    agent: str
    camera: str
    state: Literal["streaming", "connecting", "lost", "ended", "disabled", "blind"]
    """`blind`: pictures come, but they do not show what they should; for `frozen`, `black`, `white`, `defocused`,
    `covered` or `moved`, which is the reason."""
    reason: str | None
    since: str
    source: str
    facts: dict[str, str]


class AgentStatus(Payload):
    """Topic `status`, retained; the broker says `offline` for us when we vanish."""

    schema_: Literal["sightwire.status/1"] = Field(default="sightwire.status/1", alias="schema")
    agent: str
    state: Literal["online", "offline"]
    version: str
    since: str
    cameras: dict[str, str]
    """Camera -> state."""
    engines: dict[str, dict[str, Any]]
    """Model entry -> backend, device, threads, precision."""
    load: dict[str, dict[str, Any]] = {}
    """Model entry -> `overloaded` since when; and as it was when that was last said: runs of the network a second that
    it `can` do and that are `asked` for, `busy` share of its time, share of the live pictures that was `met`, and of
    `cameras` what each `asks` for and `gets`, pictures/s."""
    sinks: dict[str, dict[str, Any]]
    """Sink -> how it is connected, and why not."""
    collect: dict[str, Any] = {}
    """Where pictures for calibration are kept: folder, state and reason; empty where none are."""
    snapshots: dict[str, dict[str, Any]] = {}
    """Camera -> where pictures of incidents are kept: folder, state and reason, and whether they are published."""
    clips: dict[str, dict[str, Any]] = {}
    """Camera -> where clips of incidents are kept: folder, state and reason."""
    events: dict[str, Any] = {}
    """Where events wait until they are acknowledged: path, state, reason, and what sinks refused."""
    commands: dict[str, Any] = {}
    """`allowed`: what may be asked over MQTT; with `reason` where nothing is."""
    reload: dict[str, Any] = {}
    """What the last reload of the configuration came to: `state` (`done`, `refused`, `failed`), `at` and `reason`; when
    done what was `restarted` and `removed`, or because of which keys `everything` was begun anew."""


class Metrics(Payload):
    """Topic `metrics`, each 10 s: counters since the agent started."""

    schema_: Literal["sightwire.metrics/1"] = Field(default="sightwire.metrics/1", alias="schema")
    agent: str
    at: str
    uptime_s: float
    rss_mb: float
    cpu_s: float
    cameras: dict[str, dict[str, Any]]
    """Camera -> frames, those that were unreadable and those that were left_out because they came faster than their
    source hands them on, reconnects, readers that were abandoned since the start and those of them that hang now, and
    per use the accounting of law 7."""
    engines: dict[str, dict[str, int]] = {}
    """Model entry -> `restarts` of its engine, and how many threads are `hung` in one that was given up."""
    sinks: dict[str, dict[str, Any]]
    load: dict[str, dict[str, Any]] = {}
    """Model entry -> what status has of it, of the last ten seconds."""
    collect: dict[str, dict[str, int]] = {}
    """Camera -> pictures for calibration that are kept, of how many candidates."""
    snapshots: dict[str, dict[str, int]] = {}
    """Camera -> taken == made + replaced + dropped + failed + waiting; what is kept."""
    clips: dict[str, dict[str, int]] = {}
    """Camera -> begun == made + failed + waiting; what is kept."""
    events: dict[str, Any] = {}
    """Sink -> the account of its events (law 7): made == acknowledged + expired + dropped + waiting."""
    outbox: dict[str, Any] = {}
    """What waits in it: how many events, bytes, since when, incidents that are open; and for each sink's `couriers` how
    many are `under_way`, put `aside` to be tried again, and how often one had to be handed over `again`."""
    commands: dict[str, int] = {}
    """What was asked over MQTT, and what became of it; empty where nothing may be asked."""
