"""Refuses INT8 graphs that some backend would misread."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto

from engines.errors import LintError
from engines.graph import constants, consumers, load
from engines.qdq.nodes import output_axis as _channel_axis

_ACTIVATIONS = ("Clip", "Relu", "LeakyRelu", "PRelu", "Sigmoid", "HardSigmoid", "HardSwish", "Tanh")
_OPERATOR_FORM = ("QLinearConv", "QLinearMatMul", "ConvInteger", "MatMulInteger", "DynamicQuantizeLinear")


def lint(model: onnx.ModelProto) -> None:
    """Refuse an INT8 model that some backend would misread. Raises LintError naming every such construct."""
    found = list(dict.fromkeys(_Linter(model).complaints()))
    if found:
        more = f"; and {len(found) - 8} more" if len(found) > 8 else ""
        raise LintError(f"not the INT8 form that every backend reads: {'; '.join(found[:8])}{more}")


def lint_file(path: Path) -> None:
    """Lint an ONNX file. Raises LintError, or ModelFileError if it cannot be read; both name it."""
    model = load(path)
    try:
        lint(model)
    except LintError as error:
        raise LintError(f"{path}: {error}") from None


class _Linter:
    """Looks at each node for what TensorRT, OpenVINO or ONNX Runtime would reject or take for something else."""

    def __init__(self, model: onnx.ModelProto) -> None:
        self._graph = model.graph
        self._arrays = constants(model)
        self._readers = consumers(model)
        self._makers = {name: node for node in model.graph.node for name in node.output}

    def complaints(self) -> Iterator[str]:
        yield from self._inputs()
        for node in self._graph.node:
            if node.op_type in _OPERATOR_FORM:
                yield f"{node.name or node.op_type}: {node.op_type} is not the Q/DQ form, TensorRT does not read it"
            elif node.op_type in ("QuantizeLinear", "DequantizeLinear"):
                yield from self._scale(node)
                yield from self._zero_point(node)
                yield from self._place(node)

    def _inputs(self) -> Iterator[str]:
        """uint8 pictures must be cast to float first: TensorRT takes uint8 for that only."""
        for value in self._graph.input:
            if value.type.tensor_type.elem_type != TensorProto.UINT8:
                continue
            for node in self._readers.get(value.name, []):
                target = next((entry.i for entry in node.attribute if entry.name == "to"), None)
                if node.op_type != "Cast" or target not in (TensorProto.FLOAT, TensorProto.FLOAT16):
                    yield f"{node.name or node.op_type}: input {value.name} must be cast to float first"

    def _scale(self, node: onnx.NodeProto) -> Iterator[str]:
        scale = self._arrays.get(node.input[1])
        if scale is None or not np.all(np.isfinite(scale) & (scale > 0)):
            yield f"{node.name}: its scale is not a positive constant"
        elif scale.size > 1 and node.input[0] not in self._arrays:
            yield f"{node.name}: per-channel scales on an activation"

    def _zero_point(self, node: onnx.NodeProto) -> Iterator[str]:
        """Yield what is wrong with the zero point; left out it means uint8 for Q, and the type of its input for DQ."""
        levels = self._arrays.get(node.input[0])
        zero = self._arrays.get(node.input[2]) if len(node.input) > 2 else None
        if node.op_type == "DequantizeLinear" and levels is not None and levels.dtype == np.int32:
            yield f"{node.name}: an INT32 bias, TensorRT takes biases in float"
        elif levels is not None and node.op_type == "DequantizeLinear" and levels.dtype != np.int8:
            yield f"{node.name}: {levels.dtype} weights, expected int8"
        elif zero is None and (node.op_type == "QuantizeLinear" or (len(node.input) > 2 and node.input[2])):
            yield f"{node.name}: no constant int8 zero point"
        elif zero is not None and zero.dtype != np.int8:
            yield f"{node.name}: {zero.dtype} zero point, expected int8"
        if zero is not None and np.any(zero):
            yield f"{node.name}: a zero point that is not 0"

    def _place(self, node: onnx.NodeProto) -> Iterator[str]:
        if node.op_type == "QuantizeLinear":
            maker = self._makers.get(node.input[0])
            after = [n for dq in self._readers.get(node.output[0], []) for n in self._readers.get(dq.output[0], [])]
            if maker is not None and maker.op_type in ("Conv", "Gemm"):
                for reader in after:
                    if reader.op_type in _ACTIVATIONS:
                        yield f"{node.name}: Q/DQ between {maker.name} and its {reader.op_type}"
            return
        axis = next((entry.i for entry in node.attribute if entry.name == "axis"), 1)
        per_channel = self._arrays.get(node.input[1], np.zeros(1)).size > 1
        for reader in self._readers.get(node.output[0], []) if per_channel else []:
            if reader.op_type in ("Conv", "Gemm") and axis != _channel_axis(reader):
                yield f"{node.name}: scales along axis {axis} of the weights of {reader.name}, not its output channels"
