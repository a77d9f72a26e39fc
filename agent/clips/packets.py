"""A stream's packets, and what a file has to say of the stream."""

from __future__ import annotations

import io
from dataclasses import dataclass
from typing import Any

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
