"""Entropy: the clipping that loses least information.

Migacz, 8-bit Inference with TensorRT, GPU Technology Conference 2017.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from calibration.ranges.observed import BINS, Observed

LEVELS = 128
"""Levels that a distribution of magnitudes keeps, as in the talk."""
HISTOGRAM = 2048
"""Bins that the talk works with; a finer histogram measures the chance in few values."""


def entropy(observed: Observed) -> float:
    """The threshold at which 128 levels have the least Kullback-Leibler divergence from the clipped distribution.

    As in the talk, each threshold from 128 bins on is tried. Zeros are taken to be as many as their neighbours: those
    of a ReLU would outweigh all else, and they cost nothing. 0 if all values are 0.
    """
    if observed.largest == 0:
        return 0.0
    joined = BINS // HISTOGRAM
    counts = observed.counts.reshape(HISTOGRAM, joined).sum(axis=1).astype(np.float64)
    counts[0] = counts[1]
    used = (observed.used - 1) // joined + 1
    if not counts[:used].any():
        return observed.largest
    thresholds = np.arange(LEVELS, used + 1)
    found = divergences(counts, thresholds)
    # Of equals the largest: what was not seen is then clipped last.
    best = len(found) - 1 - int(np.argmin(found[::-1]))
    return min(observed.largest, float(thresholds[best]) * joined * observed.width)


def divergences(counts: NDArray[np.float64], thresholds: NDArray[np.intp]) -> NDArray[np.float64]:
    """(T,) Kullback-Leibler divergences D(P || Q) for (T,) thresholds in bins, each 128 or more.

    P is `counts` up to the threshold, with all that is beyond it in its last bin. Q has the same bins in 128 levels,
    each level's values shared out evenly among its bins that are not empty. The talk does not say what to do if Q's
    last bin is empty and P's is not: it then counts as one value, or a lone outlier could never be clipped.
    Sums over levels follow from cumulative sums over bins.
    """
    total = counts.sum()
    below = np.concatenate([[0.0], np.cumsum(counts)])
    filled = np.concatenate([[0], np.cumsum(counts > 0)])
    plogp = np.concatenate([[0.0], np.cumsum(_xlogx(counts))])

    edges = -(-np.arange(LEVELS + 1) * thresholds[:, None] // LEVELS)
    values, bins = np.diff(below[edges], axis=1), np.diff(filled[edges], axis=1)
    with np.errstate(divide="ignore", invalid="ignore"):
        logq = np.where(bins > 0, np.log(values / bins), 0)
        last, beyond = counts[thresholds - 1], total - below[thresholds]
        lost = beyond * np.where(last > 0, logq[:, -1], 0)
        p = plogp[thresholds - 1] + _xlogx(last + beyond) - total * np.log(total)
        q = (values * logq).sum(axis=1) + lost - total * np.log(below[thresholds])
    return np.where(below[thresholds] > 0, (p - q) / total, np.inf)


def _xlogx(x: NDArray[np.float64]) -> NDArray[np.float64]:
    return x * np.log(np.where(x > 0, x, 1))
