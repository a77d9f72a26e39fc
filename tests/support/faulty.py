"""An agent with a camera for each kind of source and each fault, all of which break and are mended at the same time.

What is measured: how soon a loss is told, how soon the camera streams again, and how far apart the frames of cameras
come that nothing happens to.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, get_args

from agent.frame import Frame
from agent.service import Service
from agent.sinks.memory import MemorySink
from tests.support.agents import fake_model, fake_store, settings_of
from tests.support.cable import FAULTS, Cable, Cables, Fault
from tests.support.clips import Clip
from tests.support.http_camera import HttpCamera
from tests.support.rtsp import RtspServer

Kind = Literal["rtsp", "rtsp-udp", "gstreamer", "gstreamer-udp", "opencv-rtsp", "http", "mjpeg", "snapshot"]
KINDS: tuple[Kind, ...] = get_args(Kind)
OVER_UDP: tuple[Kind, ...] = ("rtsp-udp", "gstreamer-udp")
OVER_RTSP: tuple[Kind, ...] = ("rtsp", "gstreamer", "opencv-rtsp", *OVER_UDP)
FPS = 5
KEY_FRAME_S = 1.0
CLIP = Clip(size=(320, 192), frames=60, fps=FPS, gop=round(FPS * KEY_FRAME_S))
OTHER = Clip(size=(448, 256), frames=60, fps=FPS, gop=round(FPS * KEY_FRAME_S), codec="h265")
LIMIT_S = 5.0


def faults_of(kind: Kind) -> list[Fault]:
    """Those that can befall it."""
    only: dict[Fault, tuple[Kind, ...]] = {"clock": OVER_RTSP, "lossy": OVER_UDP}
    return [fault for fault in FAULTS if kind in only.get(fault, KINDS)]


@dataclass
class Fared:
    """How one camera fared."""

    kind: Kind
    fault: Fault
    found_s: float | None = None
    """From the fault, or from the last picture that came after it, to the loss being told; None: it streams on."""
    back_s: float | None = None
    """From the mending until it streams; None: it does not."""
    reasons: list[str] = field(default_factory=list)

    @property
    def name(self) -> str:
        """Of the camera."""
        return f"{self.kind}-{self.fault}"


class Gaps:
    """When the frames of a camera came, and how far they are apart."""

    def __init__(self) -> None:
        self.at: list[float] = []

    def worst_s(self, begin: float, end: float) -> float:
        """The longest time without a frame between two moments."""
        times = [begin, *(at for at in self.at if begin < at < end), end]
        return max(b - a for a, b in pairwise(times))


class Lag:
    """How late this machine lets a thread run that wants to do next to nothing."""

    def __init__(self) -> None:
        self.worst_s = 0.0
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run, name="lag")

    def __enter__(self) -> Lag:
        self._thread.start()
        return self

    def __exit__(
        self, _type: type[BaseException] | None, _error: BaseException | None, _trace: TracebackType | None
    ) -> None:
        self._ended.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._ended.is_set():
            began = time.monotonic()
            self._ended.wait(0.02)
            self.worst_s = max(self.worst_s, time.monotonic() - began - 0.02)


class Site:
    """The cameras, their cables, and the agent that looks at them all."""

    def __init__(self, folder: Path, cells: Sequence[tuple[Kind, Fault]]) -> None:
        self.fared = [Fared(kind, fault) for kind, fault in cells]
        self.gaps: dict[str, Gaps] = {}
        """Of the cameras that nothing happens to."""
        self._seen: dict[str, Gaps] = {}
        self.cables = Cables()
        self._folder, self._stack, self._stop = folder, ExitStack(), threading.Event()
        self._cable: dict[str, Cable] = {}

    def __enter__(self) -> Site:
        with ExitStack() as stack:
            self._build(stack)
            self._stack = stack.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.__exit__(kind, error, trace)

    def _build(self, stack: ExitStack) -> None:
        over_rtsp = [one for one in self.fared if one.kind in OVER_RTSP]
        self.rtsp = stack.enter_context(RtspServer(CLIP, mounts=len(over_rtsp) + 1, fps=FPS, apart=True))
        other = stack.enter_context(RtspServer(OTHER, mounts=len(over_rtsp) + 1, fps=FPS, apart=True))
        small, large = (stack.enter_context(HttpCamera(rate=FPS)) for _ in range(2))
        small.size, large.size = (320, 192), (448, 256)
        stack.enter_context(self.cables)
        urls = dict(zip((one.name for one in over_rtsp), self.rtsp.urls, strict=False))
        sources: dict[str, dict[str, Any]] = {}
        for one in self.fared:
            here, there = (self.rtsp, other) if one.kind in OVER_RTSP else (small, large)
            self._cable[one.name] = cable = self.cables.lay(here.port, there.port)
            path = urls[one.name].rpartition("/")[2] if one.kind in OVER_RTSP else "stream.mjpg"
            sources[one.name] = source_of(one.kind, cable.port, path)
        sources["good-rtsp"] = {"type": "rtsp", "url": self.rtsp.urls[-1]}
        sources["good-mjpeg"] = {"type": "opencv", "url": small.stream}
        sources["good-synthetic"] = {"type": "synthetic", "rate": FPS, "width": 320, "height": 192}
        settings = settings_of(
            models={"colours": fake_model("classes")},
            cameras={name: {"source": source, "models": ["colours"]} for name, source in sources.items()},
        )
        self.sink = MemorySink()
        self.service = Service(settings, fake_store(self._folder), [self.sink])
        stack.enter_context(self._served())

    @contextmanager
    def _served(self) -> Iterator[None]:
        self.service.start()
        for name, camera in self.service.cameras.items():
            gaps = self._seen[name] = Gaps()
            camera.offer = _noting(camera.offer, gaps)  # type: ignore[method-assign]
            if name.startswith("good-"):
                self.gaps[name] = gaps
        waiting = threading.Thread(target=self.service.wait, args=(self._stop,), name="service")
        waiting.start()
        try:
            yield
        finally:
            self._stop.set()
            waiting.join()
            self.service.stop()

    def state(self, name: str) -> str:
        """What is said of a camera."""
        return self.service.cameras[name].state

    def await_all(self, deadline_s: float) -> list[str]:
        """Wait until every camera streams; the names of those that do not."""
        deadline = time.monotonic() + deadline_s
        while True:
            away = [name for name in self.service.cameras if self.state(name) != "streaming"]
            if not away or time.monotonic() > deadline:
                return away
            time.sleep(0.02)

    def over_udp(self) -> set[Kind]:
        """Kinds whose pictures come beside the connection."""
        return {one.kind for one in self.fared if any(link.ways for link in self._cable[one.name].links)}

    def spoil_all(self, for_s: float) -> float:
        """Let each camera's fault happen, and note when its loss is told; when that began, `time.monotonic`."""
        first = time.monotonic()
        began = {one.name: self.cables.spoil(self._cable[one.name], one.fault) for one in self.fared}
        deadline = time.monotonic() + for_s
        while time.monotonic() < deadline:
            for one in self.fared:
                if one.found_s is None and self.state(one.name) != "streaming":
                    # Decoders make pictures of some of the noise.
                    last = self._seen[one.name].at[-1:] or [0.0]
                    one.found_s = time.monotonic() - max(began[one.name], *last)
            time.sleep(0.02)
        return first

    def mend_all(self, deadline_s: float) -> float:
        """Mend everything, and note when each camera streams again; when all do, `time.monotonic`."""
        frames = {one.name: self.service.cameras[one.name].frames for one in self.fared}
        mended = {one.name: self.cables.mend(self._cable[one.name]) for one in self.fared}
        deadline = time.monotonic() + deadline_s
        away = list(self.fared)
        while away and time.monotonic() < deadline:
            for one in away[:]:
                camera = self.service.cameras[one.name]
                if camera.state == "streaming" and camera.frames > frames[one.name]:
                    one.back_s = time.monotonic() - mended[one.name]
                    away.remove(one)
            time.sleep(0.02)
        return time.monotonic()

    def note_reasons(self) -> None:
        """Note what was said of each camera's loss."""
        for kept in self.sink.messages:
            name, _, what = kept.topic.partition("/")
            for one in self.fared:
                if one.name == name and what == "status" and kept.data["reason"]:
                    one.reasons.append(kept.data["reason"])


def source_of(kind: Kind, port: int, path: str) -> dict[str, Any]:
    """Its configuration: all defaults, but for the transport."""
    url = f"{'rtsp' if kind in OVER_RTSP else 'http'}://127.0.0.1:{port}/{path}"
    if kind == "snapshot":
        return {"type": "snapshot", "url": url.replace("stream.mjpg", "snap.jpg"), "every": "500ms"}
    if kind in OVER_UDP:
        return {"type": kind.removesuffix("-udp"), "url": url, "transport": "udp"}
    type_ = {"rtsp": "rtsp", "http": "rtsp", "gstreamer": "gstreamer"}.get(kind, "opencv")
    return {"type": type_, "url": url}


def _noting(offer: Any, gaps: Gaps) -> Any:
    def noted(frame: Frame) -> None:
        gaps.at.append(time.monotonic())
        offer(frame)

    return noted
