"""Percentile: a given share of the values is not clipped.

Wu et al., Integer Quantization for Deep Learning Inference: Principles and Empirical Evaluation, 2020, section 3.3.
"""

from __future__ import annotations

import numpy as np

from calibration.ranges.observed import Observed


def percentile(observed: Observed, share: float) -> float:
    """Magnitude that `share` per cent of the values do not pass, to within a bin above; 0 if all values are 0."""
    cumulative = np.cumsum(observed.counts)
    # In whole values: a product of floats could miss the last one.
    inside = int(np.ceil(cumulative[-1] * (share / 100)))
    upper = int(np.searchsorted(cumulative, inside)) + 1
    return min(observed.largest, upper * observed.width)
