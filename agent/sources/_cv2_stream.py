"""Reading a stream behind a URL through OpenCV."""

from __future__ import annotations

import time
from threading import Event
from typing import cast

from agent.errors import SourceError
from agent.frame import Timestamp
from agent.sources import Intake, Pictures
from agent.sources._cv2 import MOST_FAILURES, bgr_image, fourcc, too_large
from agent.sources._decoded import decoding
from agent.sources._faults import SILENT, fault
from engines.picture_files import decoded
from engines.pixels import Plane
from engines.quiet import quiet_opencv

_HELD = ("h264", "avc1", "hevc", "hev1", "hvc1")
"""Codecs whose pictures FFmpeg releases only when the next one begins."""


class Stream:
    """A stream behind a URL: read as fast as it comes, so that nothing waits inside OpenCV."""

    def __init__(self, address: str, label: str, patience_s: tuple[float, float], intake: Intake) -> None:
        """`patience_s`: to connect, and between two pictures."""
        cv2 = self._cv2 = quiet_opencv()
        timeout_s, silence_s = patience_s
        self._label, self._intake = label, intake
        self._silence_ns = round(silence_s * 1e9)
        options = [cv2.CAP_PROP_OPEN_TIMEOUT_MSEC, round(timeout_s * 1000)]
        options += [cv2.CAP_PROP_READ_TIMEOUT_MSEC, round(silence_s * 1000)]
        options += [cv2.CAP_PROP_N_THREADS, 1]  # each further thread holds one more picture back
        asked = time.monotonic()
        self._capture = cv2.VideoCapture(address, cv2.CAP_FFMPEG, options)
        if not self._capture.isOpened():
            self._capture.release()
            left_s = timeout_s - (time.monotonic() - asked)
            if left_s <= 0:
                raise SourceError(f"{self._label}: {SILENT}")
            raise _reason(address, label, max(left_s, timeout_s / 2))
        if why := too_large(self._capture):
            self._capture.release()
            raise SourceError(f"{self._label}: {why}")
        self._codec = fourcc(self._capture.get(cv2.CAP_PROP_FOURCC))
        # OpenCV would go on scaling to the first picture's size after a change; JPEGs it hands out as they are.
        self._jpeg = self._codec in ("mjpg", "jpeg") and self._capture.set(cv2.CAP_PROP_FORMAT, -1)
        rate = self._capture.get(cv2.CAP_PROP_FPS)
        self._frame_ns = round(1e9 / rate) if 0 < rate < 1000 else 40_000_000
        intake.facts.update(codec=self._codec, rate=f"{rate:g}")

    def close(self) -> None:
        """Close the connection."""
        self._capture.release()

    def pictures(self, stop: Event) -> Pictures:
        """Decode until `stop`. A camera that ends its stream, or is silent, is a SourceError."""
        failures = unread = 0
        good_ns = time.monotonic_ns()
        released_ns = good_ns - self._frame_ns
        while not stop.is_set():
            asked_ns = time.monotonic_ns()
            grabbed = self._capture.grab()
            now_ns = time.monotonic_ns()
            # When a read is given up, one last picture may come out as if all were well.
            if now_ns - asked_ns >= self._silence_ns:
                raise SourceError(f"{self._label}: {SILENT}")
            arrived_ns, released_ns = (released_ns if self._codec in _HELD else now_ns), now_ns
            plane = self._decoded() if grabbed else None
            if plane is None:
                failures += 1
                if grabbed:
                    self._skip(1)
                else:
                    unread += 1  # damaged, or the end of the stream: what comes next tells
                if failures >= MOST_FAILURES or now_ns - good_ns >= self._silence_ns:
                    raise SourceError(f"{self._label}: the camera has ended the stream, or sends what is no video")
                self._intake.alive()
                continue
            if unread:
                self._skip(unread)
            failures = unread = 0
            good_ns = now_ns
            wall_ns, now_ns = time.time_ns(), time.monotonic_ns()
            captured = Timestamp(wall_ns - (now_ns - arrived_ns), arrived_ns, "receive", wall_ns)
            yield captured, bgr_image(plane, self._intake)

    def _skip(self, count: int) -> None:
        self._intake.skip(f"{self._label}: a damaged picture ({self._codec})", count)

    def _decoded(self) -> Plane | None:
        whole, data = self._capture.retrieve()
        if whole and self._jpeg:
            return decoded(data.tobytes())
        return cast(Plane, data) if whole else None


def _reason(address: str, label: str, timeout_s: float) -> SourceError:
    """Why OpenCV could not open a URL: it does not say, but FFmpeg does when asked directly."""
    import av

    try:
        # Whether it answers is all that we want to know: a short look.
        options = decoding() | {"analyzeduration": "100000"}
        options |= {"rtsp_transport": "tcp"} if address.startswith("rtsp") else {}
        with av.open(address, options=options, timeout=(timeout_s, timeout_s), metadata_errors="replace"):
            return SourceError(f"{label}: OpenCV finds no video in it that it can decode")
    except (av.error.FFmpegError, OSError) as error:
        return fault(label, error, address=address)
