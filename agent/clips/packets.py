"""A stream's packets on their way from a source to the clips: copied once, for however many cameras."""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from agent.frame import Timestamp

if TYPE_CHECKING:
    from agent.clips.reel import CameraReel

IN_MP4 = ("h264", "hevc", "av1", "mpeg4")
"""Codecs that players expect in an MP4; all others go into Matroska."""


@dataclass(frozen=True, eq=False)
class Packet:
    """One packet as the stream had it."""

    data: bytes
    pts: int | None
    dts: int | None
    duration: int
    key: bool


class Template:
    """What a file has to say of the stream in it. Outlives the connection that it was made of."""

    def __init__(self, stream: Any) -> None:
        """`stream` is an av.VideoStream. Raises ValueError for a codec that no file of ours can hold."""
        import av

        # A stream dies with its container: this one is never written.
        self._holder = av.open(io.BytesIO(), "w", format="matroska")
        self.stream: Any = self._holder.add_stream_from_template(stream, opaque=True)
        mp4 = stream.codec.canonical_name in IN_MP4  # a decoder may be called otherwise: libdav1d
        self.format, self.suffix = ("mp4", ".mp4") if mp4 else ("matroska", ".mkv")


class PacketTap:
    """Hands one source's packets to the reels of its cameras; called by its capture thread alone."""

    def __init__(self, reels: Sequence[CameraReel]) -> None:
        self._reels = list(reels)

    def opened(self, stream: Any) -> None:
        """A connection's stream (av.VideoStream), or a file's, read from its beginning."""
        try:
            template = Template(stream)
        except ValueError as error:
            template = None
            for reel in self._reels:
                reel.refused(str(error))
        for reel in self._reels:
            reel.opened(template)

    def packet(self, packet: Any) -> None:
        """The next one (av.Packet), before it is decoded."""
        copy = Packet(bytes(packet), packet.pts, packet.dts, packet.duration or 0, packet.is_keyframe)
        for reel in self._reels:
            reel.packet(copy)

    def picture(self, captured: Timestamp, size: tuple[int, int]) -> None:
        """A picture came out of the packets so far: that is how they get the camera's own time."""
        for reel in self._reels:
            reel.picture(captured.monotonic_ns, size)

    def closed(self) -> None:
        """The connection is gone."""
        for reel in self._reels:
            reel.closed()
