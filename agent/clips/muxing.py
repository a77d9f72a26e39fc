"""A clip's file: packets of a stream as they are, with the stamps that a file needs."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path
from typing import Any

from agent.clips.packets import Packet, Template


class ClipFile:
    """One file that is being written. Raises OSError (av's errors are such), ValueError for what no file takes.

    Times begin with 0; a packet without a stamp, or with one that jumps back, follows the one before it.
    """

    def __init__(self, path: Path, template: Template) -> None:
        import av

        self._container = av.open(f"file:{path}", "w", format=template.format)
        self._template = template
        self._stream: Any = self._container.add_stream_from_template(template.stream, opaque=True)
        self._stream.time_base = template.stream.time_base
        self._first: int | None = None
        self._last = -1
        self._step = 1
        self.bytes = 0

    def add(self, packet: Packet) -> None:
        """Write the next one."""
        import av

        dts = packet.dts if packet.dts is not None else packet.pts
        if self._first is None:
            self._first = dts or 0
        dts = self._last + self._step if dts is None else max(self._last + 1, dts - self._first)
        pts = dts if packet.pts is None else max(dts, packet.pts - self._first)
        if self._last >= 0:
            self._step = dts - self._last
        self._last = dts
        written = av.Packet(packet.data)
        written.stream, written.time_base = self._stream, self._template.stream.time_base
        written.dts, written.pts, written.duration = dts, pts, packet.duration
        written.is_keyframe = packet.key
        self._container.mux(written)
        self.bytes += len(packet.data)

    def close(self) -> None:
        """Write what a player needs to find its way in it."""
        self._container.close()

    def give_up(self) -> None:
        """Close a file that is of no use."""
        with suppress(OSError, ValueError):
            self._container.close()
