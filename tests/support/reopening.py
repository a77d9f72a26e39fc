"""Cameras whose connections break off in the middle of a picture, each time anew, and one that is never there."""

from __future__ import annotations

import ctypes
import gc
import time
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from types import TracebackType
from typing import Any
from unittest import mock

import psutil
from pydantic import TypeAdapter

from agent.camera import Camera
from agent.config import AnySource
from agent.publishing import Outlets
from agent.supervision.captures import Captures
from tests.support.broker import free_port
from tests.support.cable import Cable, Cables
from tests.support.clips import Clip
from tests.support.faulty import KINDS, OVER_RTSP, source_of
from tests.support.http_camera import HttpCamera
from tests.support.patience import PATIENCE_S
from tests.support.rtsp import RtspServer
from tests.support.waiting import until

CLIP = Clip(size=(320, 192), frames=60, fps=20, gop=2)
"""Joined at once."""
STEADY_S = 0.2


@dataclass(frozen=True)
class Held:
    """What this process holds."""

    threads: int
    descriptors: int
    rss_mb: float

    def less_than(self, other: Held) -> bool:
        """In anything that is counted."""
        return self.threads < other.threads or self.descriptors < other.descriptors


class Reopening:
    """One camera of each kind, whose every connection ends after some pictures, and readers that do not wait long."""

    def __init__(self, wait: float = 0.0) -> None:
        """`wait`: the share of the usual waits between tries."""
        self._stack, self._wait = ExitStack(), wait
        self._cables: dict[str, Cable] = {}
        self._sources: dict[str, dict[str, Any]] = {}

    def __enter__(self) -> Reopening:
        with ExitStack() as stack:
            rtsp = stack.enter_context(RtspServer(CLIP, mounts=len(OVER_RTSP), fps=CLIP.fps))
            http = stack.enter_context(HttpCamera(rate=CLIP.fps))
            http.size = CLIP.size
            self._http = http
            self._cabling = stack.enter_context(Cables())
            for mount, kind in enumerate(KINDS):
                over_rtsp = kind in OVER_RTSP
                cable = self._cabling.lay(rtsp.port if over_rtsp else http.port)
                self._cabling.spoil(cable, "broken-off")
                self._sources[kind] = source_of(kind, cable.port, f"cam{mount}" if over_rtsp else "stream.mjpg")
                self._cables[kind] = cable
            for kind in ("rtsp", "gstreamer", "mjpeg", "snapshot"):
                self._sources[f"{kind}-absent"] = source_of(kind, free_port(), "cam0")
            self._sources["snapshot"]["every"] = "50ms"
            self._sources["gstreamer-udp"]["timeout_s"] = 0.3  # there it hears of an end by silence alone
            stack.enter_context(mock.patch("agent.capture.LEAST_WAIT_S", 0.25 * self._wait + 0.01))
            stack.enter_context(mock.patch("agent.workers.random.uniform", new=self._share))
            self._stack = stack.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.__exit__(kind, error, trace)

    def round(self, connections: int, deadline_s: float = 60) -> dict[str, int]:
        """Connect each camera so often, then end all readers; how often each was connected."""
        cameras = {name: Camera("test", name, name, [], Outlets([])) for name in self._sources}
        captures, before = Captures(), {name: cable.connections for name, cable in self._cables.items()}
        for name, source in self._sources.items():
            captures.add(TypeAdapter(AnySource).validate_python(source), [cameras[name]], None)
        captures.start()
        deadline = time.monotonic() + deadline_s
        try:
            while True:
                made = {name: cable.connections - before[name] for name, cable in self._cables.items()}
                if min(made.values()) >= connections:
                    return made
                assert time.monotonic() < deadline, (made, {name: camera.state for name, camera in cameras.items()})
                captures.look()
                time.sleep(0.02)
        finally:
            captures.stop(cameras, time.monotonic() + 10)
            self._http.requests.clear()
            self._http.paths.clear()

    def _share(self, _least: float, _most: float) -> float:
        """A Mock would remember every call, and be the leak that is looked for."""
        return self._wait

    def settled(self, wanted: Held | None = None) -> Held:
        """What is held when libraries have let go of what they let go late: no more than `wanted`, if that ever comes.

        Without it, what has not become less for a while.
        """
        held, since = self._held(), time.monotonic()

        def over() -> bool:
            nonlocal held, since
            last, held = held, self._held()
            if held.less_than(last):
                since = time.monotonic()
            return not wanted.less_than(held) if wanted else time.monotonic() - since > STEADY_S

        with suppress(AssertionError):  # who asked compares, and says what is too much
            until(over, PATIENCE_S)
        return held

    def _held(self) -> Held:
        gc.collect()
        ctypes.CDLL(None).malloc_trim(0)  # what is held, not what was
        process = psutil.Process()
        # The cables' ends of connections go when the other end is noticed to be gone.
        ends = sum(
            2 + sum(len(way.sockets) for way in link.ways) for cable in self._cables.values() for link in cable.links
        )
        return Held(process.num_threads(), process.num_fds() - ends, process.memory_info().rss / 1e6)
