"""Ranges of activations: what is kept of them, and where each method clips."""

from __future__ import annotations

import tracemalloc
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import onnx
import pytest
from numpy.typing import NDArray

from calibration.errors import CalibrationError, DatasetError
from calibration.ranges import METHODS, Observed, load, observe, save
from calibration.ranges.entropy import divergences
from calibration.ranges.mse import squared_errors
from calibration.ranges.observed import BINS, SAMPLED
from engines.graph import INPUT, Normalisation, bake
from engines.qdq import activations, quantised_nodes
from tests.support.models import SIZE, tiny_network

RNG_VALUES = 60_000


def observed(values: NDArray[np.float64]) -> Observed:
    """Statistics of the values, few enough that all enter the histogram."""
    assert values.size < 2 * SAMPLED
    return Observed.of("x", values.astype(np.float32).reshape(1, 1, 1, -1))


def gaussian() -> NDArray[np.float64]:
    return np.random.default_rng(0).normal(0, 1, RNG_VALUES)


def laplace() -> NDArray[np.float64]:
    return np.random.default_rng(1).laplace(0, 1, RNG_VALUES)


def uniform() -> NDArray[np.float64]:
    return np.random.default_rng(2).uniform(-3, 3, RNG_VALUES)


def spike_at_six() -> NDArray[np.float64]:
    """Behind a ReLU6: a third at 0, a third at 6."""
    return np.clip(np.random.default_rng(3).normal(3, 7, RNG_VALUES), 0, 6)


DISTRIBUTIONS = [gaussian, laplace, uniform, spike_at_six]


@pytest.fixture(scope="module")
def network() -> onnx.ModelProto:
    return bake(tiny_network(), Normalisation(mean=(127,), std=(128,)), "tiny")


def pictures(count: int, seed: int = 0) -> list[NDArray[np.uint8]]:
    rng = np.random.default_rng(seed)
    return [rng.integers(0, 256, (1, 3, SIZE, SIZE), np.uint8) for _ in range(count)]


def same(a: Observed, b: Observed) -> bool:
    return (a.largest, a.exponent, a.count) == (b.largest, b.exponent, b.count) and all(
        np.array_equal(getattr(a, name), getattr(b, name)) for name in ("counts", "channel_largest", "channel_sum")
    )


# What is kept


def test_statistics_are_those_of_the_values() -> None:
    """Largest magnitudes and means by channel, and how many values are in each bin."""
    values = np.random.default_rng(4).normal(0, 2, (1, 5, 20, 30)).astype(np.float32)
    found = Observed.of("x", values)
    assert found.largest == np.abs(values).max()
    assert np.array_equal(found.channel_largest, np.abs(values).max(axis=(0, 2, 3)))
    assert np.allclose(found.channel_mean, values.mean(axis=(0, 2, 3)), atol=1e-6)
    expected, _ = np.histogram(np.abs(values), BINS, (0, 2.0**found.exponent))
    assert np.array_equal(found.counts, expected)
    assert found.used * found.width >= found.largest > (found.used - 1) * found.width


def test_rows_of_numbers_are_channels_too() -> None:
    """(1, C), as before a fully connected layer."""
    found = Observed.of("x", np.array([[1.0, -3.0]], np.float32))
    assert found.channel_largest.tolist() == [1, 3]
    assert found.channel_mean.tolist() == [1, -3]


def test_a_larger_value_doubles_the_bins() -> None:
    """And loses nobody: the histogram is that of all values at once."""
    small, large = gaussian()[:1000], 100 * gaussian()[1000:2000]
    both = observed(np.concatenate([small, large]))
    merged = observed(small).merge(observed(large))
    assert merged.exponent == both.exponent
    assert np.array_equal(merged.counts, both.counts)
    assert np.array_equal(observed(large).merge(observed(small)).counts, both.counts)


def test_values_out_of_all_proportion_share_a_bin() -> None:
    """More doublings than there are bins leave all that was small in the first."""
    merged = observed(np.full(10, 1e-20)).merge(observed(np.full(3, 1e20)))
    assert merged.counts[0] == 10
    assert merged.counts.sum() == 13


def test_nothing_but_zeros() -> None:
    """An activation that is always 0 is no error; a later picture may differ."""
    zeros = observed(np.zeros(100))
    assert (zeros.largest, zeros.counts[0]) == (0, 100)
    assert zeros.merge(observed(np.ones(5))).largest == 1


