"""From a picture to a tensor: the one way, for every backend, for calibration and for evaluation.

A picture is planes of pixels as the decoder left them, with the facts needed to read them. `Geometry` says which
region of it lands where in the tensor, and maps boxes back. `TensorWriter` resizes the planes themselves to the
size they have in the tensor and only then converts the few remaining pixels to RGB: no full-size RGB copy is made.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal

import cv2
import numpy as np
from numpy.typing import NDArray

from engines.errors import PictureError

PixelFormat = Literal["i420", "nv12", "bgr", "rgb", "gray"]
Matrix = Literal["601", "709"]
Range = Literal["limited", "full"]
ResizeRule = Literal["area", "linear"]
Plane = NDArray[np.uint8]
Box = tuple[int, int, int, int]
"""left, top, right, bottom in whole pixels."""

#: format -> per plane: how much narrower than the picture, and how many channels (0: a two-dimensional array)
_LAYOUT: dict[str, tuple[tuple[int, int], ...]] = {
    "i420": ((1, 0), (2, 0), (2, 0)),
    "nv12": ((1, 0), (2, 2)),
    "bgr": ((1, 3),),
    "rgb": ((1, 3),),
    "gray": ((1, 0),),
}


@dataclass(frozen=True, eq=False)
class Image:
    """A picture in its own pixel format; planes are views of whoever decoded it and must not be written to.

    i420: Y (H, W), U and V (H/2, W/2), halves rounded up; nv12: Y (H, W), UV (H/2, W/2, 2);
    bgr and rgb: (H, W, 3); gray: (H, W). All uint8; rows may be padded.
    """

    planes: tuple[Plane, ...]
    format: PixelFormat
    matrix: Matrix
    range: Range
    size: tuple[int, int]
    """(width, height)"""

    def __post_init__(self) -> None:
        width, height = self.size
        layout = _LAYOUT.get(self.format)
        if layout is None:
            raise PictureError(f"unknown pixel format {self.format!r}, known: {', '.join(_LAYOUT)}")
        expected = tuple(
            (-(-height // step), -(-width // step)) + ((channels,) if channels else ()) for step, channels in layout
        )
        actual = tuple(plane.shape for plane in self.planes)
        if actual != expected:
            raise PictureError(f"{self.format} picture of {width}x{height}: expected planes {expected}, got {actual}")
        if width < 1 or height < 1:
            raise PictureError(f"a picture of {width}x{height} has no pixels")

    @property
    def whole(self) -> Box:
        """The region that is all of it."""
        return (0, 0, *self.size)


@dataclass(frozen=True)
class Picture:
    """What an engine is asked about: pixels and a region of them."""

    image: Image
    region: Box | None = None
    """None: all of it."""
