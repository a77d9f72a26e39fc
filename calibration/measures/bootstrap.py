"""Pictures drawn anew, with replacement."""

from __future__ import annotations

import functools

import numpy as np
from numpy.typing import NDArray

Counts = NDArray[np.int32]

_SEED = 20


@functools.lru_cache(maxsize=2)
def draws(pictures: int, resamples: int) -> Counts:
    """(pictures, resamples) how often each picture was drawn; the same for the same two numbers."""
    rng = np.random.default_rng(_SEED)
    drawn = np.empty((resamples, pictures), np.int32)
    for row in drawn:
        row[:] = np.bincount(rng.integers(pictures, size=pictures), minlength=pictures)
    counts = np.ascontiguousarray(drawn.T)
    counts.flags.writeable = False
    return counts


def interval(losses: NDArray[np.float64]) -> tuple[float, float]:
    """Limits of the middle 95 % of the resamples' losses; of those that have one, NaN is none."""
    known = losses[~np.isnan(losses)]
    if not len(known):
        return (0.0, 0.0)
    low, high = np.percentile(known, [2.5, 97.5])
    return float(low), float(high)
