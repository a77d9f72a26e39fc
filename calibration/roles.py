"""What convolutions are to a network, told from the graph alone: depthwise ones, its stem, its prediction layers.

Names are of nodes, in graph order. `Gemm` counts as a convolution: it is one of 1x1 pixels.
"""

from __future__ import annotations

import onnx

CONVOLUTIONS = ("Conv", "ConvTranspose", "Gemm")
_NOT_DATA = ("Shape", "Size")
"""Operators whose output says nothing of the values in their input."""


def depthwise(model: onnx.ModelProto) -> list[str]:
    """Convolutions whose every output channel reads one input channel: their channels' ranges differ most."""
    weights = {tensor.name: tensor.dims for tensor in model.graph.initializer}
    return [
        str(node.name)
        for node in model.graph.node
        if node.op_type == "Conv" and _groups(node) > 1 and weights.get(node.input[1], (0, 0))[1] == 1
    ]


def stem(model: onnx.ModelProto) -> list[str]:
    """Convolutions that no other convolution precedes."""
    behind: set[str] = set()
    first = []
    for node in model.graph.node:
        if node.op_type in CONVOLUTIONS and node.input[0] not in behind:
            first.append(str(node.name))
        if node.op_type not in _NOT_DATA and (node.op_type in CONVOLUTIONS or behind.intersection(node.input)):
            behind.update(node.output)
    return first


def prediction_layers(model: onnx.ModelProto) -> list[str]:
    """Convolutions that no other convolution follows: what the network says, before any sigmoid or softmax."""
    ahead: set[str] = set()
    last = []
    for node in reversed(model.graph.node):
        if node.op_type in CONVOLUTIONS and node.output[0] not in ahead:
            last.append(str(node.name))
        if node.op_type not in _NOT_DATA and (node.op_type in CONVOLUTIONS or ahead.intersection(node.output)):
            ahead.update(node.input)
    return last[::-1]


def _groups(node: onnx.NodeProto) -> int:
    return next((int(entry.i) for entry in node.attribute if entry.name == "group"), 1)
