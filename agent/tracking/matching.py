"""Which of two sets of boxes belong together."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]


def overlap(a: Floats, b: Floats, margin: Floats) -> Floats:
    """(M, N) intersection over union of boxes (M, 4) and (N, 4), when both have grown by `margin` (M,) on each side.

    Boxes that have grown overlap where they only came near before: C-BIoU, Yang et al. 2023.
    """
    more = 2 * margin[:, None]
    one, other = a.T.copy()[:, :, None], b.T.copy()[:, None]  # x and y first: numpy is quick along what lies last
    sides = np.minimum(one[2:], other[2:])
    sides -= np.maximum(one[:2], other[:2])
    sides += more
    np.maximum(sides, 0, out=sides)
    shares: Floats = sides[0] * sides[1]
    first, second = one[2:] - one[:2] + more, other[2:] - other[:2] + more
    union = second[0] * second[1]
    union += first[0] * first[1]
    union -= shares
    shares /= np.maximum(union, 1e-9, out=union)
    return shares


def pair(gain: Floats, tie: Floats) -> NDArray[np.intp]:
    """(N,) the row of `gain` (M, N) that each column goes with, -1 for none: best pairs first; 0 or less: never.

    Then any two pairs swap their columns while that gains more. Where rows and columns have few choices, as boxes have,
    this is as good as the best of all assignments (`docs/adr/0038-tracking.md`), and a good deal quicker. `tie` (N,)
    decides between columns that gain the same.
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
    if len(given) < len(rows):
        _swap(gain, of_column)
    return of_column


def _swap(gain: Floats, of_column: NDArray[np.intp]) -> None:
    paired = (of_column >= 0).nonzero()[0]
    while len(paired) > 1:
        each = gain[of_column[paired][:, None], paired]
        now = each.diagonal()
        more = each + each.T - now[:, None] - now
        more[(each <= 0) | (each.T <= 0)] = 0
        one, other = np.unravel_index(more.argmax(), more.shape)
        if more[one, other] <= 1e-9:  # what rounding leaves is nothing
            break
        one, other = paired[one], paired[other]
        of_column[one], of_column[other] = of_column[other], of_column[one]
