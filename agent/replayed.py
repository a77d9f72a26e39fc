"""Stand-ins for a camera, as many as one wants: its stream, recorded for a few seconds, in real time over and over.

Each stand-in decodes for itself, in a phase of its own. A picture is as old as if its packets had come from the camera
when they were due: what decoding takes, or the wait for it, is in its age. Reading a camera takes more CPU time than
reading its recording: both are measured, and each stand-in spends the difference.
"""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from hashlib import sha256
from pathlib import Path
from statistics import median
from threading import Event
from typing import Any

import numpy as np
from pydantic import InstanceOf

from agent.clips.muxing import ClipFile
from agent.clips.packets import Packet, Template
from agent.errors import SourceError
from agent.frame import Timestamp
from agent.sources import Intake, Pictures, SourceConfig
from agent.sources.file import Config as VideoFile
from agent.sources.images import Config as Images
from agent.sources.synthetic import Config as Synthetic
from engines.pixels import Image

MOST_PICTURES = 30
"""Of a source without packets, kept in memory."""
LATE_NS = 500_000_000
"""A machine that is so far behind does not get what came meanwhile: a camera's packets are not kept for longer."""
SAME = 0.25
"""As near as this, a few seconds cannot tell the rate from the one that the stream claims."""
SETTLED_S = 1.0
"""After the first picture: what piled up while a camera was opened comes at once."""
_WORK = bytes(16384)
"""To be hashed: a few hundredths of a millisecond."""


@dataclass(frozen=True, eq=False)
class Recorded:
    """A camera that can be replayed."""

    source: SourceConfig | None
    """Every picture of it, over and over; None: `pictures` are all there is."""
    pictures: tuple[Image, ...]
    rate: float
    """Frames a second of the camera."""
    size: tuple[int, int]
    codec: str
    said: str
    """Whether replaying it decodes."""
    held_s: float = 0.0
    """How old a picture of it is when its packets come: what the parser holds back."""
    reading_s: float = 0.0
    """CPU time of a picture that replaying it does not take: the network's, and what pictures that are kept cost."""


class Replayed(SourceConfig):
    """One stand-in."""

    recorded: InstanceOf[Recorded]
    rate: float
    copy_number: int

    @property
    def label(self) -> str:
        """Which."""
        return f"stand-in {self.copy_number + 1}"

    @contextmanager
    def open(self, stop: Event, intake: Intake) -> Iterator[Pictures]:
        """See SourceConfig."""
        intake.facts.update(codec=self.recorded.codec, rate=f"{self.rate:g}")
        if self.recorded.source is None:
            yield self._paced(itertools.cycle(self.recorded.pictures), stop)
            return
        with self.recorded.source.open(stop, intake) as pictures:
            yield self._paced((image for _, image in pictures), stop)

    def _paced(self, images: Iterator[Image], stop: Event) -> Pictures:
        # No two stand-ins in step, however many there are: the golden ratio's multiples are spread evenly.
        start_ns = time.monotonic_ns() + round(self.copy_number * 0.618034 % 1 / self.rate * 1e9)
        held_ns = round(self.recorded.held_s * 1e9)
        for index in itertools.count():
            due_ns = start_ns + round(index * 1e9 / self.rate)
            if stop.wait(max(0.0, (due_ns - time.monotonic_ns()) / 1e9)):
                return
            image = next(images, None)
            if image is None:
                return
            _spend(self.recorded.reading_s)
            now_ns, wall_ns = time.monotonic_ns(), time.time_ns()
            if now_ns - due_ns > LATE_NS:
                start_ns += now_ns - due_ns
                due_ns = now_ns
            came_ns = due_ns - held_ns
            yield Timestamp(wall_ns - (now_ns - came_ns), came_ns, "receive", wall_ns), image


def record(source: SourceConfig, seconds: float, folder: Path) -> Recorded:
    """Look at a camera for so long, and keep what is to be replayed, a file in `folder`. Raises SourceError."""
    if isinstance(source, Synthetic):
        return _endless(source.model_copy(update={"pace": "lossless", "frames": None}), "made, not decoded")
    if isinstance(source, VideoFile):
        return _endless(source.model_copy(update={"pace": "lossless", "loop": True}), "decoded")
    if isinstance(source, Images):
        return _endless(source.model_copy(update={"pace": "lossless", "loop": True, "watch": False}), "decoded")
    return _from_camera(source, seconds, folder)


