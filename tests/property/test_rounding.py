"""Weights rounded with error feedback: limits that always hold, and never worse on the mean input than to nearest."""

from __future__ import annotations

import base64
import hashlib
from typing import Any

import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper

from engines.errors import ModelFileError
from engines.graph import constant, constants, model_of, serialise
from engines.qdq import Table, apply, lint, pack_moments, quantise_weights, unpack_moments
from engines.qdq.rounding import feedback_rounding
from engines.qdq.weights import Inputs
from tests.support.tables import measured_table, tiny_fp32

Drawn = tuple[np.ndarray, Inputs]
SHAPES = st.tuples(st.integers(1, 4), st.integers(1, 40), st.integers(0, 2**32 - 1))
KINDS = st.sampled_from(["normal", "heavy", "few", "equal", "tiny"])


def drawn(shape: tuple[int, int, int], kind: str) -> Drawn:
    """Weights (O, K) of some distribution, and what they meet."""
    rows, columns, seed = shape
    rng = np.random.default_rng(seed)
    weights = {
        "normal": rng.normal(0, 1, (rows, columns)),
        "heavy": rng.standard_t(1, (rows, columns)),
        "few": rng.normal(0, 1, (rows, columns)) * (rng.random((rows, columns)) < 0.2),
        "equal": np.sign(rng.normal(0, 1, (rows, columns))) * 0.7,
        "tiny": rng.normal(0, 1e-30, (rows, columns)),
    }[kind]
    mean = rng.integers(-127, 128, (rows, columns)).astype(np.float64)
    deviation = rng.integers(1, 128, (rows, columns)).astype(np.float64)
    return weights.astype(np.float32), Inputs(mean, deviation)


@given(SHAPES, KINDS)
def test_no_two_weights_of_a_channel_saturate_16_bits_together(shape: tuple[int, int, int], kind: str) -> None:
    """At most 128 levels, each within 127."""
    weights, inputs = drawn(shape, kind)
    sizes = np.sort(np.abs(quantise_weights(weights, 0, inputs=inputs)[0].astype(int)), axis=1)
    assert sizes.max() <= 127
    assert sizes[:, -2:].sum(axis=1).max() <= 128


@given(SHAPES, KINDS)
def test_all_levels_are_used_within_127_where_pairs_do_not_matter(shape: tuple[int, int, int], kind: str) -> None:
    weights, inputs = drawn(shape, kind)
    levels, scale = quantise_weights(weights, 0, pair_safe=False, inputs=inputs)
    plain, same = quantise_weights(weights, 0, pair_safe=False)
    assert np.abs(levels.astype(int)).max() <= 127
    assert np.array_equal(scale, same)
    assert levels.shape == plain.shape == weights.shape


@given(SHAPES, KINDS, st.booleans())
def test_without_means_it_is_rounding_to_nearest(shape: tuple[int, int, int], kind: str, pair_safe: bool) -> None:
    """But for what two weights may have together, which rounding to nearest can miss by a level."""
    weights, inputs = drawn(shape, kind)
    still = Inputs(np.zeros_like(inputs.mean), inputs.deviation)
    levels, scale = quantise_weights(weights, 0, pair_safe=pair_safe, inputs=still)
    nearest = np.rint(weights.astype(np.float64) / scale.astype(np.float64)[:, None])
    assert np.abs(levels - nearest).max() <= int(pair_safe)
    if not pair_safe:
        assert np.array_equal(levels, np.clip(nearest, -127, 127))


@given(SHAPES, KINDS)
def test_the_modelled_error_is_no_larger_than_with_rounding_to_nearest(shape: tuple[int, int, int], kind: str) -> None:
    """On the mean input by at most a step of the weight that meets most; with room for every level."""
    weights, inputs = drawn(shape, kind)
    scale = np.maximum(np.abs(weights).max(axis=1).astype(np.float64), 1e-37) / 100
    most = np.full(weights.shape, 127)
    exact = weights.astype(np.float64)
    levels = feedback_rounding(exact, scale, most, inputs.mean, inputs.deviation)

    def on_mean(chosen: np.ndarray) -> Any:
        return np.abs(((chosen * scale[:, None] - exact) * inputs.mean).sum(axis=1))

    step = scale * np.abs(inputs.mean).max(axis=1)
    assert np.all(on_mean(levels) <= on_mean(np.rint(exact / scale[:, None])) + step)


