"""Tensors whose values lie to one side of zero, moved so that symmetric int8 uses all of its levels.

SiLU gives -0.28 and more, so that nearly half of the levels of symmetric int8 would stand for nothing. A zero point
would mend that, but TensorRT knows none. Instead a whole number of levels is subtracted before Q, and what that takes
from the outputs of the convolutions behind DQ is added to their biases: for W the weights as they are in INT8,
W (x - c) + W c = W x. Zero padding would be of shifted values, so only convolutions without padding take part.

It costs a subtraction. Behind an activation that no backend joins with its convolution and the Q in one kernel anyway
that is free; behind ReLU and its like it is not, and those tensors are left alone.
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import onnx
from numpy.typing import NDArray

from engines.qdq.nodes import activations, attribute, quantised_nodes

_MAKERS = ("Mul", "HardSwish", "Mish", "Concat")
"""What makes the tensors that are worth it: SiLU, written as x * sigmoid(x), its like, and several of them joined."""


def shiftable(model: onnx.ModelProto, kept_float: Iterable[str] = ()) -> list[str]:
    """Tensors that can be shifted when those nodes stay in float, in graph order."""
    makers = {name: node.op_type for node in model.graph.node for name in node.output}
    nodes = quantised_nodes(model, kept_float)
    barred = {name for node in nodes if not _without_padding(node) for name in node.input[:2]}
    return [name for name in activations(nodes) if makers.get(name) in _MAKERS and name not in barred]


def given_back(levels: NDArray[np.int8], scale: NDArray[np.float32], shift: int, step: float) -> NDArray[np.float64]:
    """(O,) what weights (O, K) of scales (O,) make of a shift of so many levels of size `step`.

    Sums are of whole numbers, so that every machine has the same.
    """
    total = levels.reshape(len(levels), -1).sum(axis=1, dtype=np.int64).astype(np.float64)
    given: NDArray[np.float64] = total * scale.astype(np.float64) * (shift * step)
    return given


def _without_padding(node: onnx.NodeProto) -> bool:
    if node.op_type == "Gemm":
        return bool(attribute(node, "beta", 1.0) == 1 and attribute(node, "alpha", 1.0) == 1)
    if node.op_type != "Conv" or attribute(node, "auto_pad", b"NOTSET") not in (b"NOTSET", b"VALID"):
        return False
    return not any(attribute(node, "pads", []))
