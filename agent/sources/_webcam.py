"""Reading a V4L2 camera through OpenCV: the newest picture, when the driver says it was taken."""

from __future__ import annotations

import logging
import os
import time
from pathlib import Path
from threading import Event
from typing import Any

from agent.errors import SourceError
from agent.frame import Timestamp
from agent.sources import Intake, Pictures
from agent.sources._cv2 import MOST_FAILURES, bgr_image, fourcc
from agent.sources._faults import SILENT
from engines.pixels import Image, Plane
from engines.quiet import quiet_opencv

log = logging.getLogger(__name__)

_BUFFERS = 2
"""One is filled while the other is decoded."""
_SLICE_NS = 100_000_000
_SANE_AGE_NS = 10_000_000_000
"""A stamp farther from now is on another clock than ours: few drivers do not use the monotonic one."""
_AS_THEY_ARE = ("nv12", "yu12", "grey")
"""Formats that the engines read without a conversion to BGR."""


class Webcam:
    """An open /dev/videoN. `wish`: pixel format, width, height and rate, each None where anything will do."""

    def __init__(
        self,
        path: Path,
        label: str,
        wish: tuple[str | None, int | None, int | None, float | None],
        timeout_s: float,
        intake: Intake,
    ) -> None:
        self._cv2 = quiet_opencv()
        self._path, self._label, self._timeout_s, self._intake = path, label, timeout_s, intake
        self._capture: Any = self._cv2.VideoCapture(str(path), self._cv2.CAP_V4L2)
        try:
            if not self._capture.isOpened():
                raise SourceError(f"{label}: {_why_not(path)}")
            self._configure(*wish)
        except BaseException:
            self._capture.release()
            raise

    def close(self) -> None:
        """Stop streaming and close the device."""
        self._capture.release()

    def pictures(self, stop: Event) -> Pictures:
        """The newest picture each time, until `stop`."""
        cv2, capture = self._cv2, self._capture
        failures, last_ns, stale = 0, 0, 0
        while self._await(stop):
            grabbed = capture.grab()
            captured = _stamp(capture.get(cv2.CAP_PROP_POS_MSEC), last_ns)
            # Decoded even where it is not wanted: only this makes OpenCV take the next one from the driver.
            plane: Any
            whole, plane = capture.retrieve() if grabbed else (False, None)
            if stale:
                stale -= 1
                self._intake.left_out += 1
                continue
            if not whole:
                failures += 1
                self._intake.skip(f"{self._label}: a damaged picture ({self._codec})")
                if failures >= MOST_FAILURES:
                    raise SourceError(f"{self._label}: {failures} pictures in a row cannot be decoded ({self._codec})")
                continue
            failures, last_ns = 0, captured.monotonic_ns
            given_ns = time.monotonic_ns()
            yield captured, self._image(plane)
            if time.monotonic_ns() - given_ns > _BUFFERS * self._frame_ns:
                stale = _BUFFERS  # meanwhile all buffers have filled with what is old now

    def _configure(self, pixels: str | None, width: int | None, height: int | None, rate: float | None) -> None:
        cv2, capture = self._cv2, self._capture
        if pixels is not None:
            capture.set(cv2.CAP_PROP_FOURCC, cv2.VideoWriter.fourcc(*pixels.upper().ljust(4)))
        if width is not None and height is not None:
            capture.set(cv2.CAP_PROP_FRAME_WIDTH, width)
            capture.set(cv2.CAP_PROP_FRAME_HEIGHT, height)
        if rate is not None:
            capture.set(cv2.CAP_PROP_FPS, rate)
        capture.set(cv2.CAP_PROP_BUFFERSIZE, _BUFFERS)
        self._codec = fourcc(capture.get(cv2.CAP_PROP_FOURCC))
        given_width, given_height = (int(capture.get(p)) for p in (cv2.CAP_PROP_FRAME_WIDTH, cv2.CAP_PROP_FRAME_HEIGHT))
        given_rate = capture.get(cv2.CAP_PROP_FPS)
        self._frame_ns = round(1e9 / max(1.0, given_rate))
        self._size = (given_width, given_height)
        even = not (given_width % 2 or given_height % 2)  # drivers round the chroma planes of others as they like
        self._raw = even and self._codec in _AS_THEY_ARE and capture.set(cv2.CAP_PROP_CONVERT_RGB, 0)
        self._intake.facts.update(codec=self._codec, size=f"{given_width}x{given_height}", rate=f"{given_rate:g}")
        refused = []
        if pixels is not None and pixels.lower() != self._codec:
            refused.append(f"pixel format {pixels}")
        if width is not None and (width, height) != self._size:
            refused.append(f"size {width}x{height}")
        if rate is not None and abs(rate - given_rate) > 0.5:
            refused.append(f"rate {rate:g}")
        if refused:
            self._intake.facts["not_given"] = ", ".join(refused)
            facts = self._intake.facts
            log.warning(
                "%s: the camera does not give %s but %s %s at %s (what it can: v4l2-ctl -d %s --list-formats-ext)",
                self._label, ", ".join(refused), facts["codec"], facts["size"], facts["rate"], self._path,
            )  # fmt: skip

    def _await(self, stop: Event) -> bool:
        """True when there is a picture, False where we are to stop."""
        deadline = time.monotonic() + self._timeout_s
        while not stop.is_set():
            if self._is_ready(_SLICE_NS):
                return True
            if time.monotonic() >= deadline:
                raise SourceError(f"{self._label}: {SILENT}")
            self._intake.alive()
        return False

    def _is_ready(self, timeout_ns: int) -> bool:
        try:
            return bool(self._cv2.VideoCapture.waitAny([self._capture], timeout_ns)[0])
        except self._cv2.error:
            gone = "was unplugged" if not self._path.exists() else "the driver reports an error"
            raise SourceError(f"{self._label}: {gone}") from None

    def _image(self, plane: Plane) -> Image:
        if not self._raw:
            return bgr_image(plane, self._intake)
        width, height = self._size
        if self._codec == "grey":
            return Image((plane,), "gray", "601", "full", self._size)
        luma, flat = plane[:height], plane[height:].reshape(-1)
        if self._codec == "nv12":
            return Image((luma, flat.reshape(height // 2, width // 2, 2)), "nv12", "601", "limited", self._size)
        u, v = flat.reshape(2, height // 2, width // 2)
        return Image((luma, u, v), "i420", "601", "limited", self._size)


def _stamp(driver_ms: float, last_ns: int) -> Timestamp:
    """When the driver got the picture, CLOCK_MONOTONIC; now, where it says nothing of use."""
    wall_ns, now_ns = time.time_ns(), time.monotonic_ns()
    taken_ns = round(driver_ms * 1e6)
    said = abs(now_ns - taken_ns) < _SANE_AGE_NS
    # Some drivers stamp when the picture will be complete, a little ahead of us.
    taken_ns = max(last_ns, min(taken_ns, now_ns)) if said else now_ns
    return Timestamp(wall_ns - (now_ns - taken_ns), taken_ns, "device" if said else "receive", wall_ns)


def _why_not(path: Path) -> str:
    if not os.access(path, os.R_OK | os.W_OK):
        return f"may not be opened: add the user to the group of {path} (usermod -aG video USER)"
    return f"cannot be opened: it does not capture video, or another program has it (fuser -v {path})"
