"""Scales of activations, and weights as int8 levels."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

LEVELS = 127
_SCALE_BITS = 12


def scale_of(largest: float) -> float:
    """Scale for values up to +-`largest`, rounded to 12 significant bits so that noise of the last ones is gone."""
    if not largest > 0:
        return 1.0
    mantissa, exponent = np.frexp(largest / LEVELS)
    return float(np.ldexp(np.rint(np.ldexp(mantissa, _SCALE_BITS)), exponent - _SCALE_BITS))


def quantise_weights(
    weights: NDArray[Any], axis: int, *, pair_safe: bool = True
) -> tuple[NDArray[np.int8], NDArray[np.float32]]:
    """Levels of -127 to 127 and one scale per channel of `axis`, from each channel's largest weights.

    x86 without VNNI multiplies int8 in pairs and adds each pair in 16 bits, which saturates in silence: OpenVINO and
    ONNX Runtime then give other answers than elsewhere. `pair_safe`: no two weights of a channel add up to more than
    128 levels, so that 255 * 128 stays below 32767 and every machine computes the same.
    """
    rows = np.moveaxis(weights, axis, 0)
    sizes = np.sort(np.abs(rows.reshape(len(rows), -1)).astype(np.float64), axis=1)
    first = sizes[:, -1]
    span = first.copy()
    if pair_safe and sizes.shape[1] > 1:
        span = np.maximum(first, first + sizes[:, -2])
    scale = np.where(first > 0, span / LEVELS, 1.0).astype(np.float32)
    shape = [-1 if index == axis else 1 for index in range(weights.ndim)]
    levels = np.clip(np.rint(weights / scale.reshape(shape)), -LEVELS, LEVELS).astype(np.int8)
    return levels, scale
