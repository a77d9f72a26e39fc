"""Refuses INT8 graphs that some backend would misread.

What TensorRT reads, and how, is in its parser (onnx-tensorrt, QuantDequantLinearHelper, 8.6 to 11) and in its guide
under "explicit quantization"; what is refused here and why is listed in docs/tables.md.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, numpy_helper

from engines.errors import LintError
from engines.graph import constants, consumers, load
from engines.opset import nodes_of
from engines.qdq.nodes import attribute, output_axis

_ACTIVATIONS = {
    "BatchNormalization", "Celu", "Clip", "Elu", "Gelu", "HardSigmoid", "HardSwish", "LeakyRelu", "Mish", "PRelu",
    "Relu", "Selu", "Sigmoid", "Softplus", "Softsign", "Swish", "Tanh", "ThresholdedRelu",
}  # fmt: skip
_ARITHMETIC = {"Add", "Div", "Mul", "Sub"}
_WEIGHTED = {"Conv", "ConvTranspose", "Gemm"}
_OPERATOR_FORM = {"ConvInteger", "MatMulInteger", "DynamicQuantizeLinear", "QGemm", "QAttention"}
_PAIR = ("QuantizeLinear", "DequantizeLinear")
_HALF_OPSET = 19
"""Since then scales may be float16."""


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
        self._opset = max((entry.version for entry in model.opset_import if entry.domain in ("", "ai.onnx")), default=0)
        self._arrays = constants(model)
        for node in model.graph.node:  # as frameworks write scales
            if node.op_type == "Constant" and (value := attribute(node, "value", None)) is not None:
                self._arrays[node.output[0]] = numpy_helper.to_array(value)
        self._readers = consumers(model)
        self._makers = {name: node for node in model.graph.node for name in node.output}
        self._outputs = {value.name for value in model.graph.output}

    def complaints(self) -> Iterator[str]:
        yield from self._inputs()
        yield from self._inner()
        for node in self._graph.node:
            label = node.name or node.op_type
            if node.op_type in _OPERATOR_FORM or node.op_type.startswith("QLinear"):
                yield f"{label}: {node.op_type} is not the Q/DQ form, TensorRT does not read it"
            elif "QuantizeLinear" in node.op_type and (node.op_type not in _PAIR or node.domain not in ("", "ai.onnx")):
                yield f"{label}: {node.op_type} of {node.domain or 'another domain'} is one runtime's own"
            elif node.op_type in _PAIR:
                yield from self._scale(node)
                yield from self._attributes(node)
                yield from self._zero_point(node)
                yield from self._pair(node)
                yield from self._channels(node)
            else:
                yield from self._separated(node)
                yield from self._inputs_of(node)

    def _inputs(self) -> Iterator[str]:
        """uint8 pictures must be cast to float first: TensorRT takes uint8 for that only."""
        for value in self._graph.input:
            kind = value.type.tensor_type.elem_type
            if kind == TensorProto.INT8 and value.name not in self._arrays:
                yield f"input {value.name} is int8: a picture comes as uint8 and is quantised after its normalisation"
            if kind != TensorProto.UINT8:
                continue
            for node in self._readers.get(value.name, []):
                target = attribute(node, "to", None)
                if node.op_type != "Cast" or target not in (TensorProto.FLOAT, TensorProto.FLOAT16):
                    yield f"{node.name or node.op_type}: input {value.name} must be cast to float first"

    def _inner(self) -> Iterator[str]:
        """Q/DQ inside the branches of If and the bodies of Loop are not followed by any backend."""
        for node in self._graph.node:
            for inside in (graph for entry in node.attribute for graph in (entry.g, *entry.graphs)):
                for inner in nodes_of(inside):
                    if "QuantizeLinear" in inner.op_type:
                        yield f"{inner.name or inner.op_type}: {inner.op_type} inside of {node.op_type}"

    def _scale(self, node: onnx.NodeProto) -> Iterator[str]:
        scale = self._arrays.get(node.input[1])
        if scale is None or not np.all(np.isfinite(scale) & (scale > 0)):
            yield f"{node.name}: its scale is not a positive constant"
            return
        if scale.dtype not in (np.float32, np.float16):
            yield f"{node.name}: a scale of {scale.dtype}, expected float32 or float16"
        elif scale.dtype == np.float16 and self._opset < _HALF_OPSET:
            yield f"{node.name}: a float16 scale at opset {self._opset}, which allows it from {_HALF_OPSET}"
        if scale.ndim > 1:
            yield f"{node.name}: scales of {scale.ndim} dimensions, for blocks of weights"
        elif scale.size > 1 and self._constant(node) is None:
            yield f"{node.name}: per-channel scales on an activation"

    def _constant(self, node: onnx.NodeProto) -> NDArray[Any] | None:
        """Return the weights that a Q or DQ is for: its own constant input, or for a DQ that of its Q."""
        maker = self._makers.get(node.input[0])
        if node.op_type == "DequantizeLinear" and maker is not None and maker.op_type == "QuantizeLinear":
            return self._arrays.get(maker.input[0])
        return self._arrays.get(node.input[0])

    def _attributes(self, node: onnx.NodeProto) -> Iterator[str]:
        """Attributes that came after 8-bit, and an axis left unsaid: TensorRT 8 takes that for 0, ONNX for 1."""
        if attribute(node, "block_size", 0):
            yield f"{node.name}: scales for blocks of weights"
        kinds = (0, TensorProto.INT8) if node.op_type == "QuantizeLinear" else (0,)
        if attribute(node, "output_dtype", 0) not in kinds or attribute(node, "precision", 0):
            yield f"{node.name}: says a type of its own for what its scale and zero point say"
        if self._per_channel(node) and attribute(node, "axis", None) is None:
            yield f"{node.name}: per-channel scales without an axis, for which TensorRT 8 takes another than ONNX"

    def _per_channel(self, node: onnx.NodeProto) -> bool:
        return self._arrays.get(node.input[1], np.zeros(1)).size > 1

    def _zero_point(self, node: onnx.NodeProto) -> Iterator[str]:
        """Yield what is wrong with the zero point; left out it means uint8 for Q, and TensorRT 8 wants it for DQ."""
        levels = self._arrays.get(node.input[0])
        zero = self._arrays.get(node.input[2]) if len(node.input) > 2 else None
        if node.op_type == "DequantizeLinear" and levels is not None and levels.dtype == np.int32:
            yield f"{node.name}: an INT32 bias, TensorRT takes biases in float"
            return
        if levels is not None and node.op_type == "DequantizeLinear" and levels.dtype != np.int8:
            yield f"{node.name}: {levels.dtype} weights, expected int8"
        elif zero is None:
            yield f"{node.name}: no constant int8 zero point"
        elif zero.dtype != np.int8:
            yield f"{node.name}: {zero.dtype} zero point, expected int8"
        if zero is not None and np.any(zero):
            yield f"{node.name}: a zero point that is not 0"
        if levels is not None and levels.dtype == np.int8 and np.any(levels == -128):
            yield f"{node.name}: a weight of -128, TensorRT's are -127 to 127"
        scale = self._arrays.get(node.input[1])
        if zero is not None and scale is not None and zero.size != scale.size:
            yield f"{node.name}: {zero.size} zero points for {scale.size} scales"

    def _pair(self, node: onnx.NodeProto) -> Iterator[str]:
        """Q and DQ must stand together: what lies between them runs on levels, which not every backend does."""
        if node.op_type == "QuantizeLinear":
            if node.output[0] in self._outputs:
                yield f"{node.name}: its levels are an output of the model"
            for reader in self._readers.get(node.output[0], []):
                if reader.op_type != "DequantizeLinear":
                    yield f"{node.name}: {reader.name or reader.op_type} reads its levels, expected a DequantizeLinear"
            return
        maker = self._makers.get(node.input[0])
        if maker is None or maker.op_type != "QuantizeLinear":
            if node.input[0] not in self._arrays:
                yield f"{node.name}: dequantises {node.input[0]}, which no QuantizeLinear makes"
            return
        ours, theirs = (self._arrays.get(pair.input[1], np.zeros(0)) for pair in (node, maker))
        if ours.shape != theirs.shape or np.any(ours != theirs):
            yield f"{node.name}: another scale than that of {maker.name}"

    def _channels(self, node: onnx.NodeProto) -> Iterator[str]:
        """Per-channel scales belong to the output channels of the weights, one each."""
        weights = self._constant(node)
        if not self._per_channel(node) or weights is None:
            return
        count = self._arrays[node.input[1]].size
        axis = int(attribute(node, "axis", 1))
        if not -weights.ndim <= axis < weights.ndim or weights.shape[axis] != count:
            yield f"{node.name}: {count} scales along axis {axis} of weights of shape {weights.shape}"
            return
        for reader in self._readers.get(node.output[0], []) if node.op_type == "DequantizeLinear" else []:
            if reader.op_type == "ConvTranspose":
                yield f"{node.name}: per-channel scales for {reader.name}, whose axis TensorRT has changed its mind on"
            elif reader.op_type in _WEIGHTED and axis % weights.ndim != output_axis(reader):
                yield f"{node.name}: scales along axis {axis} of the weights of {reader.name}, not its output channels"

    def _inputs_of(self, node: onnx.NodeProto) -> Iterator[str]:
        if node.op_type not in _WEIGHTED:
            return
        from_levels = [
            (maker := self._makers.get(name)) is not None and maker.op_type == "DequantizeLinear" for name in node.input
        ]
        if len(from_levels) > 2 and from_levels[2]:
            yield f"{node.name}: a quantised bias, TensorRT takes biases in float"
        if from_levels[1] and not from_levels[0]:
            yield f"{node.name}: its weights are INT8 and its input is not"

    def _separated(self, node: onnx.NodeProto) -> Iterator[str]:
        """Q/DQ between a convolution and its activation: it rounds what a fused kernel would not, and costs one."""
        if node.op_type in _ACTIVATIONS:
            pair = self._quantiser(node.input[0])
            conv = pair and self._makers.get(pair.input[0])
            if pair and conv and conv.op_type in _WEIGHTED:
                yield f"{pair.name}: Q/DQ between {conv.name} and its {node.op_type}"
        elif node.op_type == "Mul":  # x * sigmoid(x) and its like, in one or more steps
            ways = [self._origin(name) for name in node.input]
            if ways[0][0] and ways[0][0] == ways[1][0] and (crossed := ways[0][1] or ways[1][1]):
                yield f"{crossed}: Q/DQ between {ways[0][0]} and its {node.name or 'Mul'}"

    def _quantiser(self, tensor: str) -> onnx.NodeProto | None:
        """Return the Q of the pair that makes a tensor."""
        dq = self._makers.get(tensor)
        q = self._makers.get(dq.input[0]) if dq is not None and dq.op_type == "DequantizeLinear" else None
        return q if q is not None and q.op_type == "QuantizeLinear" else None

    def _origin(self, tensor: str) -> tuple[str | None, str | None]:
        """Return the convolution whose output a tensor is a function of, number by number, and a Q on the way."""
        crossed = None
        while (node := self._makers.get(tensor)) is not None:
            if node.op_type in _WEIGHTED:
                return node.name, crossed
            if node.op_type == "QuantizeLinear":
                crossed = node.name
            elif node.op_type in _ARITHMETIC:
                moving = [name for name in node.input if name not in self._arrays]
                if len(moving) != 1:
                    break
                tensor = moving[0]
                continue
            elif node.op_type != "DequantizeLinear" and node.op_type not in _ACTIVATIONS:
                break
            tensor = node.input[0]
        return None, None
