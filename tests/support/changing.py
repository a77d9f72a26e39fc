"""Cameras that are set up anew while they are looked at: in one and the same RTSP session another size, or codec."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any

from pydantic import TypeAdapter

from agent.camera import Camera, State
from agent.config import AnySource
from agent.frame import Frame
from agent.publishing import Outlets
from agent.supervision.captures import Captures
from tests.support.clips import Clip
from tests.support.faulty import OVER_RTSP, Kind, source_of
from tests.support.patience import PATIENCE_S
from tests.support.rtsp import RtspServer
from tests.support.waiting import until

BEFORE = Clip(size=(320, 192), frames=60, fps=10, gop=5)
CHANGES: dict[str, Clip] = {
    "another size": replace(BEFORE, size=(448, 256)),
    "another codec": replace(BEFORE, codec="h265"),
}


class Watched(Camera):
    """Notes what its capture does."""

    def __init__(self, kind: Kind, change: str) -> None:
        name = f"{kind}-{change.replace(' ', '-')}"
        super().__init__("test", name, name, [], Outlets([]))
        self.kind, self.change = kind, change
        self.pictures: list[tuple[float, tuple[int, int]]] = []
        """When each came, `time.monotonic`, and its size."""
        self.lost: list[tuple[float, str | None]] = []
        """When it was told as lost, and why."""
        self.codec: str | None = None

    def offer(self, frame: Frame) -> None:
        """See Camera."""
        self.pictures.append((time.monotonic(), frame.image.size))
        super().offer(frame)

    def say(self, state: State, reason: str | None = None, facts: dict[str, str] | None = None) -> None:
        """See Camera."""
        if state == "lost":
            self.lost.append((time.monotonic(), reason))
        self.codec = (facts or {}).get("codec", self.codec)
        super().say(state, reason, facts)

    @property
    def reads_anew(self) -> bool:
        """Pictures come of what is sent now; only OpenCV does not say so of a size."""
        then = CHANGES[self.change]
        at, size = self.pictures[-1]
        if then.codec != BEFORE.codec:
            return self.codec == "hevc" and self.state == "streaming" and at > self.lost[-1][0]
        return size == then.size or self.kind == "opencv-rtsp"


@dataclass
class Changed:
    """How one camera fared."""

    kind: Kind
    change: str
    size: tuple[int, int]
    """Of its pictures, in the end."""
    codec: str | None
    found_s: float | None
    """From its last picture until the loss was told; None: it streamed on."""
    away_s: float
    """The longest time between two pictures."""
    lost: list[str | None]
    """For what reasons it was told as lost."""


def changed(**keys: Any) -> list[Changed]:
    """Let a camera of each kind that speaks RTSP change in each way, all at once. `keys`: of their sources."""
    cameras = [Watched(kind, change) for change in CHANGES for kind in OVER_RTSP]
    captures = Captures()
    with ExitStack() as stack:
        servers = {
            change: stack.enter_context(RtspServer(BEFORE, len(OVER_RTSP), fps=BEFORE.fps, apart=True, then=then))
            for change, then in CHANGES.items()
        }
        for camera in cameras:
            path = f"cam{OVER_RTSP.index(camera.kind)}"
            source = source_of(camera.kind, servers[camera.change].port, path) | keys
            captures.add(TypeAdapter(AnySource).validate_python(source), [camera], None)
        captures.start()
        stack.callback(lambda: captures.stop({camera.name: camera for camera in cameras}, time.monotonic() + 10))
        _look(captures, lambda: all(len(camera.pictures) > 2 for camera in cameras))
        for camera in cameras:
            camera.lost.clear()  # who comes at once may be told that the server is not ready
        began = time.monotonic()
        for server in servers.values():
            server.change()
        _look(captures, lambda: all(camera.reads_anew for camera in cameras))
        return [_changed(camera, began) for camera in cameras]


def _look(captures: Captures, wanted: Callable[[], bool]) -> None:
    def looked() -> bool:
        captures.look()
        return wanted()

    until(looked, PATIENCE_S)


def _changed(camera: Watched, began: float) -> Changed:
    times = [at for at, _ in camera.pictures if at > began]
    found_s = None
    if camera.lost:
        told, _ = camera.lost[0]
        found_s = told - max([began, *(at for at in times if at < told)])
    away_s = max(after - before for before, after in pairwise([began, *times]))
    lost = [reason for _, reason in camera.lost]
    return Changed(camera.kind, camera.change, camera.pictures[-1][1], camera.codec, found_s, away_s, lost)
