"""What detectors of every family share: how boxes are written, how they overlap, which of them go."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import cv2
import numpy as np
from numpy.typing import NDArray

Boxes = NDArray[np.float32]


def suppress(
    xyxy: Boxes, score: NDArray[np.float32], label: NDArray[np.int32] | None, limit: float
) -> NDArray[np.intp]:
    """Greedy non-maximum suppression of finite boxes: indices of the rows that stay, best first.

    A box goes when a better one that stayed overlaps it by more than `limit` IoU (Felzenszwalb et al. 2010) and has the
    same label; whatever its label, where `label` is None. Scores are above 0.
    """
    # Labels are kept apart by moving them apart: a box from far outside would leave no digits for the others.
    xywh = np.clip(xyxy, -_FAR, _FAR).astype(np.float64)
    xywh[:, 2:] -= xywh[:, :2]
    dnn: Any = cv2.dnn  # its types ask for lists, which are slower
    if label is None:
        return np.array(dnn.NMSBoxes(xywh, score, 0.0, limit), np.intp)
    return np.array(dnn.NMSBoxesBatched(xywh, score, label, 0.0, limit), np.intp)


_FAR = 1e6
"""Pixels: no tensor is near as large."""
Order = Literal["xyxy", "yxyx", "cxcywh"]
"""What the four numbers of a box are."""
Scale = Literal["pixels", "unit"]
"""Tensor pixels, or shares of the tensor's sides."""


def to_xyxy(boxes: Boxes, order: Order, scale: Scale, size: tuple[int, int]) -> Boxes:
    """Boxes (K, 4) as a graph gives them -> left, top, right, bottom, in pixels of a tensor of that (width, height)."""
    if order == "cxcywh":
        boxes = corners(boxes[:, :2], boxes[:, 2:])
    elif order == "yxyx":
        boxes = boxes[:, [1, 0, 3, 2]]
    return boxes * np.array([*size, *size], np.float32) if scale == "unit" else boxes


def corners(centre: Boxes, sides: Boxes) -> Boxes:
    """Centres (K, 2) and sides (K, 2) -> left, top, right, bottom (K, 4)."""
    half = sides / 2
    return np.concatenate([centre - half, centre + half], axis=1)


def cells(size: tuple[int, int], strides: Sequence[int]) -> list[tuple[int, int]]:
    """(columns, rows) of the grid of each stride over an input of `size` (width, height); the last cells may be cut."""
    return [(-(-size[0] // stride), -(-size[1] // stride)) for stride in strides]


def grid(size: tuple[int, int], strides: Sequence[int]) -> tuple[Boxes, NDArray[np.float32]]:
    """Cells of the grids of all strides, row by row: their corners (A, 2), x and y in strides, and strides (A, 1)."""
    parts, steps = [], []
    for (columns, rows), stride in zip(cells(size, strides), strides, strict=True):
        y, x = np.mgrid[:rows, :columns]
        parts.append(np.stack([x.ravel(), y.ravel()], axis=1).astype(np.float32))
        steps.append(np.full((rows * columns, 1), stride, np.float32))
    return np.concatenate(parts), np.concatenate(steps)
