"""Pictures for calibration, of what the agent's own cameras see; only where the configuration asks for it.

A capture thread leaves a frame, and goes on; the one thread here draws whether it is kept, and writes it. What comes
while it is busy, or while the folder cannot be written, replaces what waits. Every frame that is left is counted:

    offered == considered + dropped + waiting
"""

from __future__ import annotations

import logging
import random
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from agent.every import Every
from agent.frame import Frame, Timestamp
from agent.keeping import FolderState
from agent.reservoir import Reservoir
from agent.workers import Backoff
from engines.errors import PictureError
from engines.stored import most_bytes, pack

log = logging.getLogger(__name__)

RETRY_S = (1.0, 60.0)
"""First and longest wait before a folder that could not be written is tried again."""
SAVE_EVERY_S = 300.0
"""Of its count of candidates, a killed agent forgets at most so much; so soon it sees that pictures were deleted."""


@dataclass(eq=False)
class Candidates:
    """What one camera shows: `due` and `offer` are called by its capture thread, the rest is its collector's."""

    every: Every
    reservoir: Reservoir
    collector: Collector
    offered: int = 0
    considered: int = 0
    dropped: int = 0
    known: bool = False
    """Whether the reservoir has been opened since the folder last failed."""
    save_s: float = 0.0
    """When the folder is due to be looked at and the count to be written, `time.monotonic`."""
    said: str = ""
    standing: dict[str, int] = field(default_factory=lambda: {"kept": 0, "limit": 0, "bytes": 0, "candidates": 0})
    """Of the reservoir, for other threads; replaced, never changed."""

    def due(self, captured: Timestamp) -> bool:
        """Whether the frame is a candidate."""
        return self.every.due(captured)

    def offer(self, frame: Frame) -> None:
        """Leave a candidate, as inference sees it: cropped, and black where it is masked. Never waits."""
        self.collector.offer(self, frame)

    def say(self, what: str) -> None:
        """Log a fact once."""
        if what != self.said:
            self.said = what
            log.warning("calibration.collect: %s: %s", self.reservoir.camera, what)


class Collector:
    """The thread that keeps a sample of each camera in a folder."""

    def __init__(
        self,
        folder: Path,
        cameras: Iterable[str],
        *,
        limit: int,
        every_ns: int,
        max_bytes: int,
        on_state: Callable[[], None] = lambda: None,
    ) -> None:
        """`limit`: pictures of each camera. `max_bytes`: of all together, each has the same share.

        `on_state`: called when `state` has changed.
        """
        self.folder = folder
        self.cameras = {name: Candidates(Every(every_ns), Reservoir(folder, name, limit), self) for name in cameras}
        self._limit, self._share = limit, max_bytes // max(1, len(self.cameras))
        self._state = FolderState("calibration.collect", "picture", folder, on_state)
        self._waiting: OrderedDict[Candidates, Frame] = OrderedDict()
        self._changed = threading.Condition()
        self._closed = threading.Event()
        self._random = random.Random()

    def offer(self, camera: Candidates, frame: Frame) -> None:
        """Put a frame into its camera's slot; what is still in it is dropped, and its place in line kept."""
        with self._changed:
            camera.offered += 1
            camera.dropped += self._closed.is_set() or camera in self._waiting
            if not self._closed.is_set():
                self._waiting[camera] = frame
                self._changed.notify()

    def run(self, stop: threading.Event) -> None:  # noqa: ARG002  # ends when closed
        """Until `close`."""
        for camera in self.cameras.values():
            self._save(camera)
        while (taken := self._take()) is not None:
            self._consider(*taken)
            del taken  # its pixels are the decoder's
        for camera in self.cameras.values():
            self._save(camera)

    def close(self) -> None:
        """Begin nothing more; what waits is dropped and counted."""
        with self._changed:
            self._closed.set()
            for camera in self._waiting:
                camera.dropped += 1
            self._waiting.clear()
            self._changed.notify_all()

    def state(self) -> dict[str, Any]:
        """For the agent's status."""
        return self._state.told("collecting")

    def counts(self) -> dict[str, dict[str, int]]:
        """Camera -> what is kept, of how many candidates in the agent's life; and the account since its start."""
        with self._changed:
            return {
                name: {
                    **camera.standing,
                    "offered": camera.offered,
                    "considered": camera.considered,
                    "dropped": camera.dropped,
                    "waiting": camera.offered - camera.considered - camera.dropped,
                }
                for name, camera in self.cameras.items()
            }

    def _take(self) -> tuple[Candidates, Frame] | None:
        with self._changed:
            self._changed.wait_for(lambda: self._waiting or self._closed.is_set())
            return None if self._closed.is_set() else self._waiting.popitem(last=False)

    def _consider(self, camera: Candidates, frame: Frame) -> None:
        """Draw, and keep or pass over. What cannot be written is tried until it can be, so that the draw stays fair."""
        chance, waits = self._random.random(), Backoff(*RETRY_S)
        considered = False
        try:
            if self._has_room(camera, frame):
                while not (considered := self._touch(camera, lambda: self._draw(camera.reservoir, frame, chance))):
                    if self._closed.wait(waits.next_s()):
                        break
        except PictureError as error:
            camera.say(str(error))
        finally:
            with self._changed:
                camera.considered += considered
                camera.dropped += not considered
        if time.monotonic() >= camera.save_s:
            self._save(camera)

    def _has_room(self, camera: Candidates, frame: Frame) -> bool:
        """Lower the limit to as many pictures, of the size of this one or of those that are there, as have room."""
        reservoir, (width, height) = camera.reservoir, frame.image.size
        fit = self._share // max([most_bytes(frame.image), *reservoir.kept.values()])
        limit = min(self._limit, fit)
        if limit < self._limit:
            camera.say(f"{limit} pictures of {width}x{height} are kept, not {self._limit}: max_mb allows no more")
        if limit and limit != reservoir.limit:
            reservoir.limit, camera.known = limit, False
        return limit > 0

    def _draw(self, reservoir: Reservoir, frame: Frame, chance: float) -> None:
        if reservoir.place(chance) is not None:
            reservoir.look()  # whoever has emptied the folder since wants a new sample: this is its first picture
        place = reservoir.place(chance)
        if place is None:
            reservoir.pass_over()
        else:
            reservoir.put(place, pack(frame.image), frame.captured.wall_ns)

    def _save(self, camera: Candidates) -> None:
        camera.save_s = time.monotonic() + SAVE_EVERY_S
        self._touch(camera, camera.reservoir.look)
        self._touch(camera, camera.reservoir.save)

    def _touch(self, camera: Candidates, act: Callable[[], None]) -> bool:
        """Do something with the folder; False, and said once, where it fails."""
        try:
            if not camera.known:
                camera.reservoir.open()
                camera.reservoir.save()  # shows that the folder can be written, too
                camera.known = True
            act()
        except OSError as error:
            for each in self.cameras.values():
                each.known = False  # it may be another folder when it is back
            self._state.failed(error)
            return False
        finally:
            camera.standing = camera.reservoir.standing()
        self._state.say(None)
        return True
