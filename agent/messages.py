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

    model_config = ConfigDict(populate_by_name=True, extra="allow")


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
    attributes: dict[str, Any]
    """Results of cascades on this object, by use."""


class DetectionsPayload(ResultPayload):
    """Topic `<camera>/<use>/detections`: best objects first."""

    schema_: Literal["sightwire.detections/1"] = Field(default="sightwire.detections/1", alias="schema")
    detections: list[Detection]


class CameraStatus(Payload):
    """Topic `<camera>/status`, retained; valid while the agent is online."""

    schema_: Literal["sightwire.camera/1"] = Field(default="sightwire.camera/1", alias="schema")
    agent: str
    camera: str
    state: Literal["streaming", "connecting", "lost", "ended"]
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
    sinks: dict[str, dict[str, Any]]
    """Sink -> how it is connected, and why not."""
    collect: dict[str, Any] = {}
    """Where pictures for calibration are kept: folder, state and reason; empty where none are."""


class Metrics(Payload):
    """Topic `metrics`, each 10 s: counters since the agent started."""

    schema_: Literal["sightwire.metrics/1"] = Field(default="sightwire.metrics/1", alias="schema")
    agent: str
    at: str
    uptime_s: float
    rss_mb: float
    cpu_s: float
    cameras: dict[str, dict[str, Any]]
    """Camera -> frames, unreadable, reconnects, and per use the accounting of law 7."""
    sinks: dict[str, dict[str, Any]]
    collect: dict[str, dict[str, int]] = {}
    """Camera -> pictures for calibration that are kept, of how many candidates."""
