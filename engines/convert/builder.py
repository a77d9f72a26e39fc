"""Writes convolutional networks node by node, with the padding rule of TensorFlow."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper

from engines.graph import constant, model_of


class Builder:
    """A graph that grows. Tensors are called after the node that makes them; `size` is their height and width."""

    def __init__(self, source: str, size: int) -> None:
        self.source = source
        self.size: dict[str, int] = {source: size}
        self._nodes: list[onnx.NodeProto] = []
        self._constants: list[TensorProto] = []

    def constant(self, name: str, array: NDArray[Any]) -> str:
        """Add an initialiser; returns its name."""
        self._constants.append(constant(name, array))
        return name

    def node(self, operator: str, inputs: Sequence[str], name: str, **attributes: Any) -> str:
        """Add a node with one output, which bears its name and keeps the first input's size."""
        self._nodes.append(helper.make_node(operator, list(inputs), [name], name=name, **attributes))
        if inputs[0] in self.size:
            self.size[name] = self.size[inputs[0]]
        return name

    def conv(
        self,
        source: str,
        weights: NDArray[np.floating[Any]],
        bias: NDArray[np.floating[Any]],
        name: str,
        *,
        stride: int = 1,
        groups: int = 1,
        padding: str = "SAME",
    ) -> str:
        """Add a convolution with (O, I/groups, K, K) weights; `padding` SAME or VALID as TensorFlow defines them."""
        kernel = weights.shape[2]
        before, after, size = _pads(self.size[source], kernel, stride, padding)
        inputs = [
            source,
            self.constant(f"{name}.weights", weights.astype(np.float32)),
            self.constant(f"{name}.bias", bias.astype(np.float32)),
        ]
        pads = [before, before, after, after]
        self.node("Conv", inputs, name, kernel_shape=[kernel] * 2, strides=[stride] * 2, pads=pads, group=groups)
        self.size[name] = size
        return name

    def relu6(self, source: str, name: str) -> str:
        """Add a clip to 0..6."""
        if not any(tensor.name == "relu6.low" for tensor in self._constants):
            self.constant("relu6.low", np.float32(0).reshape(()))
            self.constant("relu6.high", np.float32(6).reshape(()))
        return self.node("Clip", [source, "relu6.low", "relu6.high"], name)

    def model(self, outputs: dict[str, tuple[int, ...]]) -> onnx.ModelProto:
        """Return the finished model; `outputs` are names and shapes without the batch."""
        size = self.size[self.source]
        graph = onnx.GraphProto(name="network", node=self._nodes, initializer=self._constants)
        graph.input.append(helper.make_tensor_value_info(self.source, TensorProto.FLOAT, ["N", 3, size, size]))
        for name, shape in outputs.items():
            graph.output.append(helper.make_tensor_value_info(name, TensorProto.FLOAT, ["N", *shape]))
        return model_of(graph)


def _pads(size: int, kernel: int, stride: int, padding: str) -> tuple[int, int, int]:
    """Pixels before and after, and the size that comes out."""
    if padding == "VALID":
        return 0, 0, (size - kernel) // stride + 1
    out = -(-size // stride)
    total = max((out - 1) * stride + kernel - size, 0)
    return total // 2, total - total // 2, out
