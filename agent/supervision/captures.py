"""The connections to cameras: one thread a source, however many cameras look at it; one that hangs is replaced."""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from agent.camera import Camera
from agent.capture import Capture
from agent.clips.tap import PacketTap
from agent.sources import SourceConfig
from agent.supervision.standstill import Standstill
from agent.workers import Worker

log = logging.getLogger(__name__)

Names = tuple[str, ...]
"""Cameras that share a connection."""

MOST_HUNG = 3
"""Readers of one source that may hang at once; each keeps its thread and what its libraries hold."""
_LOOK_S = 0.05


@dataclass(eq=False)
class _AtWork:
    """One source's connection."""

    cameras: Sequence[Camera]
    capture: Capture
    worker: Worker
    hung: list[Worker] = field(default_factory=list)
    """Abandoned, and not back yet."""
    given_up: bool = False
    """As many hang as may."""
    begun: bool = False


class Captures:
    """All of them. Used by one thread at a time."""

    def __init__(self) -> None:
        self._at_work: dict[Names, _AtWork] = {}
        self._standstill = Standstill()

    def add(self, source: SourceConfig, cameras: Sequence[Camera], tap: PacketTap | None) -> None:
        """Prepare a connection; `start` begins it."""
        names = tuple(camera.name for camera in cameras)
        capture = Capture(source, cameras, tap)
        self._at_work[names] = _AtWork(cameras, capture, _worker(names, capture))

    def start(self) -> None:
        """Begin with all that have not begun."""
        self._standstill.begin()
        for one in self._at_work.values():
            if not one.begun:
                one.begun = True
                one.worker.start()

    def hand_over(self, names: Names, cameras: Sequence[Camera]) -> None:
        """A connection stays, and from its next frame on these cameras look at it."""
        one = self._at_work.pop(names)
        one.cameras = cameras
        one.capture.look_for(cameras)
        self._at_work[tuple(camera.name for camera in cameras)] = one

    def remove(self, names: Names) -> list[Worker]:
        """A connection is to end: its thread, if it has one, for `end`."""
        one = self._at_work.pop(names)
        one.worker.stop.set()
        return [one.worker] if one.begun else []

    def look(self) -> None:
        """Tell cameras without pictures as lost, and replace readers that hang. Returns at once."""
        fair = self._standstill.over()
        for names, one in self._at_work.items():
            one.capture.look()
            if fair and (one.hung or one.worker.progress.overdue_s() > 0):
                _replace(names, one)

    def beyond_help(self) -> list[Worker]:
        """Those that hang and are not replaced, if no camera streams: then a new process can only be better."""
        if any(camera.state == "streaming" for one in self._at_work.values() for camera in one.cameras):
            return []
        return [one.worker for one in self._at_work.values() if one.given_up]

    @property
    def alive(self) -> bool:
        """Whether any is not at its end: recordings end."""
        return any(one.worker.alive or not one.begun for one in self._at_work.values())

    def __len__(self) -> int:
        return len(self._at_work)

    def stop(self, cameras: Mapping[str, Camera], deadline_s: float) -> None:
        """End them, waiting in `offer` or not; `deadline_s`: on `time.monotonic`."""
        workers = [one.worker for one in self._at_work.values() if one.begun]
        for worker in workers:
            worker.stop.set()
        for camera in cameras.values():
            camera.release()
        end(workers, deadline_s)


def end(left: Sequence[Worker], deadline_s: float) -> None:
    """Wait for threads that were told to stop; `deadline_s`: on `time.monotonic`. Nobody waits for one that hangs."""
    while left and time.monotonic() < deadline_s:
        left = [worker for worker in left if not worker.join(0)]
        moving = [worker for worker in left if worker.progress.overdue_s() <= 0]
        if not moving:
            break
        moving[0].join(_LOOK_S)
    for worker in left:
        log.warning("%s: does not end; left behind", worker.name)


def _worker(names: Names, capture: Capture, number: int = 0) -> Worker:
    """`number`: which replacement it is."""
    again = f"-{number + 1}" if number else ""
    return Worker("camera-" + "+".join(names) + again, capture.run, capture.progress)


def _replace(names: Names, one: _AtWork) -> None:
    """See who has come back, and put another in the place of a reader that hangs, if not too many do."""
    one.hung = [worker for worker in one.hung if worker.alive]
    doing = one.worker.progress.doing
    if doing is not None and one.worker.progress.overdue_s() > 0:
        if len(one.hung) >= MOST_HUNG - 1:
            _give_up(one)
        elif (capture := one.capture.successor()) is not None:
            log.error("%s: hangs (%s for more than %g s); replaced", one.worker.name, doing.what, doing.within_s)
            one.worker.stop.set()
            one.hung.append(one.worker)
            number = 1 + max(camera.readers_abandoned for camera in one.cameras)
            one.capture, one.given_up = capture, False
            one.worker = _worker(names, capture, number)
            one.worker.start()
            for camera in one.cameras:
                camera.readers_abandoned = number
    else:
        one.given_up = False
    for camera in one.cameras:
        camera.readers_hung = len(one.hung) + one.given_up


def _give_up(one: _AtWork) -> None:
    if not one.given_up:
        one.given_up = True
        log.error("%s: hangs, too, and is not replaced: so do %d before it", one.worker.name, len(one.hung))
        one.capture.say_stuck(MOST_HUNG)
