"""The clips of all cameras, and the one thread that writes them.

What waits to be written is bounded in bytes: where the disk is too slow, a clip ends early. Every clip is counted:

    begun == made + failed + waiting
"""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from agent.clips import Reel
from agent.clips.muxing import ClipFile
from agent.clips.packets import Packet
from agent.clips.reel import CameraReel, Clip
from agent.clips.settings import ClipSection
from agent.clips.tap import PacketTap
from agent.folders import state_folder
from agent.keeping import FolderState, Keeper, Shelf
from agent.workers import Worker

log = logging.getLogger(__name__)

MOST_WAITING_BYTES = 64_000_000
"""Packets of all cameras that wait to be written."""
TRIM_EVERY_S = 60.0


@dataclass(eq=False)
class _Camera:
    """One camera's reel, folder and account."""

    reel: CameraReel
    keeper: Keeper
    cut_off: bool = False
    """The stream that the reel was fed is no more."""
    begun: int = 0
    made: int = 0
    failed: int = 0
    cut: int = 0
    """Of those made: ended early, for the disk was too slow."""


@dataclass(frozen=True, eq=False)
class _Step:
    """Something to be done for a clip: packets to be written, or (None) its end."""

    camera: _Camera
    keeper: Keeper
    """Of the time when the clip began: a reload may have given the camera another one since."""
    clip: Clip
    packets: Sequence[Packet] | None

    @property
    def bytes(self) -> int:
        return sum(len(packet.data) for packet in self.packets or ())


class Clips:
    """The clips of an agent. `start`, then reels are told and taps are fed, then `close`."""

    def __init__(self, agent: str, on_state: Callable[[], None] = lambda: None) -> None:
        """`on_state`: called when `state` has changed."""
        self._agent, self._on_state = agent, on_state
        self._cameras: dict[str, _Camera] = {}
        """Replaced, never changed: several threads look at it."""
        self._changed = threading.Condition()
        self._steps: deque[_Step] = deque()
        self._waiting_bytes = 0
        self._closed = False
        self._files: dict[str, ClipFile] = {}
        """Camera -> what is being written; the thread's own."""
        self._worker = Worker("clips", self._run)
        self._started = False

    def reel(self, name: str, section: ClipSection) -> Reel:
        """The reel of a camera whose configuration asks for clips; the one that it has, if it has one."""
        before = self._cameras.get(name)
        if before is not None and not before.cut_off and before.reel.section == section:
            return before.reel
        root = (section.folder or state_folder() / "clips") / self._agent
        max_bytes = section.max_mb * 1_000_000
        shelf = Shelf(root / name, name, (".mp4", ".mkv"), section.limit, max_bytes, section.max_age)

        state = FolderState(name, "clip", shelf.folder, self._on_state)
        keeper = Keeper(shelf, state)

        def begin(clip: Clip, packets: list[Packet]) -> bool:
            camera.begun += 1
            if self._put(_Step(camera, keeper, clip, packets)):
                return True
            self._failed(camera)
            return False

        def append(clip: Clip, packet: Packet) -> bool:
            if self._put(_Step(camera, keeper, clip, [packet])):
                return True
            camera.cut += 1
            return False

        def finish(clip: Clip) -> None:
            self._put(_Step(camera, keeper, clip, None))

        reel = CameraReel(name, section, begin, append, finish, refused=state.say)
        if before is None:
            camera = _Camera(reel, keeper)
            self._cameras = {**self._cameras, name: camera}
        else:
            camera = before
            camera.reel, camera.keeper, camera.cut_off = reel, keeper, False
        return reel

    def cut(self, name: str) -> None:
        """That camera's connection is replaced by another one: what is open ends, and `reel` makes a new one."""
        if (camera := self._cameras.get(name)) is not None:
            camera.cut_off = True
            camera.reel.closed()

    def remove(self, name: str) -> None:
        """No more clips of that camera; what is open ends."""
        self.cut(name)
        self._cameras = {other: camera for other, camera in self._cameras.items() if other != name}

    def tap(self, cameras: Sequence[str]) -> PacketTap | None:
        """What a source that these cameras share hands its packets to; None where none of them wants clips."""
        reels = [self._cameras[name].reel for name in cameras if name in self._cameras]
        return PacketTap(reels) if reels else None

    def start(self) -> None:
        """Start the thread, if any camera wants clips and it does not run."""
        if self._cameras and not self._started:
            self._started = True
            self._worker.start()

    def close(self, deadline_s: float) -> None:
        """End what is open, and write what waits, for at most `deadline_s`."""
        for camera in self._cameras.values():
            camera.reel.closed()
        with self._changed:
            self._closed = True
            self._changed.notify_all()
        if self._started and not self._worker.join(deadline_s):
            log.warning("clips: does not end; left behind")

    def state(self) -> dict[str, Any]:
        """Camera -> where its clips lie, whether they can be kept, and why not."""
        return {name: camera.keeper.state.told() for name, camera in self._cameras.items()}

    def counts(self) -> dict[str, dict[str, int]]:
        """Camera -> the account of its clips, and what is kept."""
        return {
            name: {
                "begun": camera.begun,
                "made": camera.made,
                "failed": camera.failed,
                "cut": camera.cut,
                "missed": camera.reel.missed,
                "waiting": camera.begun - camera.made - camera.failed,
                **camera.keeper.standing,
            }
            for name, camera in self._cameras.items()
        }

    def _failed(self, camera: _Camera) -> None:
        with self._changed:  # two threads count it
            camera.failed += 1

    def _put(self, step: _Step) -> bool:
        with self._changed:
            if step.packets is not None:
                if self._waiting_bytes + step.bytes > MOST_WAITING_BYTES:
                    return False
                self._waiting_bytes += step.bytes
            self._steps.append(step)
            self._changed.notify()
            return True

    # -- the thread

    def _run(self, stop: threading.Event) -> None:  # noqa: ARG002  # ends when closed
        trim_s = 0.0
        while True:
            if time.monotonic() >= trim_s:
                trim_s = time.monotonic() + TRIM_EVERY_S
                for camera in self._cameras.values():
                    camera.keeper.attempt(Shelf.trim)
            step = self._take(trim_s)
            if step is not None:
                self._do(step)
            elif self._closed:
                return

    def _take(self, until_s: float) -> _Step | None:
        with self._changed:
            self._changed.wait_for(lambda: self._steps or self._closed, max(0.0, until_s - time.monotonic()))
            if not self._steps:
                return None
            step = self._steps.popleft()
            self._waiting_bytes -= step.bytes
            return step

    def _do(self, step: _Step) -> None:
        camera, clip = step.camera, step.clip
        if clip.failed:
            return
        worked = False
        try:
            worked = step.keeper.attempt(lambda shelf: self._write(shelf, step))
        finally:  # also after a fault of ours: the next clip must not go on in this one's file
            if not worked:
                clip.failed = True
                self._failed(camera)
                if file := self._files.pop(camera.reel.camera, None):
                    file.give_up()
                step.keeper.shelf.give_up(clip.name)
            elif step.packets is None:
                camera.made += 1

    def _write(self, shelf: Shelf, step: _Step) -> None:
        name, clip = step.camera.reel.camera, step.clip
        try:
            if step.packets is None:
                self._files.pop(name).close()
                shelf.finish(clip.name)
                return
            file = self._files.get(name)
            if file is None:
                file = self._files[name] = ClipFile(shelf.part(clip.name), clip.template)
            for packet in step.packets:
                file.add(packet)
        except ValueError as error:  # what no file takes
            raise OSError(getattr(error, "strerror", None) or str(error) or type(error).__name__) from error