def _endless(source: SourceConfig, said: str, rate: float | None = None) -> Recorded:
    intake = Intake()
    with source.open(Event(), intake) as pictures:
        size = next(pictures)[1].size
    facts = intake.facts
    return Recorded(source, (), rate or float(facts["rate"]), size, facts.get("codec", "unknown"), said)


class _ToFile:
    """Writes a stream's packets into a file, from the first key frame on."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._template: Template | None = None
        self._file: ClipFile | None = None
        self.path: Path | None = None
        """Of what has been written."""

    def opened(self, stream: Any) -> None:
        """See Tap."""
        with suppress(ValueError):  # a codec that no file takes: its pictures are kept instead
            self._template = Template(stream)

    def packet(self, packet: Any) -> None:
        """See Tap."""
        if self._template is None or not packet.size:
            return
        if self._file is None and packet.is_keyframe:
            self.path = self._folder / f"camera{self._template.suffix}"
            self._file = ClipFile(self.path, self._template)
        if self._file is not None:
            copy = Packet(bytes(packet), packet.pts, packet.dts, packet.duration or 0, packet.is_keyframe)
            self._file.add(copy)

    def close(self) -> None:
        """Nothing more is written."""
        if self._file is not None:
            self._file.close()


@dataclass(frozen=True)
class _Look:
    """At a source that gives pictures in real time."""

    rate: float
    age_s: float
    """Median of its pictures when they came."""
    cpu_s: float
    """Of a picture: of all threads, since some sources have their own."""


def _look(
    source: SourceConfig, seconds: float, intake: Intake, keep: Callable[[Image], None] = lambda _: None
) -> _Look:
    """Read for so long; nothing else is at work meanwhile. What `keep` takes does not count."""
    stamps: list[int] = []
    ages_s: list[float] = []
    opened_s = began_s = kept_s = 0.0
    with source.open(Event(), intake) as pictures:
        for captured, image in pictures:
            now_s, before_s = time.monotonic(), time.process_time()
            keep(image)
            kept_s += time.process_time() - before_s
            opened_s = opened_s or now_s
            if now_s - opened_s < SETTLED_S:
                continue
            if not stamps:
                began_s, kept_s = time.process_time(), 0.0
            stamps.append(captured.monotonic_ns)
            ages_s.append(now_s - captured.monotonic_ns / 1e9)
            if len(stamps) > 1 and stamps[-1] - stamps[0] >= seconds * 1e9:
                break
        used_s = time.process_time() - began_s - kept_s
    many = len(stamps) - 1
    if many < 1:
        raise SourceError(f"{source.label}: gave too few pictures to go by")
    return _Look(many / (stamps[-1] - stamps[0]) * 1e9, median(ages_s), used_s / many)


def _from_camera(source: SourceConfig, seconds: float, folder: Path) -> Recorded:
    tap = _ToFile(folder)
    intake = Intake(tap=tap)
    kept: list[Image] = []

    def keep(image: Image) -> None:
        if tap.path is None and len(kept) < MOST_PICTURES:
            planes = tuple(map(np.copy, image.planes))
            kept.append(Image(planes, image.format, image.matrix, image.range, image.size))

    camera = _look(source, seconds, intake, keep)
    tap.close()
    said = float(intake.facts.get("rate", 0))
    rate = said if abs(camera.rate - said) < SAME * said else round(camera.rate, 1)
    if tap.path is None:
        codec = intake.facts.get("codec", "unknown")
        recorded = Recorded(None, tuple(kept), rate, kept[0].size, codec, "kept as pictures")
    else:
        packets = VideoFile(path=tap.path, loop=True)
        held_s = max(0.0, camera.age_s - _decode_s(packets))
        recorded = replace(_endless(packets, "decoded", rate), held_s=held_s)
    # At the camera's pace, since what is seldom done takes longer each time; but we do not wait long for it.
    stand_in = _look(Replayed(recorded=recorded, rate=max(rate, 1.0), copy_number=0), seconds, Intake())
    return replace(recorded, reading_s=max(0.0, camera.cpu_s - stand_in.cpu_s))


def _decode_s(source: VideoFile) -> float:
    """How long decoding a picture takes."""
    times = []
    with source.open(Event(), Intake()) as pictures:
        before = time.monotonic()
        for _ in itertools.islice(pictures, 100):
            now = time.monotonic()
            times.append(now - before)
            before = now
    return median(times) if times else 0.0


def _spend(cpu_s: float) -> None:
    """Take so much CPU time, as FFmpeg would: without the interpreter's lock."""
    until = time.thread_time() + cpu_s
    while time.thread_time() < until:
        sha256(_WORK)
