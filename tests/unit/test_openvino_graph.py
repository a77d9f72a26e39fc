"""Q/DQ pairs reach OpenVINO in the form that it computes right."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from engines.graph import constant, model_of, serialise
from engines.openvino_graph import read_graph
from engines.quiet import import_openvino


def network(zero: int, kind: type[np.generic], *before: str) -> bytes:
    """A Q and its DQ from x to y, maybe behind another operation; the levels are an output as well."""
    nodes = [
        helper.make_node("QuantizeLinear", ["x", "scale", "zero"], ["levels"]),
        helper.make_node("DequantizeLinear", ["levels", "scale", "zero"], ["y"]),
    ]
    if before:
        nodes.insert(0, helper.make_node(before[0], ["x", *before[1:]], ["cut"]))
        nodes[1].input[0] = "cut"
    constants = [constant("scale", np.float32(0.25).reshape(())), constant("zero", np.full((), zero, kind))]
    constants += [constant("none", np.zeros((), np.float32)), constant("most", np.full((), 31.8, np.float32))]
    graph = onnx.GraphProto(name="pair", node=nodes, initializer=constants)
    levels = TensorProto.INT8 if kind is np.int8 else TensorProto.UINT8
    graph.input.append(helper.make_tensor_value_info("x", TensorProto.FLOAT, [5]))
    graph.output.append(helper.make_tensor_value_info("y", TensorProto.FLOAT, [5]))
    graph.output.append(helper.make_tensor_value_info("levels", levels, [5]))
    return serialise(model_of(graph))


def kinds(graph) -> list[str]:
    return [node.get_type_name() for node in graph.get_ordered_ops()]


@pytest.mark.parametrize(("zero", "kind"), [(0, np.int8), (3, np.int8), (128, np.uint8)])
def test_a_pair_is_one_operation_that_gives_the_same(zero, kind) -> None:
    graph = read_graph(network(zero, kind))
    assert "Multiply" not in kinds(graph)
    x = np.array([-1000, -1.01, 0, 0.9, 1000], np.float32)
    info = np.iinfo(kind)
    levels = np.clip(np.rint(x / 0.25) + zero, info.min, info.max)
    y, got = np.empty(5, np.float32), np.empty(5, kind)
    tensors = [import_openvino().Tensor(array, shared_memory=True) for array in (y, got, x)]
    assert graph.evaluate(tensors[:2], tensors[2:])
    assert got.tolist() == levels.tolist()
    assert y.tolist() == ((levels - zero) * 0.25).tolist()


@pytest.mark.parametrize("before", [("Relu",), ("Sigmoid",), ("Clip", "none", "most"), ("Clip", "none")])
def test_what_is_never_negative_has_unsigned_levels_that_mean_the_same(before) -> None:
    """Sums over unsigned levels need no correction; what is too large is cut off where it was."""
    graph = read_graph(network(0, np.int8, *before))
    (joined,) = (node for node in graph.get_ordered_ops() if node.get_friendly_name() == "y")
    assert [float(joined.input_value(port).get_node().data) for port in (1, 2, 3, 4)] == [0, 63.75, 0, 63.75]
    x = np.array([-50, 0, 0.13, 31.9, 1000], np.float32)
    cut = {
        "Relu": np.maximum(x, 0),
        "Sigmoid": 1 / (1 + np.exp(-x)),
        "Clip": np.clip(x, 0, 31.8 if "most" in before else None),
    }[before[0]]
    y, got = np.empty(5, np.float32), np.empty(5, np.int8)
    tensors = [import_openvino().Tensor(array, shared_memory=True) for array in (y, got, x)]
    assert graph.evaluate(tensors[:2], tensors[2:])
    assert got.tolist() == np.clip(np.rint(cut / 0.25), -128, 127).tolist()
    assert y.tolist() == (got * np.float32(0.25)).tolist()
