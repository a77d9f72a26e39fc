"""The connections to cameras: one thread a source, however many cameras look at it."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence

from agent.camera import Camera
from agent.capture import Capture
from agent.clips.tap import PacketTap
from agent.sources import SourceConfig
from agent.workers import Worker, join

Names = tuple[str, ...]
"""Cameras that share a connection."""


class Captures:
    """All of them. Used by the main thread."""

    def __init__(self) -> None:
        self._at_work: dict[Names, Worker] = {}

    def add(self, source: SourceConfig, cameras: Sequence[Camera], tap: PacketTap | None) -> None:
        """Prepare a connection; `start` begins it."""
        names = tuple(camera.name for camera in cameras)
        capture = Capture(source, cameras, tap)
        self._at_work[names] = Worker("camera-" + "+".join(names), capture.run, capture.progress)

    def start(self) -> None:
        """Begin with all."""
        for worker in self._at_work.values():
            worker.start()

    @property
    def alive(self) -> bool:
        """Whether any is not at its end: recordings end."""
        return any(worker.alive for worker in self._at_work.values())

    def __len__(self) -> int:
        return len(self._at_work)

    def stop(self, cameras: Mapping[str, Camera], deadline_s: float) -> None:
        """End them, waiting in `offer` or not; `deadline_s`: on `time.monotonic`."""
        for worker in self._at_work.values():
            worker.stop.set()
        for camera in cameras.values():
            camera.release()
        join(list(self._at_work.values()), deadline_s - time.monotonic())
