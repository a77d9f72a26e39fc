"""Photographs for tests: made ones with all that compresses badly, and real ones where there are any."""

from __future__ import annotations

import os
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from tests.support.pictures import smooth_bgr


def photo(seed: int, width: int = 320, height: int = 240) -> NDArray[np.uint8]:
    """(H, W, 3) BGR: soft colours, shapes of strong ones with hard edges, and the grain of a sensor."""
    rng = np.random.default_rng(seed)
    bgr = smooth_bgr(width, height, seed)
    for _ in range(6):
        centre = (int(rng.integers(0, width)), int(rng.integers(0, height)))
        axes = (int(rng.integers(8, width // 4 + 9)), int(rng.integers(8, height // 4 + 9)))
        colour = [int(level) for level in rng.integers(20, 236, 3)]
        cv2.ellipse(bgr, centre, axes, int(rng.integers(0, 180)), 0, 360, colour, -1)
    grain = rng.normal(0, 4, (height, width, 1))
    return np.clip(bgr + grain, 0, 255).astype(np.uint8)


def write_photos(folder: Path, count: int, first: int = 0) -> list[Path]:
    """So many different JPEG files in a folder, which is made."""
    folder.mkdir(parents=True, exist_ok=True)
    paths = [folder / f"{seed:03}.jpg" for seed in range(first, first + count)]
    for seed, path in enumerate(paths, first):
        assert cv2.imwrite(str(path), photo(seed))
    return paths


def shared_photos() -> list[Path]:
    """Real ones, in the folder that the environment variable SIGHTWIRE_SHARED names; none if it is not set."""
    shared = os.environ.get("SIGHTWIRE_SHARED")
    return sorted(Path(shared, "data").glob("[ci]*-*/**/*.jpg")) if shared else []
