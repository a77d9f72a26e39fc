"""A graph with its float parts, and the scales of its INT8 ones, in float16: for TensorRT's strongly typed networks.

There the file alone says every precision: with float32 scales what is not INT8 runs in float32, with float16 ones at
twice the speed and half the traffic. ONNX allows such scales from opset 19. A graph without INT8 has such a form too.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from engines.errors import ModelFileError
from engines.graph import constant, constants
from engines.opset import TARGET as BASE
from engines.qdq.lint import lint
from engines.qdq.nodes import attribute, drop_unread
from engines.qdq.weights import LEVELS

OPSET = 19
IR_VERSION = 9
_LARGEST = float(np.finfo(np.float16).max)
_LEAST_SCALE = 2.0**-17
"""float16 has steps of 2**-24 there: rounding then moves the last level by less than half of one."""
_REDUCE = {
    "ReduceL1", "ReduceL2", "ReduceLogSum", "ReduceLogSumExp", "ReduceMax", "ReduceMean", "ReduceMin", "ReduceProd",
    "ReduceSumSquare",
}  # fmt: skip
_FLOAT32_INPUTS = {"Resize": (1, 2), "NonMaxSuppression": (0, 1, 3, 4)}
"""Inputs that are float32 whatever the rest is; Resize's `roi` may be either."""


def half(original: onnx.ModelProto) -> onnx.ModelProto:
    """Return the model with float16 instead of float32 everywhere but in its outputs, which keep their type.

    Raises ModelFileError naming a constant or scale that float16 cannot hold, or an operator that has no such form;
    LintError if what comes out is not what every TensorRT reads. How far its results are from the original's is for
    the caller to measure: float parts overflow above 65504, which no constant shows.
    """
    model = onnx.ModelProto()
    model.CopyFrom(original)
    if any(entry.HasField("g") or entry.graphs for node in model.graph.node for entry in node.attribute):
        raise ModelFileError("a network with inner graphs (If, Loop) has no float16 form")
    _raise_opset(model)
    _Halving(model).run()
    drop_unread(model.graph)
    _check_types(model)
    lint(model)
    return model


class _Halving:
    """Rewrites a graph in place."""

    def __init__(self, model: onnx.ModelProto) -> None:
        self._graph = model.graph
        self._arrays = constants(model)
        self._new: dict[str, NDArray[Any]] = {}
        """Constants as they are written, by name."""

    def run(self) -> None:
        """Rewrite constants, casts, inputs and outputs."""
        del self._graph.value_info[:]
        nodes = list(self._graph.node)
        for node in nodes:
            self._node(node)
        nodes = [*self._cast_inputs(nodes), *nodes, *self._cast_outputs(nodes)]
        others = [t for t in self._graph.initializer if t.data_type != TensorProto.FLOAT and t.name not in self._new]
        del self._graph.initializer[:], self._graph.node[:]
        self._graph.initializer.extend([*others, *(constant(name, array) for name, array in self._new.items())])
        self._graph.node.extend(nodes)

    def _node(self, node: onnx.NodeProto) -> None:
        if node.op_type == "Cast" and attribute(node, "to", 0) == TensorProto.FLOAT:
            next(entry for entry in node.attribute if entry.name == "to").i = TensorProto.FLOAT16
        elif node.op_type in ("Constant", "ConstantOfShape"):
            _halve_value(node)
        elif node.op_type == "DequantizeLinear" and node.input[0] in self._arrays:
            self._weights(node)
        for slot, name in enumerate(node.input):
            array = self._arrays.get(name)
            if array is None or array.dtype != np.float32:
                continue
            if slot in _FLOAT32_INPUTS.get(node.op_type, ()):
                node.input[slot] = f"{name}.float32"
                self._new[f"{name}.float32"] = array
            elif name not in self._new:
                scaled = slot == 1 and node.op_type in ("QuantizeLinear", "DequantizeLinear")
                self._new[name] = _scale(name, array) if scaled else _half(name, array)

    def _weights(self, node: onnx.NodeProto) -> None:
        """Weights keep what they stand for: where rounding moves a scale much, their levels move the other way."""
        name, scale_name = node.input[0], node.input[1]
        levels, scale = self._arrays[name], self._arrays[scale_name]
        if name in self._new or scale.dtype != np.float32:
            return
        rounded = _half(scale_name, scale)
        small = (scale < np.finfo(np.float16).tiny) & (rounded < scale)  # few bits: up, so that no level is too large
        rounded = np.where(small, np.nextafter(rounded, np.float16(np.inf)), rounded)
        shape = [1] * levels.ndim
        shape[int(attribute(node, "axis", 1)) if scale.size > 1 else 0] = -1
        ratio = scale.astype(np.float64) / rounded.astype(np.float64)
        self._new[scale_name] = rounded
        self._new[name] = np.clip(np.rint(levels * ratio.reshape(shape)), -LEVELS, LEVELS).astype(np.int8)

    def _cast_inputs(self, nodes: list[onnx.NodeProto]) -> list[onnx.NodeProto]:
        """Pictures are uint8 and cast by the graph's first node; an input that is float32 is cast here."""
        names = [value.name for value in self._graph.input if value.name not in self._arrays and _is_float(value)]
        for name in names:
            _rename(nodes, name, f"{name}.half")
        return [helper.make_node("Cast", [n], [f"{n}.half"], name=f"{n}.cast", to=TensorProto.FLOAT16) for n in names]

    def _cast_outputs(self, nodes: list[onnx.NodeProto]) -> list[onnx.NodeProto]:
        """Outputs stay float32: who reads them need not know."""
        names = [value.name for value in self._graph.output if _is_float(value)]
        for name in names:
            _rename(nodes, name, f"{name}.half")
        return [helper.make_node("Cast", [f"{n}.half"], [n], name=f"{n}.cast", to=TensorProto.FLOAT) for n in names]


