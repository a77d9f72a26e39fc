"""INT8 graphs: what the writer writes."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from pydantic import ValidationError

from engines.errors import CardError, ModelFileError
from engines.graph import constants, serialise
from engines.qdq import Table, activations, apply, lint, quantise_weights, quantised_nodes, scale_of
from engines.quiet import openvino_core
from tests.support.models import SIZE
from tests.support.tables import blank_table, tiny_fp32


@pytest.fixture(scope="module")
def fp32() -> onnx.ModelProto:
    return tiny_fp32()


@pytest.fixture(scope="module")
def table(fp32: onnx.ModelProto) -> Table:
    return table_for(fp32)


def table_for(fp32: onnx.ModelProto, keep: tuple[str, ...] = ()) -> Table:
    largest = {"normalised": 1.0, "sum": 12.0}
    names = activations(quantised_nodes(fp32, keep))
    return blank_table(fp32, kept_float=keep, scales={name: scale_of(largest.get(name, 6.0)) for name in names})


def run(model: onnx.ModelProto, images: np.ndarray) -> np.ndarray:
    core = openvino_core()
    compiled = core.compile_model(core.read_model(serialise(model)), "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    return compiled([images])[0]


def test_int8_is_close_to_fp32(fp32: onnx.ModelProto, table: Table) -> None:
    """Within a few percent of the largest logit, run by OpenVINO."""
    images = np.random.default_rng(1).integers(0, 256, (4, 3, SIZE, SIZE), np.uint8)
    expected, got = run(fp32, images), run(apply(fp32, table), images)
    assert np.abs(got - expected).max() < 0.05 * np.abs(expected).max()


def test_form(fp32: onnx.ModelProto, table: Table) -> None:
    """One Q and one DQ per quantised tensor, one DQ per weights, none between a convolution and its clip."""
    int8 = apply(fp32, table)
    kinds = [node.op_type for node in int8.graph.node]
    assert kinds.count("QuantizeLinear") == len(table.scales) == 5
    assert kinds.count("DequantizeLinear") == 5 + 3
    clips = [node for node in int8.graph.node if node.op_type == "Clip"]
    assert [clip.input[0] for clip in clips] == ["stem", "deep"]
    arrays = constants(int8)
    assert arrays["stem.w.int8"].dtype == np.int8
    assert arrays["stem.w.scale"].shape == (8,)
    assert arrays["fc.b"].dtype == np.float32
    assert "stem.w" not in arrays
    onnx.checker.check_model(int8, full_check=True)
    lint(int8)


def test_same_bytes_each_time(fp32: onnx.ModelProto, table: Table) -> None:
    """The order of the table's scales does not matter either."""
    turned = table.model_copy(update={"scales": dict(reversed(table.scales.items()))})
    assert serialise(apply(fp32, table)) == serialise(apply(fp32, turned))
    assert table.text() == turned.text()


def test_kept_float(fp32: onnx.ModelProto) -> None:
    """A node that is kept in float reads its float weights; nothing else changes."""
    int8 = apply(fp32, table_for(fp32, ("deep",)))
    deep = next(node for node in int8.graph.node if node.name == "deep")
    assert list(deep.input) == ["stem.relu6", "deep.w", "deep.b"]


def test_refuses_a_table_of_another_model(fp32: onnx.ModelProto, table: Table) -> None:
    """By the FP32 file's sha256."""
    with pytest.raises(ModelFileError, match="is for the FP32 model"):
        apply(tiny_fp32(seed=1), table)


def test_refuses_a_table_without_a_scale(fp32: onnx.ModelProto, table: Table) -> None:
    """And says for which tensor."""
    scales = {name: scale for name, scale in table.scales.items() if name != "embedding"}
    with pytest.raises(ModelFileError, match="no scale for embedding"):
        apply(fp32, table.model_copy(update={"scales": scales}))


def test_refuses_a_table_of_another_writer(fp32: onnx.ModelProto, table: Table) -> None:
    """Its bytes would not be those that were proved."""
    with pytest.raises(ModelFileError, match="writer 99"):
        apply(fp32, table.model_copy(update={"writer": 99}))


def test_table_survives_its_text(table: Table) -> None:
    """Read back, it is equal."""
    assert Table.parse(table.text(), "table") == table


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"schema": "sightwire.table/9"}'])
def test_broken_table_text(text: str) -> None:
    """One line that names the file."""
    with pytest.raises(CardError, match=r"x\.json: not a calibration table"):
        Table.parse(text, "x.json")


def test_a_table_is_frozen(table: Table) -> None:
    """Nobody changes a scale between proof and use."""
    with pytest.raises(ValidationError):
        table.writer = 2  # type: ignore[misc]


def test_no_two_weights_of_a_channel_exceed_128_levels() -> None:
    """So x86 without VNNI, which adds products in pairs of 16 bits, does not saturate."""
    weights = np.random.default_rng(0).normal(size=(64, 32, 3, 3)).astype(np.float32)
    levels, scale = quantise_weights(weights, 0)
    pairs = np.sort(np.abs(levels.reshape(64, -1).astype(int)), axis=1)[:, -2:].sum(axis=1)
    assert pairs.max() <= 128
    assert np.abs(levels * scale[:, None, None, None] - weights).max() <= scale.max() / 2 * 1.0001


def test_weights_of_zero() -> None:
    """A channel that is all zero has a scale that is not."""
    levels, scale = quantise_weights(np.zeros((2, 3), np.float32), 0)
    assert not levels.any()
    assert (scale == 1).all()


@pytest.mark.parametrize("value", [1e-6, 0.047, 1.0, 6.0, 12345.678])
def test_scales_have_twelve_bits(value: float) -> None:
    """Rounded by less than one in 2**12, and exact in float32."""
    scale = scale_of(value * 127)
    mantissa, _ = np.frexp(scale)
    assert float(mantissa) * 4096 % 1 == 0
    assert scale == pytest.approx(value, rel=2**-12)
