"""Which boxes of two models are the same object."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from engines.results import Detections

_SAME = 0.5
"""Least overlap (IoU) of two boxes of one label that are one object."""


def matches(a: Detections, b: Detections) -> dict[int, int]:
    """Rows of `a` -> rows of `b` that are the same object: of one label, best scores of `a` choosing first."""
    overlap = _iou(a.xyxy, b.xyxy)
    overlap[a.label[:, None] != b.label[None, :]] = 0
    found: dict[int, int] = {}
    for row in np.argsort(-a.score, kind="stable").tolist():
        if len(found) == len(b):
            break
        column = int(np.argmax(overlap[row]))
        if overlap[row, column] >= _SAME:
            found[row] = column
            overlap[:, column] = 0
    return found


def _iou(a: NDArray[np.float32], b: NDArray[np.float32]) -> NDArray[np.float64]:
    """(N, M) intersection over union."""
    one, two = a.astype(np.float64)[:, None], b.astype(np.float64)[None]
    sides = np.clip(np.minimum(one[..., 2:], two[..., 2:]) - np.maximum(one[..., :2], two[..., :2]), 0, None)
    common = sides[..., 0] * sides[..., 1]
    areas = [np.prod(x[..., 2:] - x[..., :2], axis=-1) for x in (one, two)]
    return np.asarray(common / np.maximum(areas[0] + areas[1] - common, 1e-9), np.float64)
