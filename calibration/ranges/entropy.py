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
"""Bins that the talk works with; a finer histogram measures the noise of few values."""


def entropy(observed: Observed) -> float:
    """The threshold at which 128 levels have the least Kullback-Leibler divergence from the clipped distribution.

    As in the talk every threshold of 128 bins and more is tried: what is beyond it counts into the last bin of the
    reference, and the bins that share a level share its values, but for those that are empty. Zeros are taken to be
    as many as their neighbours, since a ReLU's would outweigh all else and cost nothing. 0 if all values are 0.
    """
    if observed.largest == 0:
        return 0.0
    joined = BINS // HISTOGRAM
    counts = observed.counts.reshape(HISTOGRAM, joined).sum(axis=1).astype(np.float64)
    counts[0] = counts[1]
    used = (observed.used - 1) // joined + 1
    if used <= LEVELS or not counts[:used].any():
        return observed.largest
    thresholds = range(LEVELS, used + 1)
    divergences = [divergence(counts, threshold) for threshold in thresholds]
    # Of equals the largest: what was not seen is then clipped last.
    best = len(divergences) - 1 - int(np.argmin(divergences[::-1]))
    return min(observed.largest, thresholds[best] * joined * observed.width)


def divergence(counts: NDArray[np.float64], threshold: int) -> float:
    """D(P || Q) of the first `threshold` bins; infinite if Q is 0 where P is not."""
    inside = counts[:threshold]
    reference = inside.copy()
    reference[-1] += counts[threshold:].sum()
    level = np.arange(threshold) * LEVELS // threshold
    full = inside > 0
    values = np.bincount(level, inside, LEVELS)
    shared = np.bincount(level, full, LEVELS)
    quantised = np.where(full, values[level] / np.maximum(shared[level], 1), 0)
    there = reference > 0
    if not quantised.any() or (quantised[there] == 0).any():
        return np.inf
    p = reference[there] / reference.sum()
    q = quantised[there] / quantised.sum()
    return float((p * np.log(p / q)).sum())
