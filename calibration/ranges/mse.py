"""Mean squared error: the clipping that distorts the values least.

Sung, Shin & Hwang, Resiliency of Deep Neural Networks under Quantization, 2015, section 3.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from calibration.ranges.observed import BINS, Observed

LEVELS = 127
_STRIDE = 16
"""Bins between the thresholds tried first: a 512th of the range at most, over which the error hardly changes."""


def mean_squared_error(observed: Observed) -> float:
    """The threshold at which 127 levels and their negatives have the least mean squared error.

    Every 16th bin's upper edge is tried, then all around the best. 0 if all values are 0.
    """
    if observed.largest == 0:
        return 0.0
    used = observed.used
    best = _best(observed.counts, np.arange(used, min(LEVELS, used) - 1, -_STRIDE))
    best = _best(observed.counts, np.arange(min(best + _STRIDE, used), max(best - _STRIDE, min(LEVELS, used)) - 1, -1))
    return min(observed.largest, best * observed.width)


def _best(counts: NDArray[np.int64], thresholds: NDArray[np.intp]) -> int:
    """Of (T,) descending thresholds the best; of equals the first, since it clips what was not seen last."""
    return int(thresholds[np.argmin(squared_errors(counts, thresholds))])


def squared_errors(counts: NDArray[np.int64], thresholds: NDArray[np.intp]) -> NDArray[np.float64]:
    """(T,) sums of squared errors of values in the middle of (BINS,) bins, for (T,) thresholds; widths of a bin.

    Values that become the same level are a run of bins: their error follows from three cumulative sums.
    """
    middles = np.arange(BINS) + 0.5
    moments = [np.concatenate([[0.0], np.cumsum(counts * middles**power)]) for power in (0, 1, 2)]
    step = thresholds[:, None] / LEVELS
    level = np.arange(LEVELS + 1) * step
    # A bin belongs to the level next to its middle; past the last level there is no other.
    ends = np.clip(np.ceil(level + step / 2 - 0.5), 0, BINS).astype(np.intp)
    ends[:, -1] = BINS
    ones, firsts, seconds = (np.diff(moment[ends], prepend=0, axis=1) for moment in moments)
    errors: NDArray[np.float64] = (seconds - 2 * level * firsts + level**2 * ones).sum(axis=1)
    return errors
