"""What detectors of every family share: IoU and non-maximum suppression."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Boxes = NDArray[np.float32]


def iou(a: Boxes, b: Boxes) -> NDArray[np.float32]:
    """Intersection over union of every box of `a` (N, 4) with every one of `b` (M, 4): (N, M)."""
    low = np.maximum(a[:, None, :2], b[None, :, :2])
    high = np.minimum(a[:, None, 2:], b[None, :, 2:])
    inner = np.prod(np.clip(high - low, 0, None), axis=2)
    area_a, area_b = ((x[:, 2] - x[:, 0]) * (x[:, 3] - x[:, 1]) for x in (a, b))
    union = area_a[:, None] + area_b[None, :] - inner
    return np.where(union > 0, inner / np.where(union > 0, union, 1), 0).astype(np.float32)


def suppress(xyxy: Boxes, score: NDArray[np.float32], label: NDArray[np.int32], limit: float) -> NDArray[np.intp]:
    """Greedy class-aware non-maximum suppression: indices of the rows that stay, best first.

    A box goes when a better one of the same label overlaps it by more than `limit` IoU (Felzenszwalb et al. 2010), and
    when it is nowhere: a network that overflows gives NaN.
    """
    order = np.argsort(-score, kind="stable")
    order = order[np.isfinite(xyxy[order]).all(axis=1)]
    if len(order) < 2:
        return order
    xyxy, label = xyxy[order], label[order]
    overlaps = iou(xyxy, xyxy) > limit
    overlaps &= label[:, None] == label[None, :]
    keep = np.ones(len(order), bool)
    for row in range(len(order)):
        if keep[row]:
            keep[row + 1 :] &= ~overlaps[row, row + 1 :]
    return order[keep]
