"""SSD from a frozen graph of the TensorFlow object detection API.

Liu et al., https://arxiv.org/abs/1512.02325; SSDLite: Sandler et al., https://arxiv.org/abs/1801.04381. Only the
network is converted: what comes before (scaling) is baked by `engines.graph`, what comes after (anchors, decoding,
NMS) is the task's. The graph is NHWC; it is written as NCHW.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray

from engines.convert.builder import Builder
from engines.convert.tensorflow_graph import Node, read_graph
from engines.errors import ModelFileError

_PREPROCESSOR = "Preprocessor/"
_BATCH_NORMS = ("FusedBatchNorm", "FusedBatchNormV2", "FusedBatchNormV3")
Weights = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class _Conv:
    """A convolution with everything linear behind it folded in; weights (O, I/groups, K, K) float64."""

    source: str
    weights: Weights
    bias: Weights
    stride: int
    groups: int
    padding: str


def convert(data: bytes, options: Mapping[str, Any], where: str) -> onnx.ModelProto:
    """Convert to a graph with outputs `box_deltas` and `class_logits`.

    They are (N, anchors, 4) and (N, anchors, 1 + labels), column 0 the background. Anchors are in the order map, row,
    column, anchor of the cell. options: `size`, the input's side in pixels.
    """
    nodes = read_graph(data, where)
    try:
        return _Network(nodes, int(options["size"])).model()
    except RecursionError:
        raise ModelFileError(f"{where}: its graph runs in a circle") from None
    except (KeyError, IndexError, ValueError, TypeError, AttributeError, ArithmeticError) as error:
        raise ModelFileError(f"{where}: not a frozen SSD graph: {error!r}") from None


class _Network:
    """Walks back from the box predictors and writes each operation once."""

    def __init__(self, nodes: dict[str, Node], size: int) -> None:
        self._nodes = nodes
        self._net = Builder("input", size)
        self._written: dict[str, str] = {}

    def model(self) -> onnx.ModelProto:
        boxes, scores, anchors, classes = [], [], 0, 0
        index = 0
        while f"BoxPredictor_{index}/BoxEncodingPredictor/BiasAdd" in self._nodes:
            part = f"BoxPredictor_{index}"
            box, channels = self._head(f"{part}/BoxEncodingPredictor", 4)
            per_cell = channels // 4
            classes = self._channels(f"{part}/ClassPredictor") // per_cell
            score, _ = self._head(f"{part}/ClassPredictor", classes)
            boxes.append(box)
            scores.append(score)
            anchors += per_cell * self._net.size[self._tensor(f"{part}/ClassPredictor/BiasAdd")] ** 2
            index += 1
        if not boxes:
            raise ValueError("it has no BoxPredictor_0")
        self._net.node("Concat", boxes, "box_deltas", axis=1)
        self._net.node("Concat", scores, "class_logits", axis=1)
        return self._net.model({"box_deltas": (anchors, 4), "class_logits": (anchors, classes)})

    def _channels(self, part: str) -> int:
        return len(self._conv(self._node(f"{part}/BiasAdd")).bias)

    def _head(self, part: str, columns: int) -> tuple[str, int]:
        """Return a predictor's output as (N, anchors of its map, columns), and its number of channels."""
        name = part.replace("/", ".")
        x = self._net.node("Transpose", [self._tensor(f"{part}/BiasAdd")], f"{name}.nhwc", perm=[0, 2, 3, 1])
        shape = self._net.constant(f"{name}.shape", np.array([0, -1, columns], np.int64))
        return self._net.node("Reshape", [x, shape], f"{name}.rows"), self._channels(part)

    def _node(self, name: str) -> Node:
        return self._nodes[name.split(":")[0].lstrip("^")]

    def _array(self, name: str) -> Weights:
        """Return the constant behind a name."""
        node = self._node(name)
        while node.op == "Identity":
            node = self._node(node.inputs[0])
        if node.op != "Const":
            raise ValueError(f"{node.name} is a {node.op}, expected a constant: the graph is not frozen")
        return np.asarray(node.attributes["value"], np.float64)

    def _tensor(self, name: str) -> str:
        """Name of the ONNX tensor that holds what TensorFlow calls `name`, written if it is not yet."""
        node = self._node(name)
        if node.name.startswith(_PREPROCESSOR):
            return self._net.source
        if node.name not in self._written:
            self._written[node.name] = self._write(node)
        return self._written[node.name]

    def _write(self, node: Node) -> str:
        name = node.name.replace("/", ".")
        if node.op == "Identity":
            return self._tensor(node.inputs[0])
        if node.op == "Relu6":
            return self._net.relu6(self._tensor(node.inputs[0]), name)
        if node.op in ("Add", "AddV2"):
            return self._net.node("Add", [self._tensor(node.inputs[0]), self._tensor(node.inputs[1])], name)
        conv = self._conv(node)
        source = self._tensor(conv.source)
        return self._net.conv(
            source, conv.weights, conv.bias, name, stride=conv.stride, groups=conv.groups, padding=conv.padding
        )

    def _conv(self, node: Node) -> _Conv:
        """Return the convolution that ends in `node`, batch normalisation and bias folded in."""
        if node.op in ("Conv2D", "DepthwiseConv2dNative"):
            weights = self._array(node.inputs[1])
            depthwise = node.op != "Conv2D"
            # TensorFlow: (K, K, I, O), depthwise (K, K, I, multiplier)
            weights = weights.transpose(2, 3, 0, 1) if depthwise else weights.transpose(3, 2, 0, 1)
            groups = len(weights) if depthwise else 1
            weights = weights.reshape(-1, 1, *weights.shape[2:]) if depthwise else weights
            stride = int(node.attributes["strides"][1])
            padding = node.attributes["padding"].decode()
            return _Conv(node.inputs[0], weights, np.zeros(len(weights)), stride, groups, padding)
        if node.op == "BiasAdd":
            conv = self._conv(self._node(node.inputs[0]))
            return replace(conv, bias=conv.bias + self._array(node.inputs[1]))
        if node.op in _BATCH_NORMS:
            conv = self._conv(self._node(node.inputs[0]))
            gain, shift, mean, variance = (self._array(name) for name in node.inputs[1:5])
            factor = gain / np.sqrt(variance + node.attributes["epsilon"])
            weights = conv.weights * factor[:, None, None, None]
            return replace(conv, weights=weights, bias=shift + (conv.bias - mean) * factor)
        raise ValueError(f"{node.name} is a {node.op}, which this converter does not know")