@pytest.mark.parametrize("turn", [0, 1, 57])
def test_of_large_tensors_enough_values_enter_the_histogram(turn: int) -> None:
    """In every column of the picture, and all of them the largest magnitudes."""
    values = np.zeros((1, 8, 208, 208), np.float32)
    values[:] = np.arange(1, 209)
    values[0, 3, 100, 50] = 1000
    found = Observed.of("x", values, turn)
    assert found.largest == 1000
    assert found.counts.sum() >= SAMPLED
    columns = found.counts[np.floor(np.arange(1, 209) / found.width).astype(int)]
    assert columns.min() > 0.8 * columns.max()


def test_sampling_takes_its_turns() -> None:
    """What one picture's sample passes over, another one's takes."""
    values = np.ones((1, 4, 201, 201), np.float32)
    values[0, 0, 0, 1] = 2.0
    assert sum(int(Observed.of("x", values, turn).counts[BINS // 2 :].sum()) for turn in range(2)) == 1


@pytest.mark.parametrize("wrong", [np.nan, np.inf, -np.inf])
def test_values_that_are_not_finite_are_an_error_that_names_the_tensor(wrong: float) -> None:
    values = np.zeros((1, 2, 3, 3), np.float32)
    values[0, 1, 2, 2] = wrong
    with pytest.raises(CalibrationError, match=r"block7/relu: .* not finite") as caught:
        Observed.of("block7/relu", values)
    assert "\n" not in str(caught.value)


# A network's


def test_each_activation_is_observed(network: onnx.ModelProto) -> None:
    """In every tensor that INT8 needs, behind the clips none over 6."""
    tensors = activations(quantised_nodes(network))
    done: list[int] = []
    found = observe(network, tensors, pictures(3), done.append)
    assert list(found) == tensors
    assert done == [1, 2, 3]
    assert all(one.largest > 0 for one in found.values())
    assert found["stem.relu6"].largest <= 6
    assert found["stem.relu6"].count == 3 * 8 * SIZE * SIZE
    assert found["normalised"].channel_largest.shape == (3,)


def test_observing_again_gives_the_same(network: onnx.ModelProto, monkeypatch: pytest.MonkeyPatch) -> None:
    """To the last bit, on one core as on four, and all pictures at once as two lots merged."""
    tensors = activations(quantised_nodes(network))
    runs = []
    for cores in (1, 4):
        monkeypatch.setattr("os.sched_getaffinity", lambda _, cores=cores: set(range(cores)))
        runs.append(observe(network, tensors, pictures(9)))
    one, four = runs
    assert all(same(one[name], four[name]) for name in tensors)
    first, rest = observe(network, tensors, pictures(9)[:4]), observe(network, tensors, pictures(9)[4:])
    merged = {name: first[name].merge(rest[name]) for name in tensors}
    assert all(np.array_equal(merged[name].counts, one[name].counts) for name in tensors)


def test_pictures_are_taken_as_they_are_wanted(network: onnx.ModelProto, monkeypatch: pytest.MonkeyPatch) -> None:
    """Never more at a time than there are cores to work on them, however many there are."""
    monkeypatch.setattr("os.sched_getaffinity", lambda _: {0, 1})
    taken = 0
    ahead = []

    def endless() -> Iterator[NDArray[np.uint8]]:
        nonlocal taken
        for picture in pictures(20):
            taken += 1
            yield picture

    observe(network, ["stem"], endless(), lambda done: ahead.append(taken - done))
    assert max(ahead) <= 3


def test_memory_does_not_grow_with_the_pictures(network: onnx.ModelProto) -> None:
    picture = pictures(1)[0]
    peaks = []
    for count in (4, 40):
        tracemalloc.start()
        observe(network, ["stem.relu6", "deep.relu6"], (picture for _ in range(count)))
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert peaks[1] < 1.5 * peaks[0]


def test_without_pictures_there_is_nothing_to_observe(network: onnx.ModelProto) -> None:
    with pytest.raises(DatasetError, match="no picture"):
        observe(network, ["stem"], [])


def test_a_picture_that_does_not_fit_is_a_line(network: onnx.ModelProto) -> None:
    with pytest.raises(CalibrationError, match="cannot run the model") as caught:
        observe(network, ["stem"], [np.zeros((1, 3, 5, 5), np.uint8)])
    assert "\n" not in str(caught.value)


def test_a_tensor_that_the_model_does_not_have_is_a_line(network: onnx.ModelProto) -> None:
    with pytest.raises(CalibrationError, match="cannot load the model"):
        observe(network, ["nowhere"], pictures(1))


def test_an_unreadable_picture_stops_at_once(network: onnx.ModelProto) -> None:
    """Its own error comes out, and no thread stays behind."""

    def broken() -> Iterator[NDArray[np.uint8]]:
        yield from pictures(2)
        raise DatasetError("cat.jpg: not a readable picture")

    with pytest.raises(DatasetError, match=r"cat\.jpg"):
        observe(network, ["stem"], broken())


# Kept on disk


def test_saved_statistics_come_back(tmp_path: Path) -> None:
    kept = {"a/b.c": observed(gaussian()), "zeros": observed(np.zeros(10)), INPUT: observed(uniform())}
    save(kept, tmp_path / "ranges.npz")
    back = load(tmp_path / "ranges.npz")
    assert list(back) == list(kept)
    assert all(same(back[name], kept[name]) for name in kept)
    assert [path.name for path in tmp_path.iterdir()] == ["ranges.npz"]


def test_saving_again_gives_the_same_bytes(tmp_path: Path) -> None:
    for name in ("one", "two"):
        save({"x": observed(gaussian())}, tmp_path / name)
    assert (tmp_path / "one").read_bytes() == (tmp_path / "two").read_bytes()


def test_a_file_cut_short_is_refused_by_name(tmp_path: Path) -> None:
    path = tmp_path / "ranges.npz"
    save({"x": observed(gaussian())}, path)
    whole = path.read_bytes()
    for length in (0, 1, 100, len(whole) // 2, len(whole) - 1):
        path.write_bytes(whole[:length])
        with pytest.raises(CalibrationError, match=r"ranges\.npz: ") as caught:
            load(path)
        assert "\n" not in str(caught.value)


def test_a_file_with_a_changed_byte_is_refused_or_says_the_same(tmp_path: Path) -> None:
    """Zip's checksums find changes in the data; elsewhere in the file a change may mean nothing."""
    path = tmp_path / "ranges.npz"
    kept = observed(gaussian())
    save({"x": kept}, path)
    whole = path.read_bytes()
    refused = 0
    for place in np.random.default_rng(5).integers(0, len(whole), 300):
        path.write_bytes(whole[:place] + bytes([whole[place] ^ 0x55]) + whole[place + 1 :])
        try:
            back = load(path)
        except CalibrationError:
            refused += 1
        else:
            assert same(back["x"], kept)
    assert refused > 200


@pytest.mark.parametrize(
    ("field", "value"),
    [("largest", -1.0), ("largest", 1e9), ("exponent", -1000), ("count", 3), ("format", [99, BINS])],
)
def test_numbers_that_contradict_each_other_are_refused(tmp_path: Path, field: str, value: float) -> None:
    path = tmp_path / "ranges.npz"
    save({"x": observed(gaussian())}, path)
    with np.load(path) as arrays:
        content = dict(arrays)
    content[field] = np.full(content[field].shape, value, content[field].dtype)
    np.savez(path, **content)
    with pytest.raises(CalibrationError, match="not a sound file"):
        load(path)


def test_a_missing_file_is_a_line(tmp_path: Path) -> None:
    with pytest.raises(CalibrationError, match=r"none\.npz: cannot be read \(No such file or directory\)"):
        load(tmp_path / "none.npz")


# Methods


def best_by_search(values: NDArray[np.float64], thresholds: NDArray[np.float64]) -> tuple[float, float]:
    """Threshold with the least mean squared error of the values themselves, and that error."""
    errors = []
    for threshold in thresholds:
        step = threshold / 127
        errors.append(float(np.square(np.clip(np.rint(values / step), -127, 127) * step - values).mean()))
    return float(thresholds[np.argmin(errors)]), min(errors)


def error_at(values: NDArray[np.float64], threshold: float) -> float:
    return best_by_search(values, np.array([threshold]))[1]


@pytest.mark.parametrize("draw", DISTRIBUTIONS)
def test_the_least_squared_error_is_that_of_a_search_over_the_values(draw) -> None:
    values = draw()
    found = METHODS["mean-squared-error"](observed(values))
    _, least = best_by_search(values, np.linspace(0.3, 1, 200) * np.abs(values).max())
    assert error_at(values, found) <= 1.01 * least


def test_squared_errors_are_those_of_each_bin() -> None:
    """Cumulative sums against quantising bin by bin."""
    counts = np.random.default_rng(6).integers(0, 50, BINS)
    thresholds = np.array([127, 128, 1000, 4097, BINS])
    middles = np.arange(BINS) + 0.5
    for threshold, found in zip(thresholds, squared_errors(counts, thresholds), strict=True):
        step = threshold / 127
        # Half a level belongs to the one below, as the cells have it.
        level = np.clip(np.ceil(middles / step - 0.5), 0, 127)
        assert found == pytest.approx((counts * np.square(level * step - middles)).sum(), rel=1e-9)


def textbook_divergence(counts: NDArray[np.float64], threshold: int) -> float:
    """As the talk has it, bin by bin; a last bin that the levels leave empty counts as one value."""
    reference = counts[:threshold].copy()
    reference[-1] += counts[threshold:].sum()
    quantised = np.zeros(threshold)
    level = np.arange(threshold) * 128 // threshold
    for number in range(128):
        chosen = (level == number) & (counts[:threshold] > 0)
        if chosen.any():
            quantised[chosen] = counts[:threshold][chosen].sum() / chosen.sum()
    if quantised.sum() == 0:
        return np.inf
    p, q = reference / reference.sum(), quantised / quantised.sum()
    return float(sum(a * np.log(a / (b or 1 / quantised.sum())) for a, b in zip(p, q, strict=True) if a > 0))


@pytest.mark.parametrize("empty", [0.0, 0.6, 0.99])
def test_divergences_are_those_of_the_talk(empty: float) -> None:
    """Also where most bins are empty, at the threshold too."""
    rng = np.random.default_rng(7)
    counts = (rng.integers(1, 1000, 2048) * (rng.uniform(size=2048) >= empty)).astype(np.float64)
    counts[1500:] = 0
    thresholds = np.array([128, 129, 200, 777, 1024, 1499, 1500, 1501, 2048])
    expected = [textbook_divergence(counts, int(threshold)) for threshold in thresholds]
    assert divergences(counts, thresholds) == pytest.approx(expected, abs=1e-9)


@pytest.mark.parametrize("share", [99.9, 99.99, 99.999])
@pytest.mark.parametrize("draw", DISTRIBUTIONS)
def test_percentiles_are_those_of_the_values(draw, share: float) -> None:
    """To within a bin above."""
    values = np.sort(np.abs(draw().astype(np.float32)))
    exact = float(values[int(np.ceil(share / 100 * values.size)) - 1])
    found = METHODS[f"percentile {share}"](observed(values))
    assert exact <= found <= exact + 2 * observed(values).width


def test_an_outlier_is_clipped_by_all_but_min_max() -> None:
    """One value of 600,000 that is ten times as large as the rest would cost them three bits of seven."""
    everything = observed(np.array([40.0]))
    for _ in range(10):
        everything = everything.merge(observed(gaussian()))
    for name, method in METHODS.items():
        found = method(everything)
        assert found == 40 if name == "min-max" else 2 < found < 20, name


def test_a_spike_at_the_end_is_not_clipped() -> None:
    """A third of the values at 6 and none beyond: all methods keep them."""
    for name, method in METHODS.items():
        assert method(observed(spike_at_six())) == pytest.approx(6, rel=0.01), name


def test_even_values_are_not_clipped() -> None:
    for name, method in METHODS.items():
        assert method(observed(uniform())) == pytest.approx(3, rel=0.01), name


@pytest.mark.parametrize("name", METHODS)
def test_an_activation_that_is_always_zero_has_no_range(name: str) -> None:
    assert METHODS[name](observed(np.zeros(1000))) == 0


@pytest.mark.parametrize("name", METHODS)
@pytest.mark.parametrize("values", [[5.0], [1.0, 2.0], [0.0] * 99 + [7.0], [-3.0, 3.0]])
def test_a_handful_of_values_is_enough(name: str, values: list[float]) -> None:
    """Nothing divides by the nothing that lies between them; the largest keeps its place or is clipped a little."""
    found = METHODS[name](observed(np.array(values)))
    assert 0 < found <= max(np.abs(values))