def test_errors_cancel_on_what_the_weights_meet() -> None:
    """Over many channels, much of the mean's error is gone, and little is added to that of the rest."""
    rng = np.random.default_rng(0)
    weights = rng.normal(0, 1, (64, 144)).astype(np.float32)
    mean, deviation = rng.uniform(20, 127, (2, 64, 144))
    levels, scale = quantise_weights(weights, 0, inputs=Inputs(mean, deviation))
    plain, _ = quantise_weights(weights, 0)
    wrong = [chosen * scale[:, None] - weights for chosen in (levels, plain)]
    shift = [np.square((error * mean).sum(axis=1)).mean() for error in wrong]
    spread = [np.square(error * deviation).sum(axis=1).mean() for error in wrong]
    assert shift[0] < 0.05 * shift[1]
    assert spread[0] < 1.5 * spread[1]
    assert shift[0] + spread[0] < shift[1] + spread[1]


@given(SHAPES, st.randoms())
def test_channels_are_rounded_each_for_itself(shape: tuple[int, int, int], random: Any) -> None:
    """And the same each time: the order of channels does not matter."""
    weights, inputs = drawn(shape, "normal")
    turned = list(range(len(weights)))
    random.shuffle(turned)
    levels = quantise_weights(weights, 0, inputs=inputs)[0]
    again = quantise_weights(weights[turned], 0, inputs=Inputs(inputs.mean[turned], inputs.deviation[turned]))[0]
    assert np.array_equal(levels[turned], again)


# -- in a graph


