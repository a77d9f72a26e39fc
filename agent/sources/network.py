"""Network cameras: RTSP over TCP or UDP, and whatever else FFmpeg reads from a URL."""

from __future__ import annotations

import struct
import time
from collections.abc import Iterator
from contextlib import contextmanager
from threading import Event
from typing import Annotated, Any, Literal
from urllib.parse import urlsplit

from pydantic import AfterValidator, Field

from agent.errors import SourceError
from agent.frame import Timestamp
from agent.secrets import redact, with_credentials
from agent.sources import Intake, Pictures
from agent.sources._decoded import Decoder, decoding
from agent.sources._faults import SILENT, UNDECODABLE, fault
from agent.sources._patient import KEY_FRAME_S, Patient
from agent.sources._shorthand import NETWORK_SCHEMES
from agent.sources._url import expect_url

_KEPT_STAMPS = 64
"""Packets whose arrival is remembered: far more than any decoder holds back."""
_HELD = ("h264", "hevc")
"""Codecs whose packets FFmpeg's parser releases only when the next one begins."""


def _url(url: str) -> str:
    return expect_url(url, NETWORK_SCHEMES)


class Config(Patient):
    """`{type: rtsp, url: rtsp://10.0.0.7/stream1, username: cam, password: credential:dock}`, or just the URL."""

    type: Literal["rtsp"] = "rtsp"
    url: Annotated[str, AfterValidator(_url)] = Field(repr=False)
    transport: Literal["tcp", "udp"] = "tcp"

    @property
    def has_packets(self) -> bool:
        """See SourceConfig."""
        return True

    @property
    def label(self) -> str:
        """The URL without credentials."""
        return redact(self.url)

    @contextmanager
    def open(self, stop: Event, intake: Intake) -> Iterator[Pictures]:
        """See SourceConfig. A read that waits is given up after `silence_s`."""
        import av

        timeout = (self.timeout_s, self.silence_s)
        address = with_credentials(self.url, self.username, self.read_password())
        asked_ns = time.monotonic_ns()
        try:
            container = av.open(
                address,
                options=self._options(),
                timeout=timeout,
                metadata_errors="replace",
            )
        except (av.error.FFmpegError, OSError) as error:
            # What is given up half-way is "invalid data" to FFmpeg.
            silent = time.monotonic_ns() - asked_ns >= self.timeout_s * 1e9
            raise fault(self.label, error, silent=silent, address=address) from None
        try:
            if not container.streams.video:
                raise SourceError(f"{self.label}: has no video stream")
            yield _Stream(self, container, intake).pictures(stop)
        finally:
            container.close()

    def _options(self) -> dict[str, str]:
        # Short analysis: the first frame after 0.3 s instead of 1.7. No `nobuffer`: it throws the key frame away that
        # the analysis read.
        options = {"analyzeduration": "100000", **decoding()}
        if urlsplit(self.url).scheme.startswith("rtsp"):
            # Sound that goes on would hide that the pictures do not.
            options.update(rtsp_transport=self.transport, allowed_media_types="video")
        return options


class _Stream:
    """An open connection: its packets, when they came, and the pictures in them."""

    def __init__(self, config: Config, container: Any, intake: Intake) -> None:
        self._label, self._container = config.label, container
        self._silence_ns = round(config.silence_s * 1e9)
        self._stream = container.streams.video[0]
        self._decoder = Decoder(self._stream, config.label, intake)
        self._tap, self._alive = intake.tap, intake.alive
        if self._tap:
            self._tap.opened(self._stream)
        self._frame_ns = round(1e9 / self._decoder.rate)
        self._held = self._stream.codec_context.name in _HELD
        self._arrived: dict[int, tuple[int, int | None]] = {}
        self._released_ns: int | None = None
        self._last_arrived_ns = 0

    def pictures(self, stop: Event) -> Pictures:
        """Decode until `stop`. A camera that ends its stream, or is silent, is a SourceError."""
        packets = self._container.demux()
        opened_ns = time.monotonic_ns()
        while not stop.is_set():
            packet = self._next(packets, stop)
            if packet is None:
                return
            self._note_arrival(packet)
            if self._tap:
                self._tap.packet(packet)
            for frame in self._decoder.decode(packet):
                yield self._captured(frame), self._decoder.image(frame)
            self._check_pictures(opened_ns)

    def _next(self, packets: Iterator[Any], stop: Event) -> Any:
        """The next packet with a picture in it, when it is complete; None once `stop` is set."""
        import av

        asked_ns = time.monotonic_ns()
        while not stop.is_set():
            try:
                packet = next(packets, None)
            except (av.error.FFmpegError, OSError) as error:
                raise fault(self._label, error) from None
            self._alive()
            # When a read is given up, FFmpeg first hands out what its parser holds, as if all were well. Sound, where
            # there is any, may go on without pictures.
            if time.monotonic_ns() - asked_ns >= self._silence_ns:
                raise SourceError(f"{self._label}: {SILENT}")
            if packet is None or packet.size == 0:
                raise SourceError(f"{self._label}: the camera has ended the stream")
            if packet.stream_index == self._stream.index:
                return packet
        return None

    def _check_pictures(self, opened_ns: int) -> None:
        """Raise SourceError where packets come, but for too long nothing comes of them."""
        now_ns, at_ns = time.monotonic_ns(), self._decoder.at_work_ns
        # A stream that we have just joined, or that was damaged, gives its next picture with its next key frame. One
        # that was good and now gives nothing whatever is not what we opened: its codec has changed, say.
        unheard = at_ns is not None and now_ns - at_ns >= self._silence_ns
        if unheard or now_ns - (self._decoder.whole_ns or opened_ns) >= max(KEY_FRAME_S * 1e9, self._silence_ns):
            raise SourceError(f"{self._label}: {UNDECODABLE}")

    def _note_arrival(self, packet: Any) -> None:
        """Remember when a packet's pixels came.

        FFmpeg's parser knows that a picture is complete when the first bytes of the next one are here, so what it
        releases now came when it released the one before: that is the known decode delay. After a pause of the stream
        that is long ago, and rightly so: the picture is from before the pause.
        """
        now_ns = time.monotonic_ns()
        before_ns, self._released_ns = self._released_ns, now_ns
        arrived_ns = now_ns
        if self._held:
            arrived_ns = now_ns - self._frame_ns if before_ns is None else before_ns
        wall_ns = None
        if packet.has_sidedata("prft"):
            wall_ns = struct.unpack("<q", bytes(packet.get_sidedata("prft"))[:8])[0] * 1000
        self._last_arrived_ns = arrived_ns
        if packet.pts is not None:
            self._arrived[packet.pts] = (arrived_ns, wall_ns)
            if len(self._arrived) > _KEPT_STAMPS:
                del self._arrived[next(iter(self._arrived))]

    def _captured(self, frame: Any) -> Timestamp:
        now_ns, wall_now_ns = time.monotonic_ns(), time.time_ns()
        arrived_ns, wall_ns = self._arrived.pop(frame.pts, (self._last_arrived_ns, None))
        if wall_ns is not None:
            return Timestamp(wall_ns, arrived_ns, "rtcp", wall_now_ns)
        return Timestamp(wall_now_ns - (now_ns - arrived_ns), arrived_ns, "receive", wall_now_ns)
