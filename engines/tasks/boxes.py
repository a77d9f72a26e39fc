"""What detectors of every family share: how boxes are written, how they overlap, which of them go."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import cv2
import numpy as np
from numpy.typing import NDArray

from engines.pixels import Box
from engines.results import Detections

Boxes = NDArray[np.float32]


def intersection(a: Boxes, b: Boxes) -> NDArray[np.float32]:
    """Area that every box of `a` (N, 4) shares with every one of `b` (M, 4): (N, M)."""
    width = np.minimum(a[:, None, 2], b[None, :, 2])
    width -= np.maximum(a[:, None, 0], b[None, :, 0])
    height = np.minimum(a[:, None, 3], b[None, :, 3])
    height -= np.maximum(a[:, None, 1], b[None, :, 1])
    return np.maximum(width, 0, out=width) * np.maximum(height, 0, out=height)


def area(xyxy: Boxes) -> NDArray[np.float32]:
    """Of boxes (N, 4): (N,)."""
    sides = xyxy[:, 2:] - xyxy[:, :2]
    return sides[:, 0] * sides[:, 1]


def overlapping(xyxy: Boxes, limit: float) -> NDArray[np.bool_]:
    """Which pairs of boxes (N, 4) have an intersection over union of more than `limit`: (N, N)."""
    inner, areas = intersection(xyxy, xyxy), area(xyxy) * np.float32(limit)
    # inner / (a + b - inner) > limit, without dividing: two boxes without area do not overlap.
    inner *= np.float32(1 + limit)
    more: NDArray[np.bool_] = inner > areas[:, None] + areas
    return more


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


def _greedy(goes: NDArray[np.bool_]) -> NDArray[np.intp]:
    """Row i of `goes` (K, K): which rows after it go if row i stays. Returns who sent each row away, -1: it stays."""
    sender = np.full(len(goes), -1)
    # Few boxes send any other away, and only they need a turn.
    for row in np.flatnonzero(np.triu(goes, 1).any(axis=1)):
        if sender[row] < 0:
            sent = goes[row, row + 1 :] & (sender[row + 1 :] < 0)
            sender[row + 1 :][sent] = row
    return sender


_FAR = 1e6
"""Pixels: no tensor is near as large."""
_EDGE = 0.02
"""Share of a tile's sides: a box that comes closer to an edge is taken for cut by it, for networks do not hit it."""


def merge(parts: Sequence[Detections], tiles: Sequence[Box], limit_iou: float, limit_cover: float) -> Detections:
    """Join what was found in overlapping tiles of a picture: all boxes and tiles are in its pixels. Best first.

    A box is *cut* if it ends at an edge of its tile that is not the edge of all tiles. Whole boxes come first, better
    ones before worse, then cut ones, larger before smaller. A box goes if one of the same label that came before it,
    stayed and is *of another tile* either overlaps it by more than `limit_iou` IoU, or, where it is cut, holds more
    than the share `limit_cover` of its area. Who stays takes the score of who went if that is better: they are one
    object. Boxes of one tile never judge each other: the model's own suppression already did.
    """
    count = [len(part) for part in parts]
    if not sum(count):
        return Detections.empty()
    found = Detections(**{name: np.concatenate([getattr(p, name) for p in parts]) for name in Detections.layout})
    tile = np.repeat(np.arange(len(parts)), count)
    cut = np.concatenate([_cut(part.xyxy, own, tiles) for part, own in zip(parts, tiles, strict=True)])
    order = np.lexsort((np.where(cut, -area(found.xyxy), -found.score), cut))
    found, tile, cut = found[order], tile[order], cut[order]
    goes = intersection(found.xyxy, found.xyxy) > np.float32(limit_cover) * area(found.xyxy)
    goes &= cut
    goes |= overlapping(found.xyxy, limit_iou)
    goes &= (found.label[:, None] == found.label) & (tile[:, None] != tile)
    sender = _greedy(goes)
    score, sent = found.score.copy(), np.flatnonzero(sender >= 0)
    np.maximum.at(score, sender[sent], score[sent])
    stay = np.flatnonzero(sender < 0)
    stay = stay[np.argsort(-score[stay], kind="stable")]
    return Detections(xyxy=found.xyxy[stay], score=score[stay], label=found.label[stay])


def _cut(xyxy: Boxes, tile: Box, tiles: Sequence[Box]) -> NDArray[np.bool_]:
    """Which boxes (N, 4) of a tile end at one of its inner edges."""
    edges = np.array(tiles, np.float32)
    outer = np.concatenate([edges[:, :2].min(axis=0), edges[:, 2:].max(axis=0)])
    own = np.array(tile, np.float32)
    near = np.tile(own[2:] - own[:2], 2) * np.float32(_EDGE)
    beyond = np.concatenate([xyxy[:, :2] <= own[:2] + near[:2], xyxy[:, 2:] >= own[2:] - near[2:]], axis=1)
    found: NDArray[np.bool_] = (beyond & (own != outer)).any(axis=1)
    return found


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
