"""INT8 with explicit Q/DQ: written from an FP32 graph and a table of scales; what a backend would misread is refused.

The form is what TensorRT, OpenVINO and ONNX Runtime all take as it is: symmetric int8 with zero point 0, one scale per
activation tensor, one per output channel of weights, weights stored as int8, biases in float. Q/DQ pairs stand on the
inputs of Conv, Gemm, Add and GlobalAveragePool only, so that nothing separates a convolution from its activation.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, Literal

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from engines.errors import CardError, LintError, ModelFileError
from engines.graph import constant, constants, consumers, load, serialise

WRITER = 1
"""Raised whenever `apply` writes other bytes for the same table."""
_QUANTISED = ("Conv", "Gemm", "Add", "GlobalAveragePool")
_ACTIVATIONS = ("Clip", "Relu", "LeakyRelu", "PRelu", "Sigmoid", "HardSigmoid", "HardSwish", "Tanh")
_OPERATOR_FORM = ("QLinearConv", "QLinearMatMul", "ConvInteger", "MatMulInteger", "DynamicQuantizeLinear")
_LEVELS = 127
_SCALE_BITS = 12
_ZERO = "int8.zero"
Array = NDArray[Any]


class Table(BaseModel):
    """Everything that INT8 adds to an FP32 graph: the same two always give the same bytes."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    schema_: Literal["sightwire.table/1"] = Field(default="sightwire.table/1", alias="schema")
    writer: int = WRITER
    """Version of `engines.qdq` that it was proved with."""
    model: str = Field(pattern="^[0-9a-f]{64}$")
    """sha256 of the FP32 file."""
    method: str
    """How the ranges were found."""
    calibration_set: str = Field(pattern="^[0-9a-f]{64}$")
    """sha256 over the sha256s of the calibration pictures, sorted."""
    pictures: int = Field(gt=0)
    kept_float: tuple[str, ...] = ()
    """Nodes left in float."""
    weights: Literal["pair-safe", "full"] = "pair-safe"
    """How far weights use their 127 levels: see `quantise_weights`."""
    scales: dict[str, float]
    """Activation tensor -> size of one of its 127 levels, of 12 significant bits."""

    @classmethod
    def parse(cls, text: str | bytes, where: str) -> Table:
        """Read a table's JSON text. Raises CardError naming `where`."""
        try:
            return cls.model_validate_json(text)
        except ValidationError as error:
            first = error.errors()[0]
            place = ".".join(map(str, first["loc"])) or "table"
            raise CardError(f"{where}: not a calibration table: {place}: {first['msg']}") from None

    def text(self) -> str:
        """JSON text, the same for the same table."""
        content = self.model_dump(mode="json", by_alias=True)
        content["scales"] = dict(sorted(content["scales"].items()))
        return json.dumps(content, indent=1) + "\n"


def scale_of(largest: float) -> float:
    """Scale for values up to +-`largest`, rounded to 12 significant bits so that noise of the last ones is gone."""
    if not largest > 0:
        return 1.0
    mantissa, exponent = np.frexp(largest / _LEVELS)
    return float(np.ldexp(np.rint(np.ldexp(mantissa, _SCALE_BITS)), exponent - _SCALE_BITS))


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


def apply(fp32: onnx.ModelProto, table: Table) -> onnx.ModelProto:
    """Return the INT8 model: `fp32` with the Q/DQ pairs of the table.

    Raises ModelFileError if the table belongs to another FP32 file, to another writer, or has no scale for a tensor.
    """
    _check_belongs(fp32, table)
    nodes = quantised_nodes(fp32, table.kept_float)
    missing = [name for name in activations(nodes) if not table.scales.get(name, 0) > 0]
    if missing:
        raise ModelFileError(f"the calibration table has no scale for {', '.join(missing[:3])}; calibrate again")
    model = onnx.ModelProto()
    model.CopyFrom(fp32)
    _Writer(model, table).write({node.name for node in nodes})
    return model


def _check_belongs(fp32: onnx.ModelProto, table: Table) -> None:
    found = hashlib.sha256(serialise(fp32)).hexdigest()
    if found != table.model:
        raise ModelFileError(
            f"the calibration table is for the FP32 model {table.model[:12]}…, this one is {found[:12]}…: calibrate it"
        )
    if table.writer != WRITER:
        raise ModelFileError(f"the calibration table is for writer {table.writer}, this is {WRITER}: calibrate again")
    unknown = sorted(set(table.kept_float) - {node.name for node in fp32.graph.node})
    if unknown:
        raise ModelFileError(f"the calibration table keeps {unknown[0]!r} in float, which the model does not have")


