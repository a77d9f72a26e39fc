"""The connections to cameras: one thread a source, however many cameras look at it."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from agent.camera import Camera
from agent.capture import Capture
from agent.clips.packets import PacketTap
from agent.sources import SourceConfig
from agent.workers import Worker, join

Names = tuple[str, ...]
"""Cameras that share a connection."""


@dataclass(eq=False)
class _Connection:
    capture: Capture
    worker: Worker
    begun: bool = False


class Captures:
    """All of them. Used by the main thread, and by who changes the configuration while that waits."""

    def __init__(self) -> None:
        self._at_work: dict[Names, _Connection] = {}

    def add(self, source: SourceConfig, cameras: Sequence[Camera], tap: PacketTap | None) -> None:
        """Prepare a connection; `start` begins it."""
        names = tuple(camera.name for camera in cameras)
        capture = Capture(source, cameras, tap)
        worker = Worker("camera-" + "+".join(names), capture.run, capture.progress)
        self._at_work[names] = _Connection(capture, worker)

    def start(self) -> None:
        """Begin with all that have not begun."""
        for connection in self._at_work.values():
            if not connection.begun:
                connection.begun = True
                connection.worker.start()

    def hand_over(self, names: Names, cameras: Sequence[Camera]) -> None:
        """A connection stays, and from its next frame on these cameras look at it."""
        connection = self._at_work.pop(names)
        connection.capture.look_for(cameras)
        self._at_work[tuple(camera.name for camera in cameras)] = connection

    def remove(self, names: Names) -> Worker:
        """A connection is to end; its worker, which may take its time."""
        worker = self._at_work.pop(names).worker
        worker.stop.set()
        return worker

    @property
    def alive(self) -> bool:
        """Whether any is not at its end: recordings end."""
        return any(connection.worker.alive or not connection.begun for connection in self._at_work.values())

    def __len__(self) -> int:
        return len(self._at_work)

    def stop(self, cameras: Mapping[str, Camera], deadline_s: float) -> None:
        """End them, waiting in `offer` or not; `deadline_s`: on `time.monotonic`."""
        workers = [connection.worker for connection in self._at_work.values() if connection.begun]
        for worker in workers:
            worker.stop.set()
        for camera in cameras.values():
            camera.release()
        join(workers, deadline_s - time.monotonic())
