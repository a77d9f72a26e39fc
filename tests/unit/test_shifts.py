"""Tensors moved before they are quantised, and biases that give it back."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from engines.errors import ModelFileError
from engines.graph import constant, model_of
from engines.qdq import apply, lint, shiftable
from engines.qdq.shifts import given_back
from tests.support.tables import blank_table, run_onnx

CHANNELS, SIDE = 6, 8
STEP = 2.0**-6


@pytest.fixture(scope="module")
def network() -> onnx.ModelProto:
    """One SiLU: images -> Cast -> SiLU -> 1x1 convolution; its input also feeds a padded one."""
    rng = np.random.default_rng(3)
    nodes = [
        helper.make_node("Cast", ["images"], ["float"], name="cast", to=TensorProto.FLOAT),
        helper.make_node("Mul", ["float", "unit"], ["unit.scaled"], name="scaled"),
        helper.make_node("Conv", ["unit.scaled", "a.w"], ["a"], name="a"),
        helper.make_node("Sigmoid", ["a"], ["gate"], name="gate"),
        helper.make_node("Mul", ["a", "gate"], ["silu"], name="silu"),
        helper.make_node("Conv", ["silu", "b.w", "b.b"], ["logits"], name="b"),
        helper.make_node("Conv", ["silu", "c.w"], ["edges"], name="c", pads=[1, 1, 1, 1], kernel_shape=[3, 3]),
    ]
    constants = [
        constant("unit", np.float32(1 / 64).reshape(())),
        constant("a.w", rng.normal(0, 1, (CHANNELS, 3, 1, 1)).astype(np.float32)),
        constant("b.w", rng.normal(0, 1, (4, CHANNELS, 1, 1)).astype(np.float32)),
        constant("b.b", rng.normal(0, 1, 4).astype(np.float32)),
        constant("c.w", rng.normal(0, 1, (2, CHANNELS, 3, 3)).astype(np.float32)),
    ]
    graph = onnx.GraphProto(name="silu", node=nodes, initializer=constants)
    graph.input.append(helper.make_tensor_value_info("images", TensorProto.UINT8, ["N", 3, SIDE, SIDE]))
    graph.output.append(helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["N", 4, SIDE, SIDE]))
    graph.output.append(helper.make_tensor_value_info("edges", TensorProto.FLOAT, ["N", 2, SIDE, SIDE]))
    return model_of(graph)


def pixels() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (1, 3, SIDE, SIDE), np.uint8)


def test_only_what_unpadded_convolutions_read_can_be_shifted(network: onnx.ModelProto) -> None:
    """Zeros that a convolution pads with would be of shifted values."""
    assert "silu" not in shiftable(network)
    assert shiftable(network, ("c",)) == ["unit.scaled", "silu"]


def test_a_shift_is_given_back_in_the_bias(network: onnx.ModelProto) -> None:
    """With and without it the network computes the same, to the noise of the rounding."""
    largest = 12.0
    plain = blank_table(network, kept_float=("a", "c"), scales={"silu": largest / 127})
    moved = blank_table(network, kept_float=("a", "c"), scales={"silu": largest / 127}, shifts={"silu": 60})
    wanted = run_onnx(network, pixels())[0]
    for table in (plain, moved):
        int8 = apply(network, table)
        lint(int8)
        noise = run_onnx(int8, pixels())[0] - wanted
        assert abs(float(noise.mean())) < 0.02 * float(wanted.std())
    names = [node.op_type for node in apply(network, moved).graph.node]
    assert names.count("Sub") == 1


def test_what_cannot_be_shifted_is_refused(network: onnx.ModelProto) -> None:
    """One line that names it."""
    table = blank_table(network, kept_float=("a",), scales={"silu": 0.1}, shifts={"silu": 60})
    with pytest.raises(ModelFileError, match="shifts 'silu', which cannot be shifted"):
        apply(network, table)


def test_what_is_given_back_is_a_sum_of_whole_numbers() -> None:
    """So that it is the same whatever order a machine adds in."""
    levels = np.array([[100, -3, 5], [127, 127, -127]], np.int8)
    scale = np.array([0.5, 0.25], np.float32)
    assert given_back(levels, scale, 4, STEP).tolist() == [102 * 0.5 * 4 * STEP, 127 * 0.25 * 4 * STEP]
