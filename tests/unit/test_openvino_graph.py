"""Q/DQ pairs reach OpenVINO in the form that it computes right."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from engines.graph import constant, model_of, serialise
from engines.openvino_graph import read_graph
from engines.quiet import import_openvino


def network(zero: int, kind: type[np.generic]) -> bytes:
    """A Q and its DQ from x to y; the levels are an output as well."""
    nodes = [
        helper.make_node("QuantizeLinear", ["x", "scale", "zero"], ["levels"]),
        helper.make_node("DequantizeLinear", ["levels", "scale", "zero"], ["y"]),
    ]
    constants = [constant("scale", np.float32(0.25).reshape(())), constant("zero", np.full((), zero, kind))]
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
