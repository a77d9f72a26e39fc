"""Rounding weights so that their errors cancel on what the network usually sees.

A convolution's output is wrong by sum(d[k] x[k]), d being the rounding errors of one output channel's weights and x its
inputs. Were the inputs independent of each other, with mean m and variance v, the mean square of that would be
sum(v[k] d[k]^2) + (sum(m[k] d[k]))^2. Rounding to nearest minimises the first term alone; but activations are mostly
positive, so that the second is the larger. One weight after the other is therefore rounded to where the weights still
to come can best make up for it, as in optimal brain surgery (Hassibi & Stork 1993; Frantar et al. 2023, GPTQ) with the
covariance of that model instead of a measured one: a mean and a deviation of each input channel are all that it needs,
they fit into a table, and the closed form needs nothing but sums in a fixed order, so that every machine rounds alike.

docs/adr/0027-how-calibration-searches.md has what it gains.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]


def feedback_rounding(
    weights: Floats, scale: Floats, most: NDArray[Any], mean: Floats, deviation: Floats
) -> NDArray[np.int8]:
    """(O, K) levels for weights (O, K) of scale (O,), none of a magnitude over `most` (O, K).

    mean and deviation (O, K) are of the inputs that the weights meet, in any unit; deviations must be positive.
    """
    pull = mean / (deviation * deviation)
    # Those that weigh most are rounded first: the finest steps are left to make up for them.
    order = np.argsort(-np.abs(mean), axis=1, kind="stable")
    weights, most, mean, pull = (np.take_along_axis(part, order, 1) for part in (weights, most, mean, pull))
    # What the weights from k on can make up for; added up in one order, so that every machine has the same sum.
    ahead = 1.0 + np.cumsum((mean * pull)[:, ::-1], axis=1)[:, ::-1]
    levels = np.zeros(weights.shape)
    error = np.zeros(len(weights))
    for k in range(weights.shape[1]):
        wanted = weights[:, k] - error * (pull[:, k] / ahead[:, k])
        levels[:, k] = np.clip(np.rint(wanted / scale), -most[:, k], most[:, k])
        error += mean[:, k] * (levels[:, k] * scale - weights[:, k])
    rounded = np.empty(levels.shape, np.int8)
    np.put_along_axis(rounded, order, levels.astype(np.int8), 1)
    return rounded
