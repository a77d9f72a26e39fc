"""Between what OpenCV hands out and what a video decoder does: the only place where calibration converts pixels.

To i420 a picture goes as most cameras encode it: BT.601, limited range, each chroma sample the mean of the 2x2 pixels
it stands for. To bgr it goes through `engines.pixels` at its own size. A picture that is in the wanted format already
stays as it is, whatever its matrix and range.
"""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from calibration.pictures.sample import Way
from engines.card import Input
from engines.pixels import YUV_TO_RGB, Image, Picture, Plane, TensorWriter, fit


def in_way(image: Image, way: Way) -> Image:
    """The picture in the pixel format of `way`."""
    if image.format == way:
        return image
    if way == "bgr":
        return _bgr(image)
    if image.format == "nv12":
        luma, chroma = image.planes
        return Image((luma, *_split(chroma)), "i420", image.matrix, image.range, image.size)
    if image.format == "gray":
        neutral = np.full(tuple(-(-side // 2) for side in image.planes[0].shape), 128, np.uint8)
        return Image((image.planes[0], neutral, neutral), "i420", image.matrix, image.range, image.size)
    return _i420(image)


def _bgr(image: Image) -> Image:
    width, height = image.size
    rgb = np.empty((3, height, width), np.uint8)
    geometry = fit(image.size, None, Input(width=width, height=height, fit="stretch"))
    TensorWriter().write(Picture(image), geometry, rgb)
    return Image((cv2.merge(list(rgb[::-1])),), "bgr", "601", "full", image.size)


def _i420(image: Image) -> Image:
    """From bgr or rgb."""
    (plane,) = image.planes
    conversion = _TO_YUV if image.format == "rgb" else _TO_YUV[:, [2, 1, 0, 3]]
    height, width = plane.shape[:2]
    luma: Plane = cv2.transform(plane, conversion[:1])
    even = cv2.copyMakeBorder(plane, 0, height % 2, 0, width % 2, cv2.BORDER_REPLICATE)
    half = cv2.resize(even, (even.shape[1] // 2, even.shape[0] // 2), interpolation=cv2.INTER_AREA)
    return Image((luma, *_split(cv2.transform(half, conversion[1:]))), "i420", "601", "limited", image.size)


def _split(chroma: Plane) -> tuple[Plane, Plane]:
    u, v = cv2.split(chroma)
    return u, v


def _inverse(to_rgb: NDArray[np.float32]) -> NDArray[np.float32]:
    """The 3x4 matrix that takes (R, G, B, 1) back to (Y, U, V)."""
    whole = np.vstack([to_rgb.astype(np.float64), [0, 0, 0, 1]])
    return np.linalg.inv(whole)[:3].astype(np.float32)


_TO_YUV = _inverse(YUV_TO_RGB["601", "limited"])
