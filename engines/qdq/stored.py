"""Numbers as a table stores them: signed bytes in base64, exact, and the same text for the same numbers.

Nothing is compressed: what zlib writes differs between its versions.
"""

from __future__ import annotations

import base64
import binascii
from typing import Any

import numpy as np
from numpy.typing import NDArray

MOST_EXPONENT = 14
"""Of a channel's power of two: 2**-14 is the smallest that float16 holds in full."""
_LEVELS = 127
_EXPONENTS = range(-100, 101)
"""Of a correction's step: whatever its level, the product is a normal float32."""


def pack_exponents(exponents: NDArray[np.integer[Any]]) -> str:
    """Text of (C,) exponents of two, each -14 to 14. Raises ValueError for others."""
    found = np.asarray(exponents)
    if found.ndim != 1 or not found.size or np.any(np.abs(found.astype(np.int64)) > MOST_EXPONENT):
        raise ValueError(f"exponents are one row of whole numbers, -{MOST_EXPONENT} to {MOST_EXPONENT}")
    return _text(found.astype(np.int8))


def unpack_exponents(text: str) -> NDArray[np.int8]:
    """Return the (C,) exponents. Raises ValueError in words for what `pack_exponents` would not write."""
    exponents = _bytes(text)
    if np.any(np.abs(exponents.astype(np.int64)) > MOST_EXPONENT):
        raise ValueError(f"has an exponent beyond +-{MOST_EXPONENT}")
    return exponents


def pack_correction(values: NDArray[np.floating[Any]]) -> str:
    """Text of (C,) bias corrections, rounded: the exponent of their step, then a level of -127 to 127 a channel.

    The step is the smallest power of two with which the largest fits, so that the error is less than 1 % of that.
    Raises ValueError for values that are not finite numbers of float32.
    """
    found = np.asarray(values, np.float64)
    largest = float(np.abs(found).max()) if found.ndim == 1 and found.size else np.nan
    if not np.isfinite(largest):
        raise ValueError("corrections are one row of finite numbers")
    smallest = 2.0 ** _EXPONENTS[0]
    step = _EXPONENTS[0] if largest <= smallest * _LEVELS else int(np.ceil(np.log2(largest / _LEVELS)))
    step = step if largest > 0 else 0
    if step not in _EXPONENTS:
        raise ValueError(f"a correction of {largest:.3g} is too large")
    levels = np.clip(np.rint(np.ldexp(found, -step)), -_LEVELS, _LEVELS)
    return _text(np.concatenate([[step], levels]).astype(np.int8))


def unpack_correction(text: str) -> NDArray[np.float32]:
    """Return the (C,) corrections. Raises ValueError in words for what `pack_correction` would not write."""
    step, levels = (found := _bytes(text))[0], found[1:]
    if not levels.size:
        raise ValueError("has no channels")
    if int(step) not in _EXPONENTS or np.any(levels < -_LEVELS):
        raise ValueError("has a step or a level out of range")
    corrections: NDArray[np.float32] = np.ldexp(levels.astype(np.float32), int(step))
    return corrections


def pack_moments(mean: NDArray[np.floating[Any]], deviation: NDArray[np.floating[Any]]) -> str:
    """Text of (C,) means and deviations of a tensor's channels, in units of their own, each 127th of the largest.

    Only ratios matter to what reads them. A deviation is one unit at least: no input is certain.
    Raises ValueError for numbers that are not finite, or negative deviations.
    """
    rows = [np.asarray(row, np.float64) for row in (mean, deviation)]
    if rows[0].ndim != 1 or rows[0].shape != rows[1].shape or not rows[0].size or not np.all(np.isfinite(rows)):
        raise ValueError("means and deviations are two rows of finite numbers")
    if np.any(rows[1] < 0):
        raise ValueError("a deviation is negative")
    unit = max(float(np.abs(rows).max()), np.finfo(np.float64).tiny) / _LEVELS
    levels = [np.rint(row / unit) for row in rows]
    return _text(np.concatenate([levels[0], np.maximum(levels[1], 1)]).astype(np.int8))


def unpack_moments(text: str) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return (C,) means and (C,) deviations. Raises ValueError in words for what `pack_moments` would not write."""
    levels = _bytes(text)
    channels, odd = divmod(len(levels), 2)
    mean, deviation = levels[:channels].astype(np.float64), levels[channels:].astype(np.float64)
    if odd or not channels or np.any(mean < -_LEVELS) or np.any(deviation < 1):
        raise ValueError("has means and deviations that are not those of channels")
    return mean, deviation


def _text(numbers: NDArray[np.int8]) -> str:
    return base64.b64encode(numbers.tobytes()).decode("ascii")


def _bytes(text: str) -> NDArray[np.int8]:
    """Read base64 that has one spelling only: an equal table has equal text."""
    try:
        data = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        raise ValueError("is not base64") from None
    if not data or base64.b64encode(data).decode("ascii") != text:
        raise ValueError("is not base64 of one byte or more, as it is always written")
    return np.frombuffer(data, np.int8)
