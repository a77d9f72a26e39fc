"""OpenCV's VideoCapture, without its chatter."""

from __future__ import annotations

import functools
import os
from typing import Any, cast

import numpy as np

from agent.sources import Intake
from engines.pixels import Image, Plane

MOST_FAILURES = 10
"""Reads that may fail in a row: OpenCV says neither what was wrong nor whether more can come."""


@functools.cache
def quiet() -> Any:
    """The module cv2, which from now on prints nothing on stderr: it would name addresses, passwords included."""
    # Read once, when FFmpeg is first used; -8 is AV_LOG_QUIET.
    os.environ.setdefault("OPENCV_FFMPEG_LOGLEVEL", "-8")
    import cv2 as module

    cv2: Any = module
    # OpenCV 5 has moved it; 0 is LOG_LEVEL_SILENT.
    set_level = cv2.utils.logging.setLogLevel if hasattr(cv2.utils, "logging") else cv2.setLogLevel
    set_level(0)
    return cv2


def fourcc(number: float) -> str:
    """The four letters of CAP_PROP_FOURCC, in small letters; empty where there are none."""
    return int(number).to_bytes(4, "little", signed=False).decode("ascii", "replace").strip("\0 ").lower()


def decoded(data: bytes) -> Plane | None:
    """An image file as (H, W, 3) BGR of 8 bits, turned as EXIF says, without transparency; None if it is damaged.

    OpenCV 4 decodes a JPEG that is cut off all the same, the rest of it black: such is damaged, too. Neither of the two
    markers can occur in the compressed data between them. Of a PNG that is cut off, libpng complains on stderr.
    """
    cv2 = quiet()
    if data[:2] == b"\xff\xd8" and data.rfind(b"\xff\xd9") < data.rfind(b"\xff\xda"):
        return None
    if data[:4] == b"\x89PNG" and b"IEND" not in data:
        return None
    try:
        return cast("Plane | None", cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR))
    except cv2.error:
        return None


def bgr_image(plane: Plane, intake: Intake) -> Image:
    """(H, W, 3) BGR as an Image; notes its size."""
    height, width = plane.shape[:2]
    intake.facts["size"] = f"{width}x{height}"
    return Image((plane,), "bgr", "601", "full", (width, height))
