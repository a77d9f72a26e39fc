"""Which nodes of a graph run in INT8, and which tensors that needs scales for."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import onnx

from engines.opset import nodes_of

_QUANTISED = ("Conv", "Gemm", "Add", "GlobalAveragePool")


def quantised_nodes(model: onnx.ModelProto, kept_float: Iterable[str] = ()) -> list[onnx.NodeProto]:
    """Nodes that run in INT8: Conv and Gemm with constant weights, Add of two activations, GlobalAveragePool."""
    fixed, kept = {tensor.name for tensor in model.graph.initializer}, set(kept_float)
    return [
        node
        for node in model.graph.node
        if node.op_type in _QUANTISED
        and node.name not in kept
        and node.input[0] not in fixed
        and (node.op_type == "GlobalAveragePool" or (node.input[1] in fixed) == (node.op_type in ("Conv", "Gemm")))
    ]


def activations(nodes: Iterable[onnx.NodeProto]) -> list[str]:
    """Tensors that need a scale for these nodes to run in INT8, in graph order, each once."""
    return list(dict.fromkeys(name for node in nodes for name in node.input[: 2 if node.op_type == "Add" else 1]))


def already_quantised(model: onnx.ModelProto) -> str | None:
    """Operator and name of the first node that quantises or is quantised, in any form; None for a float network."""
    for node in nodes_of(model.graph):
        if any(part in node.op_type for part in ("Quantize", "Integer", "QLinear", "QGemm", "QAttention")):
            return f"{node.op_type} {node.name}".strip()
    return None


def attribute(node: onnx.NodeProto, name: str, default: Any) -> Any:
    """Value of an attribute, or what the operator takes it for where it is not said."""
    return next((onnx.helper.get_attribute_value(entry) for entry in node.attribute if entry.name == name), default)


def output_axis(node: onnx.NodeProto) -> int:
    """Axis of the output channels in the weights of a Conv or Gemm."""
    return 0 if node.op_type == "Conv" or attribute(node, "transB", 0) else 1


def drop_unread(graph: onnx.GraphProto) -> None:
    """Take out the constants that nothing reads any more."""
    read = {name for node in nodes_of(graph) for name in node.input} | {value.name for value in graph.output}
    kept = [tensor for tensor in graph.initializer if tensor.name in read]
    del graph.initializer[:]
    graph.initializer.extend(kept)
