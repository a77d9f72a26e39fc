"""Pictures as cameras give them, made up: the same ones on every machine."""

from __future__ import annotations

from functools import cache

import cv2
import numpy as np
from numpy.typing import NDArray

from engines.pixels import Image, Picture, PixelFormat

SIZE = (1280, 720)


def image(pixel_format: PixelFormat, size: tuple[int, int] = SIZE, seed: int = 0) -> Image:
    """Shapes in colour, with some grain; 4:2:0 in limited range, as cameras do. Sides are even."""
    bgr = _drawn(size, seed)
    if pixel_format in ("bgr", "rgb"):
        plane = bgr if pixel_format == "bgr" else np.ascontiguousarray(bgr[..., ::-1])
        return Image((plane,), pixel_format, "601", "full", size)
    width, height = size
    planes = cv2.cvtColor(bgr, cv2.COLOR_BGR2YUV_I420).reshape(-1)
    luma, chroma = width * height, (height // 2, width // 2)
    y = planes[:luma].reshape(height, width)
    u, v = (np.ascontiguousarray(part).reshape(chroma) for part in np.split(planes[luma:], 2))
    if pixel_format == "gray":
        return Image((y,), "gray", "601", "limited", size)
    if pixel_format == "i420":
        return Image((y, u, v), "i420", "601", "limited", size)
    return Image((y, np.stack([u, v], -1)), "nv12", "601", "limited", size)


def ring(count: int, pixel_format: PixelFormat = "nv12") -> list[Picture]:
    """So many different pictures."""
    return [Picture(image(pixel_format, seed=seed)) for seed in range(count)]


@cache
def _drawn(size: tuple[int, int], seed: int) -> NDArray[np.uint8]:
    rng, (width, height) = np.random.default_rng(seed), size
    bgr = np.full((height, width, 3), rng.integers(60, 200, 3), np.uint8)
    for _ in range(24):
        centre = int(rng.integers(width)), int(rng.integers(height))
        axes = int(rng.integers(8, width // 6)), int(rng.integers(8, height // 4))
        cv2.ellipse(bgr, centre, axes, float(rng.integers(180)), 0, 360, rng.integers(0, 256, 3).tolist(), -1)
    grain = rng.integers(-8, 9, bgr.shape, np.int16)
    drawn: NDArray[np.uint8] = np.clip(bgr + grain, 0, 255).astype(np.uint8)
    return drawn
