"""A recording through the configuration of a camera, offline: the whole service, but nothing goes anywhere.

Of the configuration only the camera and its models are used: its source is replaced by the recording, read losslessly,
and all sinks by one that keeps events. So the events are those that the camera would have given, as fast as the
models are.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter, ValidationError

from agent.config import AnySource, CalibrationSection, Settings
from agent.errors import ConfigError, SourceError
from agent.messages import CameraStatus, EventPayload, ResultPayload
from agent.outbox.outbox import Outbox
from agent.outbox.settings import EventsSection
from agent.service import Service
from agent.sinks import Answer, Message, Sink
from agent.sources import SourceConfig
from agent.sources.file import Config as FileConfig
from engines.store import ModelStore

Progress = Callable[[int, int | None], None]
"""Called with frames that were read, and how many there are, if that is known."""
EPOCH = datetime(1970, 1, 1, tzinfo=timezone.utc)
LOOK_S = 0.05
NO_LIMIT = EventsSection(keep=10**9, max_mb=1e6, expire={"default": 1e9})
COMPARABLE = ("label", "score", "track", "box", "zones", "seq", "use", "model", "data")
"""Fields of an event that depend on nothing but the recording and the configuration; all but times and the path."""


class Replay:
    """One recording, one camera. `run` may be called once."""

    def __init__(self, settings: Settings, camera: str | None, recording: str, store: ModelStore | None = None) -> None:
        """Raises ConfigError for a camera that is not in the configuration, SourceError for what is no recording."""
        self.camera = _chosen(settings, camera)
        self._source = _source(recording)
        self._frames = self._source.frames() if isinstance(self._source, FileConfig) else None
        self._tape = _Tape()
        self._service = Service(
            _offline(settings, self.camera, self._source),
            store,
            [self._tape],
            outbox=lambda sinks: Outbox.in_memory(settings.agent.name, sinks, NO_LIMIT),
            serve=False,
        )
        self.frames = self.unreadable = 0

    def run(self, stop: threading.Event, progress: Progress = lambda *_: None) -> list[dict[str, Any]]:
        """The recording's events in their order, times in seconds since its first frame; fewer if `stop` is set.

        Raises ConfigError for models that cannot be used, SourceError where the recording cannot be read to its end or
        a model failed at a frame: what is left would be compared in vain.
        """
        service = self._service
        try:
            service.start()
            self._wait(stop, progress)
        finally:
            service.stop()
        counts = service.cameras[self.camera].counts()
        self.frames, self.unreadable = counts["frames"], counts["unreadable"]
        if self._tape.lost is not None:
            raise SourceError(self._tape.lost)
        if stop.is_set():
            return []
        for use, account in counts["uses"].items():
            if account["failed"]:
                raise SourceError(f"{use}: failed at {account['failed']} of {account['offered']} pictures; see the log")
        account = service.metrics().events[self._tape.name]
        if account["made"] != account["acknowledged"]:
            raise SourceError(f"of {account['made']} events only {account['acknowledged']} were kept")
        return self._tape.comparable()

    def _wait(self, stop: threading.Event, progress: Progress) -> None:
        """Until everything that was read has been looked at."""
        camera = self._service.cameras[self.camera]
        while self._tape.lost is None and not stop.is_set():
            progress(camera.frames, self._frames)
            if self._service.captures.alive:
                stop.wait(LOOK_S)
            elif camera.wait_idle(LOOK_S):
                return


class _Tape(Sink):
    """Keeps events, and looks at the rest only for when the recording began and whether it broke off."""

    name = "replay"

    def __init__(self) -> None:
        self.lost: str | None = None
        self._events: list[EventPayload] = []
        self._began: str | None = None

    def ready(self, timeout_s: float) -> bool:  # noqa: ARG002 - always is
        """Yes."""
        return True

    def send(self, message: Message) -> None:
        """Results are not encoded: nobody reads them."""
        payload = message.payload
        if isinstance(payload, ResultPayload):
            self._began = min(self._began or payload.captured_at, payload.captured_at)
        elif isinstance(payload, CameraStatus) and payload.state == "lost":
            self.lost = payload.reason or "it cannot be read"

    def deliver(self, event: Message, answered: Callable[[Answer, str | None], None]) -> None:
        """Keep it."""
        if isinstance(event.payload, EventPayload):
            self._events.append(event.payload)
        answered("acknowledged", None)

    def close(self, deadline_s: float) -> None:
        """Keep what is kept."""

    def comparable(self) -> list[dict[str, Any]]:
        """The events without what differs from run to run by its nature."""
        return [_comparable(event, self._began or event.captured_at) for event in self._events]


def _chosen(settings: Settings, camera: str | None) -> str:
    names = ", ".join(settings.cameras)
    if camera is None and len(settings.cameras) > 1:
        raise ConfigError(f"which camera is it? --camera {' or '.join(settings.cameras)}")
    chosen = camera or next(iter(settings.cameras))
    if chosen not in settings.cameras:
        raise ConfigError(f"no camera {chosen!r} in the configuration; it has {names}")
    if not any(settings.cameras[chosen].all_rules()):
        raise ConfigError(settings.told([(("cameras", chosen), "no zones, lines or rules: it has no events")]))
    return chosen


def _source(recording: str) -> SourceConfig:
    """Raises SourceError."""
    if "://" not in recording and "%" not in recording and not Path(recording).exists():
        raise SourceError(f"{recording}: no such file")
    try:
        source: SourceConfig = TypeAdapter(AnySource).validate_python(recording)
    except ValidationError as error:
        reason = error.errors(include_url=False)[0]["msg"].removeprefix("Value error, ")
        raise SourceError(f"{recording}: {reason}") from None
    if not source.lossless:
        raise SourceError(f"{recording}: not a recording: a video file or a folder of pictures is replayed")
    return source


def _offline(settings: Settings, camera: str, source: SourceConfig) -> Settings:
    """What is left of the configuration: one camera, its models, and nothing that leaves the process."""
    section = settings.cameras[camera].model_copy(update={"source": source, "snapshots": None, "clips": None})
    used = {use.use for use in section.models}
    return settings.model_copy(
        update={
            "mqtt": None,
            "sinks": [],
            "models": {name: model for name, model in settings.models.items() if name in used},
            "cameras": {camera: section},
            "calibration": CalibrationSection(),
        }
    )


def _comparable(event: EventPayload, began: str) -> dict[str, Any]:
    said: dict[str, Any] = {
        "at_s": _seconds(event.captured_at, began),
        "rule": event.rule,
        "kind": event.kind,
        "phase": event.phase,
        "incident": int(event.id.rpartition("-")[2]),
        "reason": event.reason,
    }
    said |= {name: getattr(event, name) for name in COMPARABLE}
    for name in ("started_at", "first_seen", "last_seen"):
        if (when := getattr(event, name)) is not None:
            said[f"{name.removesuffix('_at')}_s"] = _seconds(when, began)
    return {name: value for name, value in said.items() if not _empty(value)}


def _empty(value: object) -> bool:
    return value is None or (isinstance(value, list | Mapping) and not value)


def _seconds(when: str, began: str) -> float:
    """From one RFC 3339 time to another, ms."""
    return round((_microseconds(when) - _microseconds(began)) / 1e6, 3)


def _microseconds(when: str) -> int:
    return (datetime.fromisoformat(when.replace("Z", "+00:00")) - EPOCH) // timedelta(microseconds=1)
