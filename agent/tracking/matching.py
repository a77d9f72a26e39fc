"""Which of two sets of boxes belong together."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Pairs = tuple[NDArray[np.intp], NDArray[np.intp]]


def overlap(a: Floats, b: Floats, margin: Floats | None = None) -> Floats:
    """(M, N) intersection over union of boxes (M, 4) and (N, 4), where both grow by `margin` (M,) on each side."""
    low = np.maximum(a[:, None, :2], b[None, :, :2])
    high = np.minimum(a[:, None, 2:], b[None, :, 2:])
    sides = high - low
    first, second = (a[:, 2:] - a[:, :2])[:, None], (b[:, 2:] - b[:, :2])[None]
    if margin is not None:
        more = 2 * margin[:, None, None]
        sides, first, second = sides + more, first + more, second + more
    np.maximum(sides, 0, out=sides)
    both = sides[..., 0] * sides[..., 1]
    union: Floats = first[..., 0] * first[..., 1] + second[..., 0] * second[..., 1] - both
    shares: Floats = both / np.maximum(union, 1e-9)
    return shares


def pair(gain: Floats) -> Pairs:
    """Rows and columns of (M, N) that belong together, each in one pair at most: best first; 0 or less: never."""
    rows: list[NDArray[np.intp]] = []
    columns: list[NDArray[np.intp]] = []
    if gain.size:
        gain = gain.copy()
        every = np.arange(len(gain))
        while True:
            column = gain.argmax(axis=1)
            best = gain[every, column]
            row = np.flatnonzero((best > 0) & (gain.argmax(axis=0)[column] == every))
            if not len(row):
                break
            rows.append(row)
            columns.append(column[row])
            gain[row] = 0
            gain[:, column[row]] = 0
    if not rows:
        return np.empty(0, np.intp), np.empty(0, np.intp)
    return np.concatenate(rows), np.concatenate(columns)