def conv(groups: int, seed: int = 0) -> onnx.ModelProto:
    rng = np.random.default_rng(seed)
    weights = rng.normal(0, 1, (8, 12 // groups, 3, 3)).astype(np.float32)
    node = helper.make_node("Conv", ["x", "w"], ["y"], name="y", group=groups, pads=[1] * 4)
    return _network(node, weights, [1, 12, 4, 4], [1, 8, 4, 4])


def gemm(transposed: int, seed: int = 0) -> onnx.ModelProto:
    weights = np.random.default_rng(seed).normal(0, 1, (8, 12)).astype(np.float32)
    node = helper.make_node("Gemm", ["x", "w"], ["y"], name="y", transB=transposed)
    return _network(node, weights if transposed else np.ascontiguousarray(weights.T), [1, 12], [1, 8])


def _network(node: onnx.NodeProto, weights: np.ndarray, x: list[int], y: list[int]) -> onnx.ModelProto:
    graph = onnx.GraphProto(name="one", node=[node], initializer=[constant("w", weights)])
    graph.input.append(helper.make_tensor_value_info("x", TensorProto.FLOAT, x))
    graph.output.append(helper.make_tensor_value_info("y", TensorProto.FLOAT, y))
    return model_of(graph)


def table(fp32: onnx.ModelProto, inputs: dict[str, str]) -> Table:
    return Table(
        model=hashlib.sha256(serialise(fp32)).hexdigest(),
        method="min-max",
        calibration_set="0" * 64,
        pictures=1,
        inputs=inputs,
        scales={"x": 0.0625},
    )


MEAN, DEVIATION = np.arange(12.0) * 10 - 20, np.arange(12.0) + 3


@pytest.mark.parametrize("groups", [1, 2, 4])
def test_a_convolution_s_channels_meet_those_of_their_group(groups: int) -> None:
    fp32 = conv(groups)
    text = pack_moments(MEAN, DEVIATION)
    mean, deviation = unpack_moments(text)
    weights = constants(fp32)["w"]
    rounded = constants(apply(fp32, table(fp32, {"x": text})))["w.int8"]
    for channel in range(8):
        group = channel // (8 // groups)
        own = slice(group * 12 // groups, (group + 1) * 12 // groups)
        met = Inputs(*(np.repeat(row[own], 9)[None] for row in (mean, deviation)))
        expected, _ = quantise_weights(weights[channel].reshape(1, -1), 0, inputs=met)
        assert np.array_equal(rounded[channel].ravel(), expected[0])


def test_a_product_is_rounded_alike_whichever_way_its_matrix_lies() -> None:
    text = pack_moments(MEAN, DEVIATION)
    upright, lying = (constants(apply(fp32, table(fp32, {"x": text})))["w.int8"] for fp32 in (gemm(1), gemm(0)))
    assert np.array_equal(upright, lying.T)
    assert not np.array_equal(upright, constants(apply(gemm(1), table(gemm(1), {})))["w.int8"])


@pytest.mark.parametrize("fp32", [conv(1), conv(4), gemm(0)], ids=["conv", "groups", "gemm"])
@pytest.mark.parametrize("channels", [1, 11, 13, 24])
def test_moments_of_other_channels_are_refused_in_a_line(fp32: onnx.ModelProto, channels: int) -> None:
    text = pack_moments(np.ones(channels), np.ones(channels))
    with pytest.raises(
        ModelFileError, match=f"describes {channels} channels of x, y reads 12: calibrate again"
    ) as told:
        apply(fp32, table(fp32, {"x": text}))
    assert "\n" not in str(told.value)


def test_moments_of_a_tensor_that_is_not_there_are_refused() -> None:
    text = pack_moments(MEAN, DEVIATION)
    with pytest.raises(ModelFileError, match="knows a tensor 'z'"):
        apply(gemm(1), table(gemm(1), {"z": text}))


def test_the_same_table_gives_the_same_bytes_through_its_text() -> None:
    fp32 = tiny_fp32()
    moments = {"normalised": 3, "stem.relu6": 8, "embedding": 8}
    rng = np.random.default_rng(0)
    inputs = {name: pack_moments(rng.normal(1, 1, width), rng.random(width)) for name, width in moments.items()}
    made = measured_table(fp32, inputs=inputs)
    read = Table.parse(made.text(), "table.json")
    assert read == made
    assert serialise(apply(fp32, read)) == serialise(apply(fp32, made)) != serialise(apply(fp32, measured_table(fp32)))
    lint(apply(fp32, read))


# -- as text


@given(st.lists(st.tuples(st.floats(-1e30, 1e30), st.floats(0, 1e30)), min_size=1, max_size=200))
def test_moments_survive_their_text(rows: list[tuple[float, float]]) -> None:
    """Within half a unit, which is a 127th of the largest; packed again they are the same text."""
    mean, deviation = np.array(rows).T
    text = pack_moments(mean, deviation)
    found = unpack_moments(text)
    largest = max(np.abs(mean).max(), deviation.max())
    unit = max(largest, np.finfo(np.float64).tiny) / 127
    assert np.abs(found[0] - mean / unit).max() <= 0.5 + 1e-9
    assert np.all((np.abs(found[1] - deviation / unit) <= 0.5 + 1e-9) | (found[1] == 1))
    assert np.all(found[1] >= 1)
    if max(np.abs(found[0]).max(), found[1].max()) == 127:
        assert pack_moments(*found) == text


@settings(max_examples=100)
@given(st.one_of(st.text(max_size=40), st.binary(max_size=40).map(lambda data: base64.b64encode(data).decode())))
def test_any_text_is_moments_or_a_mistake_in_words(text: str) -> None:
    try:
        found = unpack_moments(text)
    except ValueError as error:
        said = str(error)
    else:
        said, (mean, deviation) = "moments", found
        assert mean.shape == deviation.shape
        assert mean.size
        assert np.abs(mean).max() <= 127
        assert 1 <= deviation.min() <= deviation.max() <= 127
    assert len(said.splitlines()) == 1


@pytest.mark.parametrize(
    ("mean", "deviation"),
    [([], []), ([1.0], [1.0, 2.0]), ([np.nan], [1.0]), ([1.0], [np.inf]), ([1.0], [-1.0]), ([[1.0]], [[1.0]])],
)
def test_what_are_no_moments_is_not_written(mean: list[float], deviation: list[float]) -> None:
    with pytest.raises(ValueError, match=r"two rows of finite numbers|is negative"):
        pack_moments(np.array(mean), np.array(deviation))
