"""Pictures for tests: smooth random ones and noise, in every pixel format."""

from __future__ import annotations

from typing import get_args

import cv2
import numpy as np
from numpy.typing import NDArray

from engines.pixels import Image, Matrix, PixelFormat, Range

FORMATS: tuple[PixelFormat, ...] = get_args(PixelFormat)


def smooth_bgr(width: int, height: int, seed: int = 0) -> NDArray[np.uint8]:
    """(H, W, 3): soft blobs of mild colour, as photographs have, so that 4:2:0 loses little."""
    rng = np.random.default_rng(seed)
    small = rng.integers(60, 196, (max(2, height // 40), max(2, width // 40), 3), np.uint8)
    return cv2.resize(small, (width, height), interpolation=cv2.INTER_CUBIC)


def image_from(bgr: NDArray[np.uint8], pixels: PixelFormat, matrix: Matrix = "601", level: Range = "limited") -> Image:
    """The picture in that format: converted in floating point by the standards' own formulas."""
    height, width = bgr.shape[:2]
    if pixels in ("bgr", "rgb"):
        plane = bgr if pixels == "bgr" else np.ascontiguousarray(bgr[:, :, ::-1])
        return Image((plane,), pixels, matrix, "full", (width, height))
    kr, kb = (0.299, 0.114) if matrix == "601" else (0.2126, 0.0722)
    blue, green, red = (bgr[:, :, c].astype(np.float64) for c in range(3))
    y = kr * red + (1 - kr - kb) * green + kb * blue
    u, v = (blue - y) / (2 * (1 - kb)), (red - y) / (2 * (1 - kr))
    if level == "limited":
        y, u, v = y * 219 / 255 + 16, u * 224 / 255, v * 224 / 255
    luma, chroma_u, chroma_v = _bytes(y), _bytes(_halved(u) + 128), _bytes(_halved(v) + 128)
    if pixels == "gray":
        return Image((luma,), "gray", matrix, level, (width, height))
    if pixels == "nv12":
        return Image((luma, np.dstack([chroma_u, chroma_v])), "nv12", matrix, level, (width, height))
    return Image((luma, chroma_u, chroma_v), "i420", matrix, level, (width, height))


def noise(
    pixels: PixelFormat, size: tuple[int, int], seed: int, matrix: Matrix = "601", level: Range = "full"
) -> Image:
    """Every byte drawn, rows padded by up to three pixels; with an odd seed only the darkest and brightest levels."""
    (width, height), rng = size, np.random.default_rng(seed)

    def plane(step: int, *channels: int) -> NDArray[np.uint8]:
        columns = -(-width // step)
        drawn = rng.integers(0, 256, (-(-height // step), columns + int(rng.integers(4)), *channels), np.uint8)
        return (drawn if seed % 2 == 0 else (drawn >> 7) * np.uint8(255))[:, :columns]

    planes = {
        "gray": lambda: (plane(1),),
        "i420": lambda: (plane(1), plane(2), plane(2)),
        "nv12": lambda: (plane(1), plane(2, 2)),
    }.get(pixels, lambda: (plane(1, 3),))
    return Image(planes(), pixels, matrix, level, size)


def _halved(plane: NDArray[np.float64]) -> NDArray[np.float64]:
    even = np.pad(plane, [(0, plane.shape[0] % 2), (0, plane.shape[1] % 2)], mode="edge")
    return (even[::2, ::2] + even[1::2, ::2] + even[::2, 1::2] + even[1::2, 1::2]) / 4


def _bytes(values: NDArray[np.float64]) -> NDArray[np.uint8]:
    return np.clip(np.rint(values), 0, 255).astype(np.uint8)
