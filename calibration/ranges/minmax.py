"""Min-max: nothing that was seen is clipped."""

from __future__ import annotations

from calibration.ranges.observed import Observed


def min_max(observed: Observed) -> float:
    """The largest magnitude seen."""
    return observed.largest
