"""OpenCV's VideoCapture, without its chatter."""

from __future__ import annotations

import functools
import os
from typing import Any

from agent.sources import Intake
from engines.pixels import Image, Plane

MOST_FAILURES = 10
"""Reads that may fail in a row: OpenCV says neither what was wrong nor whether more can come."""


@functools.cache
def quiet() -> Any:
    """The module cv2, which from now on prints nothing on stderr: it would name addresses, passwords included."""
    # Read once, when FFmpeg is first used; -8 is AV_LOG_QUIET.
    os.environ.setdefault("OPENCV_FFMPEG_LOGLEVEL", "-8")
    import cv2

    cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_SILENT)
    return cv2


def fourcc(number: float) -> str:
    """The four letters of CAP_PROP_FOURCC, in small letters; empty where there are none."""
    return int(number).to_bytes(4, "little", signed=False).decode("ascii", "replace").strip("\0 ").lower()


def bgr_image(plane: Plane, intake: Intake) -> Image:
    """(H, W, 3) BGR as an Image; notes its size."""
    height, width = plane.shape[:2]
    intake.facts["size"] = f"{width}x{height}"
    return Image((plane,), "bgr", "601", "full", (width, height))
