"""Scales of activations, and weights as int8 levels."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from engines.qdq.rounding import feedback_rounding

LEVELS = 127
_PAIR = 128
"""Levels of two weights together, at most."""
_SCALE_BITS = 12


def scale_of(largest: float) -> float:
    """Scale for values up to +-`largest`, rounded to 12 significant bits so that noise of the last ones is gone."""
    if not largest > 0:
        return 1.0
    mantissa, exponent = np.frexp(largest / LEVELS)
    return float(np.ldexp(np.rint(np.ldexp(mantissa, _SCALE_BITS)), exponent - _SCALE_BITS))


@dataclass(frozen=True)
class Inputs:
    """What the weights (O, K) of a Conv or Gemm meet: mean and deviation of each input, in any unit."""

    mean: NDArray[np.float64]
    deviation: NDArray[np.float64]


def quantise_weights(
    weights: NDArray[Any], axis: int, *, pair_safe: bool = True, inputs: Inputs | None = None
) -> tuple[NDArray[np.int8], NDArray[np.float32]]:
    """Levels of -127 to 127 and one scale per channel of `axis`, from each channel's largest weights.

    Levels are the nearest, or where the inputs are known, those whose errors cancel on them.

    x86 without VNNI multiplies int8 in pairs and adds each pair in 16 bits, which saturates in silence: OpenVINO and
    ONNX Runtime then give other answers than elsewhere. `pair_safe`: no two weights of a channel add up to more than
    128 levels, so that 255 * 128 stays below 32767 and every machine computes the same.
    """
    rows = np.moveaxis(weights, axis, 0)
    flat = rows.reshape(len(rows), -1)
    sizes = np.sort(np.abs(flat).astype(np.float64), axis=1)
    first = sizes[:, -1]
    span = first.copy()
    paired = pair_safe and sizes.shape[1] > 1
    if paired:
        span = np.maximum(first, first + sizes[:, -2])
    # Weights smaller than any normal scale are 0 for every purpose.
    scale = np.where(span / LEVELS >= np.finfo(np.float32).tiny, span / LEVELS, 1.0).astype(np.float32)
    if inputs is None:
        levels = np.clip(np.rint(flat / scale[:, None]), -LEVELS, LEVELS).astype(np.int8)
    else:
        exact = scale.astype(np.float64)
        most = _limits(np.abs(flat), first / exact) if paired else np.full(flat.shape, LEVELS)
        levels = feedback_rounding(flat.astype(np.float64), exact, most, inputs.mean, inputs.deviation)
    return np.moveaxis(levels.reshape(rows.shape), 0, axis), scale


def _limits(sizes: NDArray[Any], largest: NDArray[np.float64]) -> NDArray[np.intp]:
    """(O, K) levels that each weight may have so that any two of a channel stay within 128; `largest`: (O,) levels.

    The largest weight may be rounded up, and so may then every other one.
    """
    own = np.clip(np.ceil(largest), 1, LEVELS).astype(np.intp)
    limits = np.repeat(_PAIR - own[:, None], sizes.shape[1], axis=1)
    np.put_along_axis(limits, sizes.argmax(axis=1)[:, None], own[:, None], 1)
    return limits