def _is_float(value: onnx.ValueInfoProto) -> bool:
    return bool(value.type.tensor_type.elem_type == TensorProto.FLOAT)


def _halve_value(node: onnx.NodeProto) -> None:
    """Make the tensor that a Constant or ConstantOfShape gives a float16 one."""
    for entry in node.attribute:
        if entry.name in ("value_float", "value_floats"):
            array = np.asarray(helper.get_attribute_value(entry), np.float32)
        elif entry.name == "value" and entry.t.data_type == TensorProto.FLOAT:
            array = numpy_helper.to_array(entry.t)
        else:
            continue
        entry.CopyFrom(helper.make_attribute("value", constant("", _half(node.output[0], array))))


def _rename(nodes: list[onnx.NodeProto], old: str, new: str) -> None:
    for node in nodes:
        for names in (node.input, node.output):
            for slot, name in enumerate(names):
                if name == old:
                    names[slot] = new


def _half(name: str, array: NDArray[Any]) -> NDArray[np.float16]:
    """Round to float16; infinities (a bound that is none) stay. Raises ModelFileError for what would become one."""
    largest = np.abs(array[np.isfinite(array)]).max(initial=0)
    if largest > _LARGEST:
        raise ModelFileError(f"{name}: holds {largest:.6g}, float16 {_LARGEST:.0f} at most: stay with float32")
    return array.astype(np.float16)


def _scale(name: str, scale: NDArray[Any]) -> NDArray[np.float16]:
    """Round an activation's scale. Raises ModelFileError where the tensor's range is none of float16's."""
    largest = float(scale.max()) * LEVELS
    if largest > _LARGEST:
        raise ModelFileError(f"{name}: its tensor reaches {largest:.6g}, float16 {_LARGEST:.0f}: stay with float32")
    if scale.min() < _LEAST_SCALE:
        raise ModelFileError(f"{name}: {scale.min():.3g} is too fine for float16: stay with float32")
    return scale.astype(np.float16)


def _raise_opset(model: onnx.ModelProto) -> None:
    """Bring the model from opset 17 to 19, in place: of what changed, Reduce* and Split need another form."""
    entry = next((entry for entry in model.opset_import if entry.domain in ("", "ai.onnx")), None)
    if entry is None or entry.version < BASE:
        raise ModelFileError(f"a network of an opset before {BASE} has no float16 form")
    added: list[TensorProto] = []
    for node in model.graph.node if entry.version < 18 else ():
        if node.op_type in _REDUCE and (axes := attribute(node, "axes", None)) is not None:
            added.append(constant(f"{node.output[0]}.axes", np.array(axes, np.int64)))
            node.input.append(added[-1].name)
            node.attribute.remove(next(old for old in node.attribute if old.name == "axes"))
        elif node.op_type == "Split" and len(node.input) < 2:
            node.attribute.append(helper.make_attribute("num_outputs", len(node.output)))
    model.graph.initializer.extend(added)
    entry.version = max(entry.version, OPSET)
    model.ir_version = max(model.ir_version, IR_VERSION)


def _check_types(model: onnx.ModelProto) -> None:
    """Raise ModelFileError naming what cannot be float16, by ONNX's own rules."""
    try:
        onnx.checker.check_model(model)
        onnx.shape_inference.infer_shapes(model, check_type=True, strict_mode=True)
    except (onnx.checker.ValidationError, onnx.shape_inference.InferenceError, RuntimeError, ValueError) as error:
        said = " ".join(str(error).split())[:200]
        raise ModelFileError(f"the network has no float16 form: {said}") from None
