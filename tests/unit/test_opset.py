"""Operators of opsets after 17, written in those of 17: the same numbers, or a refusal by name."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper

from engines.errors import ModelFileError
from engines.graph import check, upgrade
from engines.opset import lower

F, I = np.float32, np.int64  # noqa: E741
X = np.random.default_rng(0).normal(0, 2, (1, 4, 6, 6)).astype(F)


def model(operator: str, opset: int, *constants: np.ndarray, outputs: int = 1, **attributes: Any) -> onnx.ModelProto:
    names = [f"k{index}" for index in range(len(constants))]
    inputs = ["x", *(name if array.size else "" for name, array in zip(names, constants, strict=True))]
    made = [f"y{index}" for index in range(outputs)]
    graph = helper.make_graph(
        [helper.make_node(operator, inputs, made, **attributes)],
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, X.shape)],
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in made],
        [numpy_helper.from_array(a, n) for n, a in zip(names, constants, strict=True) if a.size],
    )
    made_model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)])
    made_model.ir_version = 10
    return made_model


def run(network: onnx.ModelProto) -> list[np.ndarray]:
    session = onnxruntime.InferenceSession(network.SerializeToString(), providers=["CPUExecutionProvider"])
    return session.run(None, {"x": X})


NONE = np.zeros(0, F)


def shaped(network: onnx.ModelProto) -> onnx.ModelProto:
    """With the shapes of its outputs, which the checker wants."""
    whole = onnx.ModelProto()
    whole.CopyFrom(network)
    for value, array in zip(whole.graph.output, run(network), strict=True):
        value.CopyFrom(helper.make_tensor_value_info(value.name, TensorProto.FLOAT, array.shape))
    return whole


@pytest.mark.parametrize(
    "network",
    [
        model("ReduceMean", 18, np.array([2, 3], I), keepdims=0),
        model("ReduceMax", 20, np.array([1], I), keepdims=1),
        model("ReduceL2", 18, np.array([-1], I)),
        model("ReduceMin", 18, keepdims=0),
        model("ReduceMean", 18, noop_with_empty_axes=1),
        model("Split", 18, outputs=2, axis=1, num_outputs=2),
        model("Pad", 19, np.array([0, 0, 1, 1, 0, 0, 1, 1], I), mode="reflect"),
        model("Resize", 19, NONE, np.array([1, 1, 2, 2], F), mode="nearest"),
        model("Resize", 18, NONE, np.array([2, 2], F), mode="linear", axes=[2, 3]),
        model("Resize", 18, NONE, NONE, np.array([1, 4, 9, 9], I), mode="linear", antialias=0),
        model("Gelu", 20),
        model("Gelu", 20, approximate="tanh"),
        model("Mish", 18),
        model("Cast", 19, to=TensorProto.FLOAT, saturate=1),
        model("AveragePool", 19, kernel_shape=[2, 2], dilations=[1, 1]),
        model("GridSample", 20, np.zeros((1, 3, 3, 2), F) + 0.3, mode="linear"),
        model("RMSNormalization", 23, np.full(6, 1.5, F), epsilon=1e-4),
        model("HardSwish", 22),
        model("Transpose", 21, perm=[0, 2, 3, 1]),
    ],
    ids=lambda network: network.graph.node[0].op_type,
)
def test_an_operator_after_17_computes_the_same_at_17(network: onnx.ModelProto) -> None:
    lowered = lower(network, "net")
    assert lowered.opset_import[0].version == 17
    check(shaped(lowered), "net")
    for expected, actual in zip(run(network), run(lowered), strict=True):
        assert actual == pytest.approx(expected, abs=2e-6)


def test_what_is_inside_a_branch_is_rewritten_too() -> None:
    branches = []
    for name in ("then", "else"):
        axes = numpy_helper.from_array(np.array([2, 3], I), f"{name}.axes")
        node = helper.make_node("ReduceMean" if name == "then" else "ReduceMax", ["x", f"{name}.axes"], [name])
        value = helper.make_tensor_value_info(name, TensorProto.FLOAT, None)
        branches.append(helper.make_graph([node], name, [], [value], [axes]))
    network = model("If", 18, then_branch=branches[0], else_branch=branches[1])
    network.graph.initializer.append(numpy_helper.from_array(np.array(True), "always"))
    network.graph.node[0].input[:] = ["always"]
    lowered = lower(network, "net")
    check(shaped(lowered), "net")
    assert run(lowered)[0] == pytest.approx(run(network)[0])


@pytest.mark.parametrize(
    ("network", "words"),
    [
        (model("Resize", 18, NONE, np.array([1, 1, 0.5, 0.5], F), mode="linear", antialias=1), "Resize of opset 18"),
        (model("Pad", 19, np.array([0, 0, 1, 1, 0, 0, 1, 1], I), mode="wrap"), "mode wrap"),
        (model("AveragePool", 19, kernel_shape=[2, 2], dilations=[2, 2]), r"dilations \[2, 2\]"),
        (model("Col2Im", 18, np.array([6, 6], I), np.array([1, 1], I)), "Col2Im of opset 18 .*no rule for it"),
    ],
)
def test_what_has_no_form_at_17_is_refused_by_its_name(network: onnx.ModelProto, words: str) -> None:
    with pytest.raises(ModelFileError, match=words):
        upgrade(network, "net")
