"""Video files: every frame, as fast as the engines take them, or in real time like a camera."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import datetime
from pathlib import Path
from threading import Event
from typing import Any, Literal

from agent.durations import Seconds
from agent.errors import SourceError
from agent.sources import Intake, Pictures, SourceConfig
from agent.sources._decoded import Decoder, decoding
from agent.sources._recording import Pace, paced, played, recorded
from engines.pixels import Image


class Config(SourceConfig):
    """`{type: file, path: street.mp4, pace: live, loop: true}`, or just the path."""

    type: Literal["file"] = "file"
    path: Path
    pace: Pace = "lossless"
    loop: bool = False
    """Start again at the end; time goes on."""
    start: Seconds = 0.0
    """Leave out what comes before this time of the recording."""

    @property
    def lossless(self) -> bool:
        """See SourceConfig."""
        return self.pace == "lossless"

    @property
    def has_packets(self) -> bool:
        """See SourceConfig."""
        return True

    @property
    def label(self) -> str:
        """The path."""
        return str(self.path)

    def frames(self) -> int:
        """How many frames the file has by its packets, damaged ones too; nothing is decoded. Raises SourceError."""
        reader = _Reader(self, Intake())
        try:
            return reader.packets()
        finally:
            reader.close()

    @contextmanager
    def open(self, stop: Event, intake: Intake) -> Iterator[Pictures]:
        """See SourceConfig."""
        reader = _Reader(self, intake)
        try:
            frames = reader.frames(stop)
            yield paced(frames, stop) if self.pace == "live" else recorded(frames, reader.recorded_ns())
        finally:
            reader.close()


class _Reader:
    """Decodes a file, over and over if it loops."""

    def __init__(self, config: Config, intake: Intake) -> None:
        self._config, self._intake = config, intake
        self._container, self._decoder = self._open()
        self._frame_ns = round(1e9 / self._decoder.rate)

    def close(self) -> None:
        """Close the file; pictures already read stay valid."""
        self._container.close()

    def packets(self) -> int:
        """How many there are, up to where the file is damaged; reads to its end."""
        import av

        count = 0
        with suppress(av.error.FFmpegError, OSError):
            for packet in self._container.demux(video=0):
                count += packet.size > 0
        return count

    def recorded_ns(self) -> int:
        """When its first picture was taken, Unix ns: by what the file says of itself, else when it was last written."""
        return self._begun_ns() + round(self._config.start * 1e9)

    def _begun_ns(self) -> int:
        said = self._container.metadata.get("creation_time")
        try:
            return round(datetime.fromisoformat(str(said).replace("Z", "+00:00")).timestamp() * 1e9)
        except ValueError:
            return self._config.path.stat().st_mtime_ns

    def frames(self, stop: Event) -> Iterator[tuple[int, Image]]:
        """(position in ns, picture); positions go on over loops."""
        again = self._again if self._config.loop else None
        return played(self._once, again, stop, self._config.label, self._frame_ns)

    def _again(self) -> None:
        self._container.close()
        self._container, self._decoder = self._open()

    def _open(self) -> tuple[Any, Decoder]:
        import av

        label = self._config.label
        try:
            # The prefix keeps FFmpeg from taking a name such as `a:b.mp4` for a protocol.
            container = av.open(f"file:{self._config.path}", options=decoding(), metadata_errors="replace")
        except (av.error.FFmpegError, OSError) as error:
            raise SourceError(f"{label}: cannot be opened: {error.strerror or type(error).__name__}") from None
        try:
            if not container.streams.video:
                raise SourceError(f"{label}: has no video in it")
            decoder = Decoder(container.streams.video[0], label, self._intake)
            if self._intake.tap:
                self._intake.tap.opened(container.streams.video[0])
            return container, decoder
        except SourceError:
            container.close()
            raise

    def _once(self, stop: Event) -> Iterator[tuple[int, Image]]:
        import av

        stream = self._container.streams.video[0]
        start = stream.start_time or 0
        skipped_ns = round(self._config.start * 1e9)
        position_ns = -self._frame_ns
        packets = self._container.demux(stream)
        while not stop.is_set():
            try:
                packet = next(packets, None)
            except (av.error.FFmpegError, OSError) as error:
                self._decoder.damage(error.strerror or type(error).__name__)
                return
            if packet is None:
                return
            if self._intake.tap and packet.size:
                self._intake.tap.packet(packet)
            for frame in self._decoder.decode(packet):
                if frame.pts is None:
                    position_ns += self._frame_ns
                else:
                    position_ns = round((frame.pts - start) * frame.time_base * 1_000_000_000)
                if position_ns >= skipped_ns:
                    yield position_ns - skipped_ns, self._decoder.image(frame)