class _Writer:
    """Rewrites a graph in place: every quantised tensor gets one Q and one DQ, shared by those that read it."""

    def __init__(self, model: onnx.ModelProto, table: Table) -> None:
        self._graph = model.graph
        self._scales = table.scales
        self._pair_safe = table.weights == "pair-safe"
        self._arrays = constants(model)
        self._done: dict[str, str] = {}
        self._nodes: list[onnx.NodeProto] = []
        self._added = [constant(_ZERO, np.zeros((), np.int8))]

    def write(self, quantised: set[str]) -> None:
        for node in self._graph.node:
            if node.name in quantised:
                node.input[0] = self._activation(node.input[0])
                if node.op_type == "Add":
                    node.input[1] = self._activation(node.input[1])
                elif node.op_type in ("Conv", "Gemm"):
                    node.input[1] = self._weights(node.input[1], _channel_axis(node))
            self._nodes.append(node)
        used = {name for node in self._nodes for name in node.input}
        kept = [tensor for tensor in self._graph.initializer if tensor.name in used]
        nodes, tensors = list(self._nodes), [*kept, *self._added]
        del self._graph.node[:], self._graph.initializer[:]
        self._graph.node.extend(nodes)
        self._graph.initializer.extend(tensors)

    def _constant(self, name: str, array: Array) -> str:
        self._added.append(constant(name, array))
        return name

    def _activation(self, tensor: str) -> str:
        if tensor not in self._done:
            scale = self._constant(f"{tensor}.scale", np.float32(self._scales[tensor]).reshape(()))
            level, output = f"{tensor}.int8", f"{tensor}.dequantised"
            self._nodes.append(helper.make_node("QuantizeLinear", [tensor, scale, _ZERO], [level], name=f"{tensor}.q"))
            self._nodes.append(
                helper.make_node("DequantizeLinear", [level, scale, _ZERO], [output], name=f"{tensor}.dq")
            )
            self._done[tensor] = output
        return self._done[tensor]

    def _weights(self, tensor: str, axis: int) -> str:
        if tensor not in self._done:
            levels, scale = quantise_weights(self._arrays[tensor], axis, pair_safe=self._pair_safe)
            inputs = [
                self._constant(f"{tensor}.int8", levels),
                self._constant(f"{tensor}.scale", scale),
                self._constant(f"{tensor}.zero", np.zeros(scale.shape, np.int8)),
            ]
            output = f"{tensor}.dequantised"
            self._nodes.append(helper.make_node("DequantizeLinear", inputs, [output], name=f"{tensor}.dq", axis=axis))
            self._done[tensor] = output
        return self._done[tensor]


def quantise_weights(
    weights: Array, axis: int, *, pair_safe: bool = True
) -> tuple[NDArray[np.int8], NDArray[np.float32]]:
    """Levels of -127 to 127 and one scale per channel of `axis`, from each channel's largest weights.

    x86 without VNNI multiplies int8 in pairs and adds each pair in 16 bits, which saturates in silence: OpenVINO and
    ONNX Runtime then give other answers than elsewhere. `pair_safe`: no two weights of a channel add up to more than
    128 levels, so that 255 * 128 stays below 32767 and every machine computes the same.
    """
    rows = np.moveaxis(weights, axis, 0)
    sizes = np.sort(np.abs(rows.reshape(len(rows), -1)).astype(np.float64), axis=1)
    first = sizes[:, -1]
    span = first.copy()
    if pair_safe and sizes.shape[1] > 1:
        span = np.maximum(first, first + sizes[:, -2])
    scale = np.where(first > 0, span / _LEVELS, 1.0).astype(np.float32)
    shape = [-1 if index == axis else 1 for index in range(weights.ndim)]
    levels = np.clip(np.rint(weights / scale.reshape(shape)), -_LEVELS, _LEVELS).astype(np.int8)
    return levels, scale


def _channel_axis(node: onnx.NodeProto) -> int:
    """Axis of the output channels in the weights of a Conv or Gemm."""
    if node.op_type == "Conv":
        return 0
    return 0 if any(entry.name == "transB" and entry.i for entry in node.attribute) else 1


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
