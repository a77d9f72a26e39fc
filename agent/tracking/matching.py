"""Which of two sets of boxes belong together."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]


def overlap(a: Floats, b: Floats, margin: Floats) -> Floats:
    """(M, N) intersection over union of boxes (M, 4) and (N, 4), when both have grown by `margin` (M,) on each side.

    Boxes that have grown overlap where they only came near before: C-BIoU, Yang et al. 2023.
    """
    more = 2 * margin[:, None, None]
    sides = np.minimum(a[:, None, 2:], b[None, :, 2:]) - np.maximum(a[:, None, :2], b[None, :, :2]) + more
    np.maximum(sides, 0, out=sides)
    both = sides[..., 0] * sides[..., 1]
    first = (a[:, 2:] - a[:, :2])[:, None] + more
    second = (b[:, 2:] - b[:, :2])[None] + more
    union = first[..., 0] * first[..., 1] + second[..., 0] * second[..., 1] - both
    shares: Floats = both / np.maximum(union, 1e-9)
    return shares


def pair(gain: Floats, tie: Floats) -> NDArray[np.intp]:
    """(N,) the row of `gain` (M, N) that each column goes with, -1 for none: best pairs first; 0 or less: never.

    `tie` (N,) decides between columns that gain the same.
    """
    of_column = np.full(gain.shape[1], -1, np.intp)
    rows, columns = (gain > 0).nonzero()
    order = np.lexsort((tie[columns], -gain[rows, columns]))
    taken: set[int] = set()
    given: set[int] = set()
    for row, column in zip(rows[order].tolist(), columns[order].tolist(), strict=True):
        if row not in taken and column not in given:
            taken.add(row)
            given.add(column)
            of_column[column] = row
    return of_column
