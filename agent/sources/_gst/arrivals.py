"""When each picture's data came, and whether it is whole: seen at the decoder's door, before anything reorders it."""

from __future__ import annotations

import threading
import time
from typing import Any, NamedTuple

from agent.sources import Intake
from agent.sources._gst.bindings import gstreamer

_KEPT = 64
"""Pictures that are remembered: far more than any decoder holds back."""
_MOST_AWAITED = 300
"""Pictures to wait for a key frame: ten seconds. Some encoders never send a second one, but refresh bit by bit."""
_NTP_TO_UNIX_NS = 2_208_988_800 * 10**9
"""From 1900 to 1970: RFC 5905, section 6."""
_EPOCHS = {"timestamp/x-ntp": _NTP_TO_UNIX_NS, "timestamp/x-unix": 0}
_CODECS = {"h265": "hevc", "jpeg": "mjpeg"}


class Arrival(NamedTuple):
    """One coded picture."""

    monotonic_ns: int
    wall_ns: int | None
    """Capture time by the camera's RTCP report."""
    whole: bool
    """Nothing that it is predicted from is known to be missing."""
    damaged: bool
    """It is not whole because something was lost, rather than because we have just joined."""


class Arrivals:
    """Watches the door of every video decoder of a pipeline.

    A loss shows as a discontinuity there (sequence numbers of RTP, queues that leak, breaks of a transport stream), and
    spoils what comes up to the next key frame. What a decoder conceals for other reasons (bits that fell over inside a
    packet, pictures that the camera itself left out) does not show: see `docs/configuring.md`.
    """

    def __init__(self, intake: Intake) -> None:
        self._intake = intake
        self._lock = threading.Lock()  # filled by GStreamer's threads, emptied by the capture thread
        self._arrived: dict[int, Arrival] = {}
        self._last: Arrival | None = None
        self._awaited: int | None = 0
        """Pictures without a key frame so far; None once there was one."""
        self._lost = False

    @property
    def last_ns(self) -> int:
        """When the last coded picture came, monotonic; 0: none yet."""
        return 0 if self._last is None else self._last.monotonic_ns

    def take(self, pts: int) -> Arrival | None:
        """What is known of the picture with this stamp, or of the last one; None where there is no decoder."""
        with self._lock:
            return self._arrived.pop(pts, self._last)

    def meet(self, element: Any) -> None:
        """Watch an element's door if it is a video decoder."""
        factory, pad = element.get_factory(), element.get_static_pad("sink")
        kind = (factory.get_metadata("klass") or "").split("/") if factory is not None else []
        if pad is None or "Decoder" not in kind or not {"Video", "Image"} & set(kind):
            return
        self._intake.facts["decoder"] = factory.get_name()
        pad.add_probe(gstreamer().PadProbeType.BUFFER, self._came)

    def _came(self, pad: Any, info: Any) -> Any:
        now_ns = time.monotonic_ns()
        gst = gstreamer()
        buffer = info.get_buffer()
        if self._last is None:
            self._intake.facts["codec"] = _codec(pad)
        delta = buffer.has_flags(gst.BufferFlags.DELTA_UNIT)
        if delta and self._last is not None and buffer.has_flags(gst.BufferFlags.DISCONT):
            self._awaited, self._lost = 0, True
        if self._awaited is not None:
            if not delta or self._awaited >= _MOST_AWAITED:
                self._awaited, self._lost = None, False
            else:
                self._awaited += 1
        self._last = Arrival(now_ns, _captured_ns(buffer), self._awaited is None, self._lost)
        if buffer.pts != gst.CLOCK_TIME_NONE:
            with self._lock:
                self._arrived[buffer.pts] = self._last
                if len(self._arrived) > _KEPT:
                    del self._arrived[next(iter(self._arrived))]
        return gst.PadProbeReturn.OK


def _captured_ns(buffer: Any) -> int | None:
    meta = buffer.get_reference_timestamp_meta(None)
    if meta is None or meta.reference is None:
        return None
    epoch_ns = _EPOCHS.get(meta.reference.get_structure(0).get_name())
    return None if epoch_ns is None else int(meta.timestamp) - epoch_ns


def _codec(pad: Any) -> str:
    """`video/x-h264` -> h264, by the names that FFmpeg gives them."""
    caps = pad.get_current_caps()
    name = caps.get_structure(0).get_name() if caps is not None and caps.get_size() else "unknown"
    short = name.rpartition("/")[2].removeprefix("x-")
    return _CODECS.get(short, short)
