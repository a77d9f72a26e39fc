"""How large activations get on real pictures, and where to clip them so that 127 levels serve them best."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from calibration.ranges.entropy import entropy
from calibration.ranges.minmax import min_max
from calibration.ranges.mse import mean_squared_error
from calibration.ranges.observation import observe
from calibration.ranges.observed import Observed, load, save
from calibration.ranges.percentile import percentile

__all__ = ["METHODS", "Observed", "load", "observe", "save"]

METHODS: dict[str, Callable[[Observed], float]] = {
    "min-max": min_max,
    "percentile 99.999": partial(percentile, share=99.999),
    "percentile 99.99": partial(percentile, share=99.99),
    "percentile 99.9": partial(percentile, share=99.9),
    "entropy": entropy,
    "mean-squared-error": mean_squared_error,
}
"""Name -> the magnitude at which a tensor is clipped to 127 levels of symmetric int8; 0 for one that is always 0."""
