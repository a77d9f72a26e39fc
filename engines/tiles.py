"""Looking at a picture in tiles, so that small objects have enough pixels, and putting the findings together again.

Tiles overlap. What lies in the overlap is found twice, and what is larger than it is found in pieces. Two findings of
one label are the same object when they coincide where both tiles look: there, and only there, both have seen it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, cast

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field

from engines.pixels import Box
from engines.results import Detections

SAME_IOU = 0.5
"""Overlap, where both tiles look, from which two findings are one object."""
SAME_COVER = 0.7
"""... and the share of a cut piece that lies in the other finding: a sliver is located too badly for IoU."""
EDGE = 0.02
"""A box that ends so near to a tile's edge, as a share of the tile's side, is cut by it."""

Count = Annotated[int, Field(ge=1, le=8)]
Boxes = NDArray[np.float32]


class Tiles(BaseModel):
    """`tiles: {grid: [2, 2], overlap: 0.2}`."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    grid: tuple[Count, Count]
    """Columns and rows."""
    overlap: float = Field(default=0.2, ge=0, le=0.5)
    """Share of a tile's side that it has in common with its neighbour: more than the smallest objects need."""
    whole: bool = True
    """Look at the whole picture as well, for objects that are larger than a tile."""

    def regions(self, region: Box) -> tuple[Box, ...]:
        """Tiles of a region, row by row, equal but for rounding; the region itself last if `whole`."""
        left, top, right, bottom = region
        columns = _spans(left, right, self.grid[0], self.overlap)
        rows = _spans(top, bottom, self.grid[1], self.overlap)
        tiles = [(x0, y0, x1, y1) for y0, y1 in rows for x0, x1 in columns]
        return (*tiles, region) if self.whole and len(tiles) > 1 else tuple(tiles)


def _spans(low: int, high: int, count: int, overlap: float) -> list[tuple[int, int]]:
    """`count` spans of one length that cover low to high, each sharing `overlap` of its length with the next."""
    length = (high - low) / (count - (count - 1) * overlap)
    step = length * (1 - overlap)
    return [(round(low + i * step), round(low + i * step + length)) for i in range(count)]


def merge(parts: Sequence[Detections], tiles: Sequence[Box]) -> Detections:
    """What was found in each tile -> what is there, best first, each object once.

    Of findings that are one object, the best that no tile's edge cuts stays; where all are cut, the box around them.
    It gets the best score of them all.
    """
    found = Detections(
        xyxy=np.concatenate([part.xyxy for part in parts]),
        score=np.concatenate([part.score for part in parts]),
        label=np.concatenate([part.label for part in parts]),
    )
    if not len(found):
        return found
    counts = [len(part) for part in parts]
    every = np.array(tiles, np.float32)
    outer = np.concatenate([every[:, :2].min(axis=0), every[:, 2:].max(axis=0)])
    tile = np.repeat(every, counts, axis=0)
    number = np.repeat(np.arange(len(parts)), counts)
    order = np.lexsort((-found.score, _cut(found.xyxy, tile, outer)))  # those that are whole first, best first
    found, tile, number = found[order], tile[order], number[order]
    cut = _cut(found.xyxy, tile, outer)
    same = _coincide(found.xyxy, tile, cut)
    same &= (found.label[:, None] == found.label[None, :]) & (number[:, None] != number[None, :])

    groups: dict[int, list[int]] = {}
    group_of = np.arange(len(found))
    # What is whole stands for its group alone; pieces are compared with every other piece, to reach from end to end.
    speaks = np.zeros(len(found), bool)
    for row in range(len(found)):
        known = np.flatnonzero(same[row] & speaks)
        if len(known):
            group_of[row] = group_of[known[0]]
        groups.setdefault(group_of[row], []).append(row)
        speaks[row] = cut[group_of[row]] or group_of[row] == row
    xyxy, score = found.xyxy.copy(), found.score.copy()
    for first, rows in groups.items():
        score[first] = score[rows].max()
        if cut[first]:
            xyxy[first] = np.concatenate([xyxy[rows, :2].min(axis=0), xyxy[rows, 2:].max(axis=0)])
    merged = Detections(xyxy=xyxy, score=score, label=found.label)[np.array(list(groups), np.intp)]
    return merged[np.argsort(-merged.score, kind="stable")]


def _cut(xyxy: Boxes, tile: Boxes, outer: Boxes) -> NDArray[np.bool_]:
    """Which boxes (N, 4) end at an edge of their tile (N, 4) that is not an edge of everything, `outer` (4,)."""
    low, high = tile[:, :2], tile[:, 2:]
    near = (high - low) * EDGE
    at_low = (xyxy[:, :2] <= low + near) & (low > outer[:2])
    at_high = (xyxy[:, 2:] >= high - near) & (high < outer[2:])
    return cast(NDArray[np.bool_], (at_low | at_high).any(axis=1))


def _coincide(xyxy: Boxes, tile: Boxes, cut: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """(N, N): whether two boxes are the same where both their tiles look."""
    seen_low = np.maximum(tile[:, None, :2], tile[None, :, :2])
    seen_high = np.minimum(tile[:, None, 2:], tile[None, :, 2:])

    def clipped(boxes: Boxes) -> tuple[Boxes, Boxes]:
        return np.maximum(boxes[..., :2], seen_low), np.minimum(boxes[..., 2:], seen_high)

    (a_low, a_high), (b_low, b_high) = clipped(xyxy[:, None]), clipped(xyxy[None, :])
    area_a, area_b = _area(a_low, a_high), _area(b_low, b_high)
    inner = _area(np.maximum(a_low, b_low), np.minimum(a_high, b_high))
    union = area_a + area_b - inner
    coincide = inner > SAME_IOU * union
    coincide |= cut[:, None] & (inner > SAME_COVER * area_a)
    coincide |= cut[None, :] & (inner > SAME_COVER * area_b)
    return coincide & (inner > 0)


def _area(low: Boxes, high: Boxes) -> Boxes:
    return cast(Boxes, np.clip(high - low, 0, None).prod(axis=-1))
