"""Pictures that gave way to newer ones at the end of a pipeline: GStreamer drops them without a word."""

from __future__ import annotations

from collections import deque
from typing import Any

from agent.sources._gst.bindings import gstreamer

_KEPT = 256
"""Stamps that are remembered: of a reader that is so far behind, no more than these count."""


class Waiting:
    """The stamps of what came to the end of the pipeline and was not taken yet, in their order."""

    def __init__(self) -> None:
        # Filled by a thread of GStreamer's, emptied by the capture thread; each of a deque's steps is one.
        self._stamps: deque[int] = deque(maxlen=_KEPT)

    def watch(self, sink: Any) -> None:
        """Note what comes there."""
        sink.get_static_pad("sink").add_probe(gstreamer().PadProbeType.BUFFER, self._came)

    def _came(self, _pad: Any, info: Any) -> Any:
        self._stamps.append(info.get_buffer().pts)
        return gstreamer().PadProbeReturn.OK

    def take(self, pts: int) -> int:
        """The picture with this stamp is taken: how many before it never will be."""
        passed = 0
        while self._stamps:
            if self._stamps.popleft() == pts:
                return passed
            passed += 1
        return 0
