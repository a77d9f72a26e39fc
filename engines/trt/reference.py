"""Is what a plan computes what the model computes? Probe pictures, the CPU engine's outputs of them, and a verdict."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from engines.trt.order import Order

_LEAST = 8
_PALETTE = np.array(
    [
        [230, 40, 30], [30, 200, 60], [40, 60, 220], [240, 210, 40], [200, 50, 200], [40, 200, 210], [245, 245, 245],
        [15, 15, 15], [120, 75, 40], [255, 140, 0], [90, 110, 60], [250, 190, 170],
    ],
    np.float32,
)  # fmt: skip


def probe_pictures(order: Order) -> NDArray[np.uint8]:
    """The pictures that every plan is tried on, (N, 3, H, W) uint8 RGB: always the same for a size and a batch.

    N is a multiple of the largest batch, 8 at least. Shapes, gradients and textures in strong colours: no two channels
    are alike anywhere for long, so that exchanged ones show.
    """
    largest = order.batches[2]
    count = largest * math.ceil(_LEAST / largest)
    return np.stack([_picture(*order.size, seed) for seed in range(count)])


def _picture(width: int, height: int, seed: int) -> NDArray[np.uint8]:
    """(3, H, W) uint8 RGB."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[0:height, 0:width].astype(np.float32) / max(width, height)
    colours = rng.permutation(_PALETTE)
    across = np.cos(rng.uniform(0, 2 * np.pi)) * x + np.sin(rng.uniform(0, 2 * np.pi)) * y
    across = ((across - across.min()) / max(float(np.ptp(across)), 1e-6))[..., None]
    picture = colours[0] * (1 - across) + colours[1] * across
    for colour in colours[2:]:
        centre, radius = rng.uniform(0, 1, 2), rng.uniform(0.05, 0.3, 2)
        u, v = (x - centre[0]) / radius[0], (y - centre[1]) / radius[1]
        inside = (np.maximum(abs(u), abs(v)) if rng.random() < 0.5 else np.hypot(u, v)) < 1
        stripes = 1 + 0.3 * np.sin(rng.uniform(20, 200) * (u + v) * radius.min()) * (rng.random() < 0.5)
        picture[inside] = (colour * stripes[..., None])[inside]
    return np.ascontiguousarray(np.clip(picture, 0, 255).astype(np.uint8).transpose(2, 0, 1))
