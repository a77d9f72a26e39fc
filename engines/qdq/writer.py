"""Writes the INT8 graph: Q/DQ pairs around what runs in INT8, weights as int8 levels, biases in float."""

from __future__ import annotations

import hashlib
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import helper

from engines.errors import ModelFileError
from engines.graph import constant, constants, serialise
from engines.qdq.corrections import corrected
from engines.qdq.equalisation import equalised
from engines.qdq.nodes import activations, attribute, drop_unread, output_axis, quantised_nodes
from engines.qdq.shifts import given_back, shiftable
from engines.qdq.stored import unpack_moments
from engines.qdq.table import WRITER, Table
from engines.qdq.weights import Inputs, quantise_weights

_ZERO = "int8.zero"


def apply(fp32: onnx.ModelProto, table: Table) -> onnx.ModelProto:
    """Return the INT8 model: `fp32`, equalised and corrected, with the Q/DQ pairs of the table.

    Raises ModelFileError if the table belongs to another FP32 file or to another writer, has no scale for a tensor, or
    does not fit.
    """
    _check_belongs(fp32, table)
    model = corrected(equalised(fp32, table), table)
    nodes = quantised_nodes(model, table.kept_float)
    for name in activations(nodes):
        _check_scale(name, table.scales.get(name))
    able = set(shiftable(model, table.kept_float))
    if wrong := sorted(name for name, shift in table.shifts.items() if shift and name not in able):
        raise ModelFileError(f"the calibration table shifts {wrong[0]!r}, which cannot be shifted: calibrate again")
    _Writer(model, table).write({node.output[0] for node in nodes})
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
    tensors = {name for node in fp32.graph.node for name in (*node.input, *node.output)}
    if unknown := sorted((set(table.scales) | set(table.inputs)) - tensors):
        raise ModelFileError(f"the calibration table knows a tensor {unknown[0]!r}, which the model does not have")


def _check_scale(tensor: str, scale: float | None) -> None:
    if scale is None:
        raise ModelFileError(f"the calibration table has no scale for {tensor}; calibrate again")
    limits = np.finfo(np.float32)
    if not float(limits.tiny) <= scale <= float(limits.max):
        raise ModelFileError(f"the calibration table's scale for {tensor} is {scale}, no size of a level")


class _Writer:
    """Rewrites a graph in place: every quantised tensor gets one Q and one DQ, shared by those that read it."""

    def __init__(self, model: onnx.ModelProto, table: Table) -> None:
        self._graph = model.graph
        self._scales, self._moments = table.scales, table.inputs
        self._pair_safe = table.weights == "pair-safe"
        self._arrays = constants(model)
        self._shifts = table.shifts
        self._done: dict[str, str] = {}
        self._weights: dict[str, tuple[NDArray[np.int8], NDArray[np.float32]]] = {}
        """Levels, output channels first, and scales of the weights that are written."""
        self._nodes: list[onnx.NodeProto] = []
        self._added = [constant(_ZERO, np.zeros((), np.int8))]

    def write(self, quantised: set[str]) -> None:
        """Rewrite the nodes that make those tensors."""
        for node in self._graph.node:
            if node.output[0] in quantised:
                source = node.input[0]
                node.input[0] = self._activation(source)
                if node.op_type == "Add":
                    node.input[1] = self._activation(node.input[1])
                elif node.op_type in ("Conv", "Gemm"):
                    self._weigh(node, source)
            self._nodes.append(node)
        nodes = list(self._nodes)
        del self._graph.node[:]
        self._graph.node.extend(nodes)
        drop_unread(self._graph)
        self._graph.initializer.extend(self._added)

    def _constant(self, name: str, array: NDArray[Any]) -> str:
        self._added.append(constant(name, array))
        return name

    def _activation(self, tensor: str) -> str:
        if tensor not in self._done:
            scale = self._constant(f"{tensor}.scale", np.float32(self._scales[tensor]).reshape(()))
            level, output = f"{tensor}.int8", f"{tensor}.dequantised"
            source = tensor
            if shift := self._shifts.get(tensor):
                by = self._constant(f"{tensor}.shift", np.float32(shift * self._scales[tensor]).reshape(()))
                source = f"{tensor}.shifted"
                self._nodes.append(helper.make_node("Sub", [tensor, by], [source], name=source))
            self._nodes.append(helper.make_node("QuantizeLinear", [source, scale, _ZERO], [level], name=f"{tensor}.q"))
            self._nodes.append(
                helper.make_node("DequantizeLinear", [level, scale, _ZERO], [output], name=f"{tensor}.dq")
            )
            self._done[tensor] = output
        return self._done[tensor]

    def _weigh(self, node: onnx.NodeProto, source: str) -> None:
        """Give a Conv or Gemm that reads `source` its weights in INT8, and its bias what a shift of that takes away."""
        tensor, axis = node.input[1], output_axis(node)
        if tensor not in self._weights:
            inputs = self._inputs(node, source)
            levels, scale = quantise_weights(self._arrays[tensor], axis, pair_safe=self._pair_safe, inputs=inputs)
            constants = [
                self._constant(f"{tensor}.int8", levels),
                self._constant(f"{tensor}.scale", scale),
                self._constant(f"{tensor}.zero", np.zeros(scale.shape, np.int8)),
            ]
            output = f"{tensor}.dequantised"
            self._nodes.append(
                helper.make_node("DequantizeLinear", constants, [output], name=f"{tensor}.dq", axis=axis)
            )
            self._weights[tensor] = np.moveaxis(levels, axis, 0), scale
        node.input[1] = f"{tensor}.dequantised"
        if shift := self._shifts.get(source):
            given = given_back(*self._weights[tensor], shift, self._scales[source])
            old = node.input[2] if len(node.input) > 2 else ""
            if old and (old not in self._arrays or self._arrays[old].size not in (1, len(given))):
                raise ModelFileError(
                    f"the calibration table shifts the input of {node.name}, whose bias is no constant"
                )
            bias = self._arrays[old].reshape(-1).astype(np.float64) if old else 0.0
            del node.input[2:]
            node.input.append(self._constant(f"{node.output[0]}.shifted.bias", (bias + given).astype(np.float32)))

    def _inputs(self, node: onnx.NodeProto, source: str) -> Inputs | None:
        """What each weight of a Conv or Gemm meets, where the table says it; weights that two share: of the first."""
        text = self._moments.get(source)
        if text is None:
            return None
        weights, groups = self._arrays[node.input[1]], int(attribute(node, "group", 1))
        mean, deviation = unpack_moments(text)
        rows = np.moveaxis(weights, output_axis(node), 0).shape
        if len(mean) != rows[1] * groups:
            raise ModelFileError(
                f"the calibration table describes {len(mean)} channels of {source}, {node.name} reads "
                f"{rows[1] * groups}: calibrate again"
            )

        def of_weights(channels: NDArray[np.float64]) -> NDArray[np.float64]:
            """Turn (groups * I,) into (O, I * kernel): an output channel reads its own group, a channel its kernel."""
            each = np.repeat(channels.reshape(groups, rows[1]), rows[0] // groups, axis=0)
            return np.repeat(each, int(np.prod(rows[2:])), axis=1)

        return Inputs(of_weights(mean), of_weights(deviation))
