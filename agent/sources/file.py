"""Video files: every frame, as fast as the engines take them, or in real time like a camera."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from threading import Event
from typing import Any, Literal

from agent.errors import SourceError
from agent.frame import Timestamp
from agent.sources import Intake, Pictures, SourceConfig
from agent.sources._decoded import image_of
from engines.pixels import Image


class Config(SourceConfig):
    """`{type: file, path: street.mp4, pace: live, loop: true}`, or just the path."""

    type: Literal["file"] = "file"
    path: Path
    pace: Literal["lossless", "live"] = "lossless"
    """lossless: every frame, none faster than it is looked at; live: in real time, newest wins."""
    loop: bool = False
    """Start again at the end; time goes on."""

    @property
    def lossless(self) -> bool:
        """See SourceConfig."""
        return self.pace == "lossless"

    @property
    def label(self) -> str:
        """The path."""
        return str(self.path)

    @contextmanager
    def open(self, stop: Event, intake: Intake) -> Iterator[Pictures]:
        """See SourceConfig."""
        reader = _Reader(self, intake)
        frames = reader.frames(stop)
        yield _paced(frames, stop) if self.pace == "live" else _recorded(frames, reader.recorded_ns())
        frames.close()


class _Reader:
    """Decodes a file, over and over if it loops."""

    def __init__(self, config: Config, intake: Intake) -> None:
        self._config, self._intake = config, intake
        self._container = self._open()
        stream = self._container.streams.video[0]
        context = stream.codec_context
        intake.facts.update(
            codec=context.name, size=f"{context.width}x{context.height}", rate=f"{float(stream.average_rate or 0):g}"
        )
        self._frame_ns = round(1e9 / float(stream.average_rate or 25))

    def recorded_ns(self) -> int:
        """When the recording began, Unix ns: what the file says of itself, else when it was last written."""
        said = self._container.metadata.get("creation_time")
        try:
            return round(datetime.fromisoformat(str(said).replace("Z", "+00:00")).timestamp() * 1e9)
        except ValueError:
            return self._config.path.stat().st_mtime_ns

    def frames(self, stop: Event) -> Iterator[tuple[int, Image]]:
        """(position in ns, picture); positions go on over loops."""
        base_ns, last_ns = 0, -self._frame_ns
        try:
            while not stop.is_set():
                before_ns = last_ns
                for position_ns, image in self._once(stop):
                    # A file whose stamps jump back must not make time go back.
                    last_ns = max(base_ns + position_ns, last_ns + 1)
                    yield last_ns, image
                if last_ns == before_ns and not stop.is_set():
                    raise SourceError(f"{self._config.label}: no frame of it can be decoded")
                if not self._config.loop:
                    return
                base_ns = last_ns + self._frame_ns
                self._container.close()
                self._container = self._open()
        finally:
            self._container.close()

    def _open(self) -> Any:
        import av

        path = self._config.path
        try:
            container = av.open(str(path))
        except (av.error.FFmpegError, OSError) as error:
            raise SourceError(f"{path}: cannot be opened: {error.strerror or error}") from None
        if not container.streams.video:
            container.close()
            raise SourceError(f"{path}: has no video in it")
        # One thread: the engines have the other cores, and each further thread holds a frame back.
        container.streams.video[0].thread_count = 1
        return container

    def _once(self, stop: Event) -> Iterator[tuple[int, Image]]:
        import av

        stream = self._container.streams.video[0]
        start = stream.start_time or 0
        position_ns = -self._frame_ns
        packets = self._container.demux(stream)
        while not stop.is_set():
            try:
                packet = next(packets, None)
                if packet is None:
                    return
                decoded = packet.decode()
            except av.error.FFmpegError as error:
                self._intake.unreadable += 1
                self._intake.last_error = f"{self._config.label}: {error.strerror}"
                continue
            for frame in decoded:
                known = frame.pts is not None
                position_ns = (
                    round((frame.pts - start) * frame.time_base * 1_000_000_000)
                    if known
                    else position_ns + self._frame_ns
                )
                yield position_ns, image_of(frame, self._intake)


def _recorded(frames: Iterator[tuple[int, Image]], began_ns: int) -> Pictures:
    for position_ns, image in frames:
        yield Timestamp(began_ns + position_ns, position_ns, "file", None), image


def _paced(frames: Iterator[tuple[int, Image]], stop: Event) -> Pictures:
    """Each frame when its time has come; a machine that cannot keep up gets it late, as with any decoder."""
    start_ns: int | None = None
    for position_ns, image in frames:
        now_ns = time.monotonic_ns()
        if start_ns is None:
            start_ns = now_ns - position_ns
        if stop.wait(max(0.0, (start_ns + position_ns - now_ns) / 1e9)):
            return
        wall_ns, now_ns = time.time_ns(), time.monotonic_ns()
        yield Timestamp(wall_ns, now_ns, "receive", wall_ns), image
