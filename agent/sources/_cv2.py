"""What is common to all that is read through OpenCV."""

from __future__ import annotations

from typing import Any

import cv2

from agent.sources import Intake
from engines import MOST_PIXELS
from engines.pixels import Image, Plane

MOST_FAILURES = 10
"""Reads that may fail in a row: OpenCV says neither what was wrong nor whether more can come."""


def too_large(capture: Any) -> str | None:
    """Why a stream or file that is open is not read: OpenCV hands FFmpeg no limit for its pictures; None: it is read.

    A stream that becomes so later is not noticed.
    """
    width, height = int(capture.get(cv2.CAP_PROP_FRAME_WIDTH)), int(capture.get(cv2.CAP_PROP_FRAME_HEIGHT))
    return f"pictures of {width}x{height} are too large" if width * height > MOST_PIXELS else None


def fourcc(number: float) -> str:
    """The four letters of CAP_PROP_FOURCC, in small letters; empty where there are none."""
    return int(number).to_bytes(4, "little", signed=False).decode("ascii", "replace").strip("\0 ").lower()


def bgr_image(plane: Plane, intake: Intake) -> Image:
    """(H, W, 3) BGR as an Image; notes its size."""
    height, width = plane.shape[:2]
    intake.facts["size"] = f"{width}x{height}"
    return Image((plane,), "bgr", "601", "full", (width, height))
