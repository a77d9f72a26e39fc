"""Mean squared error: the clipping that distorts the values least.

Sung, Shin & Hwang, Resiliency of Deep Neural Networks under Quantization, 2015, section 3.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from calibration.ranges.observed import BINS, Observed

LEVELS = 127
_AT_ONCE = 1024
"""Thresholds tried in one array operation: 128 cells each, 1 MiB of float64."""


def mean_squared_error(observed: Observed) -> float:
    """Of all bins' upper edges the one that, as threshold of 127 levels, gives the least mean squared error.

    Every threshold is tried, exactly for values in the middle of their bins: a cell of values that become the same
    level is a run of bins, whose error follows from three cumulative sums. 0 if all values are 0.
    """
    if observed.largest == 0:
        return 0.0
    thresholds = np.arange(min(LEVELS, observed.used), observed.used + 1, dtype=np.float64)
    errors = np.concatenate(
        [
            squared_errors(observed.counts, thresholds[first : first + _AT_ONCE])
            for first in range(0, len(thresholds), _AT_ONCE)
        ]
    )
    # Of equals the largest: what was not seen is then clipped last.
    best = len(errors) - 1 - int(np.argmin(errors[::-1]))
    return min(observed.largest, float(thresholds[best]) * observed.width)


def squared_errors(counts: NDArray[np.int64], thresholds: NDArray[np.float64]) -> NDArray[np.float64]:
    """(T,) sums of squared errors of (BINS,) counts at (T,) thresholds; widths of a bin throughout."""
    middles = np.arange(BINS) + 0.5
    moments = [np.concatenate([[0.0], np.cumsum(counts * middles**power)]) for power in (0, 1, 2)]
    step = thresholds[:, None] / LEVELS
    level = np.arange(LEVELS + 1) * step
    # A bin belongs to the level next to its middle; past the last level there is no other.
    ends = np.clip(np.ceil(level + step / 2 - 0.5), 0, BINS).astype(np.intp)
    ends[:, -1] = BINS
    starts = np.concatenate([np.zeros_like(ends[:, :1]), ends[:, :-1]], axis=1)
    ones, firsts, seconds = (moment[ends] - moment[starts] for moment in moments)
    errors: NDArray[np.float64] = (seconds - 2 * level * firsts + level**2 * ones).sum(axis=1)
    return errors
