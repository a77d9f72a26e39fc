"""What is known of an activation's values after some pictures: enough to choose its scale, small enough to keep."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from math import frexp, gcd, isfinite, ldexp
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from calibration.errors import CalibrationError

BINS = 8192
SAMPLED = 1 << 16
"""Values of one tensor and picture that enter its histogram, at least; what larger tensors have more is passed over."""
_LEAST_EXPONENT = -96
"""Of the histogram's span; activations that small are 0 for every purpose, and 2**96 is still a float32."""
_FORMAT = 3


@dataclass(frozen=True, eq=False)
class Observed:
    """Statistics of one tensor. Those of two lots of pictures merge into those of all, exactly."""

    largest: float
    """Largest magnitude of any value."""
    lowest: float
    """Lowest of any value."""
    exponent: int
    """The histogram spans 0 to 2**exponent."""
    counts: NDArray[np.int64]
    """(BINS,) values whose magnitude is in each bin."""
    channel_largest: NDArray[np.float32]
    """(C,) largest magnitude in each channel; a channel is an index of axis 1."""
    channel_sum: NDArray[np.float64]
    """(C,) of all values."""
    channel_square_sum: NDArray[np.float64]
    """(C,) of the squares of all values."""
    count: int
    """Values seen, all channels together."""

    @property
    def width(self) -> float:
        """Of a bin: a power of two, so that scaling by powers of two and doubling it lose nothing."""
        return ldexp(1, self.exponent) / BINS

    @property
    def channel_mean(self) -> NDArray[np.float64]:
        """(C,) mean of each channel's values."""
        return self.channel_sum * (len(self.channel_sum) / self.count)

    @property
    def channel_deviation(self) -> NDArray[np.float64]:
        """(C,) standard deviation of each channel's values."""
        mean_square = self.channel_square_sum * (len(self.channel_sum) / self.count)
        return np.sqrt(np.maximum(mean_square - np.square(self.channel_mean), 0))

    @cached_property
    def used(self) -> int:
        """Bins up to the one that the largest magnitude is in."""
        return int(self.largest / self.width) + 1

    @classmethod
    def of(cls, name: str, values: NDArray[Any], turn: int = 0) -> Observed:
        """Statistics of one picture's values, (1, C, ...) or (1, C).

        Of a large tensor every n-th value enters the histogram, another one each `turn`; all enter the rest.
        Raises CalibrationError naming the tensor if a value is not finite.
        """
        values = np.asarray(values, np.float32)
        channels = values.shape[1] if values.ndim > 1 else 1
        rows = values.reshape(channels, -1)
        lowest = rows.min(axis=1)
        channel_largest = np.maximum(rows.max(axis=1), -lowest)  # no copy of the whole, which np.abs is
        largest = float(channel_largest.max())
        if not isfinite(largest):
            raise CalibrationError(
                f"{name}: the FP32 network computes values that are not finite; it cannot be calibrated"
            )
        exponent = max(frexp(largest)[1], _LEAST_EXPONENT)
        step = _step(values.size, values.shape[-1] if values.ndim else 1)
        sample = np.abs(rows.reshape(-1)[turn % step :: step])
        bins = (sample * np.float32(ldexp(BINS, -exponent))).astype(np.intp)
        return cls(
            largest=largest,
            lowest=float(lowest.min()),
            exponent=exponent,
            counts=np.bincount(bins, minlength=BINS),
            channel_largest=channel_largest,
            channel_sum=rows.sum(axis=1).astype(np.float64),
            channel_square_sum=np.einsum("ci,ci->c", rows, rows).astype(np.float64),
            count=values.size,
        )

    def merge(self, other: Observed) -> Observed:
        """Statistics of both lots of pictures."""
        exponent = max(self.exponent, other.exponent)
        return Observed(
            largest=max(self.largest, other.largest),
            lowest=min(self.lowest, other.lowest),
            exponent=exponent,
            counts=self._counts_over(exponent) + other._counts_over(exponent),
            channel_largest=np.maximum(self.channel_largest, other.channel_largest),
            channel_sum=self.channel_sum + other.channel_sum,
            channel_square_sum=self.channel_square_sum + other.channel_square_sum,
            count=self.count + other.count,
        )

    def _counts_over(self, exponent: int) -> NDArray[np.int64]:
        """(BINS,) the same values in a histogram that spans 0 to 2**exponent, which is at least this one's."""
        if exponent == self.exponent:
            return self.counts
        joined = 1 << min(exponent - self.exponent, BINS.bit_length() - 1)
        counts = np.zeros(BINS, np.int64)
        counts[: BINS // joined] = self.counts.reshape(-1, joined).sum(axis=1)
        return counts


def _step(size: int, row: int) -> int:
    """Which n-th values are sampled: n has no divisor in common with the row's length, so every column has its turn."""
    step = max(1, size // SAMPLED)
    while gcd(step, row) > 1 and step > 1:
        step -= 1
    return step


def save(observed: dict[str, Observed], path: Path) -> None:
    """Write statistics to an npz file: it is there whole or not at all."""
    arrays: dict[str, NDArray[Any]] = {
        "format": np.array([_FORMAT, BINS], np.int64),
        "names": np.array(list(observed), dtype=np.str_),
        "largest": np.array([one.largest for one in observed.values()], np.float64),
        "lowest": np.array([one.lowest for one in observed.values()], np.float64),
        "exponent": np.array([one.exponent for one in observed.values()], np.int64),
        "count": np.array([one.count for one in observed.values()], np.int64),
    }
    for index, one in enumerate(observed.values()):
        arrays[f"counts.{index}"] = one.counts
        arrays[f"channel_largest.{index}"] = one.channel_largest
        arrays[f"channel_sum.{index}"] = one.channel_sum
        arrays[f"channel_square_sum.{index}"] = one.channel_square_sum
    partial = path.with_name(f".partial-{path.name}")
    try:
        with partial.open("wb") as file:
            np.savez_compressed(file, **arrays)  # type: ignore[arg-type]  # the stub takes the names for its own
        partial.replace(path)
    except OSError as error:
        raise CalibrationError(f"{path}: cannot be written ({error.strerror})") from None
    finally:
        partial.unlink(missing_ok=True)


def load(path: Path) -> dict[str, Observed]:
    """Read what `save` wrote. Raises CalibrationError naming the file if it is damaged or another version's."""
    try:
        with np.load(path, allow_pickle=False) as arrays:
            if arrays["format"].tolist() != [_FORMAT, BINS]:
                raise ValueError("of another version")
            return {str(name): _read(arrays, index) for index, name in enumerate(arrays["names"])}
    except OSError as error:
        raise CalibrationError(f"{path}: cannot be read ({error.strerror or error})") from None
    except Exception as error:  # noqa: BLE001  # zipfile and numpy take damage for a dozen different things
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise CalibrationError(f"{path}: not a sound file of activation statistics ({reason}); delete it") from None


def _read(arrays: Any, index: int) -> Observed:
    one = Observed(
        largest=float(arrays["largest"][index]),
        lowest=float(arrays["lowest"][index]),
        exponent=int(arrays["exponent"][index]),
        counts=arrays[f"counts.{index}"],
        channel_largest=arrays[f"channel_largest.{index}"],
        channel_sum=arrays[f"channel_sum.{index}"],
        channel_square_sum=arrays[f"channel_square_sum.{index}"],
        count=int(arrays["count"][index]),
    )
    channels = one.channel_largest.shape
    sound = (
        one.counts.shape == (BINS,)
        and one.counts.dtype == np.int64
        and one.channel_largest.dtype == np.float32
        and one.channel_sum.dtype == np.float64
        and len(channels) == 1
        and one.channel_sum.shape == channels
        and one.channel_square_sum.dtype == np.float64
        and one.channel_square_sum.shape == channels
        and 0 < one.counts.sum() <= one.count
        and one.counts.min() >= 0
        and 0 <= one.largest < ldexp(1, one.exponent)
        and one.exponent >= _LEAST_EXPONENT
        and one.largest == one.channel_largest.max()
        and abs(one.lowest) <= one.largest
        and bool(np.isfinite(one.channel_sum).all())
        and bool(np.isfinite(one.channel_square_sum).all())
    )
    if not sound:
        raise ValueError("its numbers contradict each other")
    return one
