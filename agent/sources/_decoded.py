"""What FFmpeg decoded, as an Image: views of its planes, no copy."""

from __future__ import annotations

from typing import Any

import numpy as np

from agent.sources import Intake
from engines.pixels import Image, Matrix, PixelFormat, Plane, Range

#: FFmpeg's name -> ours, and whether the name itself says full range
_FORMATS: dict[str, tuple[PixelFormat, bool]] = {
    "yuv420p": ("i420", False),
    "yuvj420p": ("i420", True),
    "nv12": ("nv12", False),
    "gray": ("gray", False),
    "bgr24": ("bgr", False),
    "rgb24": ("rgb", False),
}
_CHANNELS = {"bgr": 3, "rgb": 3}
_BT709, _BT470BG, _SMPTE170M, _UNSPECIFIED = 1, 5, 6, 2
_JPEG_RANGE = 2


def image_of(frame: Any, intake: Intake) -> Image:
    """An av.VideoFrame as an Image; its planes are views that keep the frame alive.

    A format that the engines do not read (4:2:2, ten bits, ...) is converted to 4:2:0 first, which costs a copy.
    """
    name = frame.format.name
    full = name.startswith("yuvj") or frame.color_range == _JPEG_RANGE
    if name not in _FORMATS:
        intake.facts.setdefault("converted", f"{name} to yuv420p")
        frame = frame.reformat(format="yuvj420p" if full else "yuv420p")
        name = frame.format.name
    pixels, named_full = _FORMATS[name]
    width, height = frame.width, frame.height
    planes = tuple(_view(plane, pixels, index) for index, plane in enumerate(frame.planes))
    level: Range = "full" if full or named_full or pixels in ("bgr", "rgb") else "limited"
    return Image(planes, pixels, _matrix(frame.colorspace, width, height), level, (width, height))


def _view(plane: Any, pixels: PixelFormat, index: int) -> Plane:
    rows = np.frombuffer(plane, np.uint8).reshape(plane.height, plane.line_size)
    channels = 2 if pixels == "nv12" and index else _CHANNELS.get(pixels, 1)
    view = rows[:, : plane.width * channels]
    return view.reshape(plane.height, plane.width, channels) if channels > 1 else view


def _matrix(colorspace: int, width: int, height: int) -> Matrix:
    """Streams that do not say are taken as players take them: 709 for high definition, 601 below."""
    if colorspace == _BT709:
        return "709"
    if colorspace == _UNSPECIFIED and (width >= 1280 or height > 576):
        return "709"
    return "601"
