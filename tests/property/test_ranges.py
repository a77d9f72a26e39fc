"""Ranges of activations, for whatever values."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from numpy.typing import NDArray

from calibration.ranges import METHODS, Observed

VALUES = arrays.arrays(np.float32, st.tuples(st.just(1), st.integers(1, 4), st.integers(1, 40)), elements=st.floats(
    -1e6, 1e6, width=32, allow_subnormal=False))  # fmt: skip


@given(VALUES)
@settings(max_examples=25)
def test_a_range_is_positive_and_at_most_the_largest_magnitude(values: NDArray[np.float32]) -> None:
    observed = Observed.of("x", values)
    for name, method in METHODS.items():
        found = method(observed)
        assert (found == 0) if observed.largest == 0 else (0 < found <= observed.largest), name


@given(arrays.arrays(np.float32, (1, 1, 200), elements=st.floats(-64, 64, width=16)), st.integers(-20, 20))
@settings(max_examples=25)
def test_ranges_of_values_times_a_power_of_two_are_the_same_times_it(values: NDArray[np.float32], power: int) -> None:
    """Exactly: a network whose layers are scaled so is quantised to the same levels."""
    one, other = Observed.of("x", values), Observed.of("x", values * np.float32(2.0**power))
    for name, method in METHODS.items():
        assert method(other) == method(one) * 2.0**power, name


@given(st.lists(VALUES, min_size=2, max_size=5), st.randoms(use_true_random=False))
@settings(max_examples=25)
def test_the_order_of_merging_does_not_matter(lots, random) -> None:
    """For histograms and largest magnitudes, to the last count."""
    channels = min(lot.shape[1] for lot in lots)
    found = [Observed.of("x", lot[:, :channels]) for lot in lots]
    one = found[0]
    for part in found[1:]:
        one = one.merge(part)
    random.shuffle(found)
    other = found[0]
    for part in found[1:]:
        other = other.merge(part)
    assert (one.largest, one.exponent, one.count) == (other.largest, other.exponent, other.count)
    assert np.array_equal(one.counts, other.counts)
    assert np.array_equal(one.channel_largest, other.channel_largest)
    assert other.channel_sum == pytest.approx(one.channel_sum, rel=1e-6, abs=1)
