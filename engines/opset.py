"""Brings graphs of opsets after 17 down to it: the newest that every supported runtime reads (TensorRT 8.6).

Most of what changed since is which types are allowed. What means something new has a rule below that writes it in the
older operators; what has neither is refused by name.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from engines.errors import ModelFileError

TARGET = 17
#: Changed after opset 17 in nothing but the types they take, or in attributes that are dropped where they are neutral.
_SAME = {
    "Acos", "Acosh", "Asin", "Asinh", "Atan", "Atanh", "Constant", "ConstantOfShape", "Conv", "ConvTranspose", "Cos",
    "Cosh", "DepthToSpace", "Dropout", "Einsum", "Elu", "Equal", "EyeLike", "Flatten", "GlobalAveragePool",
    "GlobalMaxPool", "HardSigmoid", "HardSwish", "Identity", "If", "InstanceNormalization", "IsInf", "IsNaN", "Loop",
    "LpNormalization", "MaxPool", "Mod", "OneHot", "Range", "ReverseSequence", "RoiAlign", "Round", "Scan", "Selu",
    "Shape", "Sin", "Sinh", "Size", "Softplus", "Softsign", "SpaceToDepth", "Squeeze", "Tan", "ThresholdedRelu", "TopK",
    "Transpose", "Unsqueeze",
}  # fmt: skip
#: Attributes that came later -> the value with which the operator means what it meant at 17.
_NEUTRAL: dict[str, dict[str, Any]] = {
    "AveragePool": {"dilations": None},  # all 1
    "Cast": {"saturate": 1, "round_mode": b"up"},
    "DequantizeLinear": {"block_size": 0, "output_dtype": 0},
    "QuantizeLinear": {"block_size": 0, "output_dtype": 0, "precision": 0, "saturate": 1},
    "Reshape": {},
    "Resize": {"antialias": 0, "keep_aspect_ratio_policy": b"stretch"},
}
Nodes = list[onnx.NodeProto]
Constants = Mapping[str, NDArray[Any]]


class _Cannot(Exception):
    """A node that has no form at opset 17; says why."""


def lower(model: onnx.ModelProto, where: str) -> onnx.ModelProto:
    """Return a model of a later opset at opset 17, with the same outputs. Raises ModelFileError naming the operator."""
    lowered = onnx.ModelProto()
    lowered.CopyFrom(model)
    version = max(entry.version for entry in model.opset_import if entry.domain in ("", "ai.onnx"))
    arrays = {tensor.name: numpy_helper.to_array(tensor) for tensor in model.graph.initializer}
    _Lowering(version, where).graph(lowered.graph, arrays)
    for entry in lowered.opset_import:
        if entry.domain in ("", "ai.onnx"):
            entry.version = TARGET
    return lowered


class _Lowering:
    def __init__(self, version: int, where: str) -> None:
        self._version, self._where, self._count = version, where, 0

    def graph(self, graph: onnx.GraphProto, outer: Constants) -> None:
        """Rewrite the nodes of a graph and of those inside its nodes."""
        arrays = {**outer, **{tensor.name: numpy_helper.to_array(tensor) for tensor in graph.initializer}}
        added: list[TensorProto] = []
        nodes: Nodes = []
        for node in graph.node:
            if node.op_type == "Constant" and len(node.attribute) == 1 and node.attribute[0].name == "value":
                arrays[node.output[0]] = numpy_helper.to_array(node.attribute[0].t)
            for attribute in node.attribute:
                for inner in (attribute.g, *attribute.graphs) if attribute.HasField("g") else attribute.graphs:
                    self.graph(inner, arrays)
            try:
                nodes += self._node(node, arrays, added)
            except _Cannot as reason:
                raise ModelFileError(
                    f"{self._where}: {node.op_type} of opset {self._version} has no form at opset {TARGET}, which "
                    f"every backend reads ({reason}); export it with opset {TARGET}"
                ) from None
        del graph.node[:]
        graph.node.extend(nodes)
        graph.initializer.extend(added)

    def _node(self, node: onnx.NodeProto, arrays: Constants, added: list[TensorProto]) -> Nodes:
        try:
            since = onnx.defs.get_schema(node.op_type, self._version, "").since_version
        except onnx.defs.SchemaError:
            raise _Cannot("no such operator") from None
        if since <= TARGET or node.op_type in _SAME:
            return [node]
        self._count += 1
        make = _Maker(node, f"lowered_{self._count}", arrays, added)
        if node.op_type in _RULES:
            return _RULES[node.op_type](node, make)
        if node.op_type in _NEUTRAL:
            return [_without(node, _NEUTRAL[node.op_type])]
        raise _Cannot("no rule for it")


class _Maker:
    """Writes the nodes that stand for one, with tensors called after it."""

    def __init__(self, node: onnx.NodeProto, prefix: str, arrays: Constants, added: list[TensorProto]) -> None:
        self.arrays = arrays
        self._prefix, self._added, self._output, self._count = prefix, added, node.output[0], 0
        self.nodes: Nodes = []

    def constant(self, array: NDArray[Any]) -> str:
        name = f"{self._prefix}.constant{len(self._added)}"
        self._added.append(numpy_helper.from_array(array, name))
        return name

    def __call__(self, operator: str, *inputs: str, last: bool = False, **attributes: Any) -> str:
        self._count += 1
        output = self._output if last else f"{self._prefix}.{self._count}"
        self.nodes.append(helper.make_node(operator, list(inputs), [output], **attributes))
        return output

    def known(self, name: str) -> NDArray[Any]:
        if name not in self.arrays:
            raise _Cannot(f"its input {name} is not a constant")
        return self.arrays[name]


def _attributes(node: onnx.NodeProto) -> dict[str, Any]:
    return {entry.name: helper.get_attribute_value(entry) for entry in node.attribute}


def _without(node: onnx.NodeProto, neutral: Mapping[str, Any]) -> onnx.NodeProto:
    """Drop attributes that say what opset 17 does anyway."""
    plain = onnx.NodeProto()
    plain.CopyFrom(node)
    for entry in list(plain.attribute):
        if entry.name not in neutral:
            continue
        value, expected = helper.get_attribute_value(entry), neutral[entry.name]
        if value != expected and not (expected is None and set(value) <= {1}):
            raise _Cannot(f"{entry.name} {value!r}")
        plain.attribute.remove(entry)
    return plain


def _reduce(node: onnx.NodeProto, make: _Maker) -> Nodes:
    """Reduce*: axes were an attribute before 18."""
    attributes = _attributes(node)
    noop = attributes.pop("noop_with_empty_axes", 0)
    axes = make.known(node.input[1]).tolist() if len(node.input) > 1 and node.input[1] else []
    if noop and not axes:
        make("Identity", node.input[0], last=True)
    else:
        make(node.op_type, node.input[0], last=True, **({"axes": axes} if axes else {}), **attributes)
    return make.nodes


def _split(node: onnx.NodeProto, make: _Maker) -> Nodes:
    """Split: `num_outputs` says no more than the outputs do where the parts are equal, which the check finds out."""
    del make
    plain = onnx.NodeProto()
    plain.CopyFrom(node)
    for entry in [entry for entry in plain.attribute if entry.name == "num_outputs"]:
        plain.attribute.remove(entry)
    return [plain]


def _pad(node: onnx.NodeProto, make: _Maker) -> Nodes:
    """Pad: `axes` (18) and `wrap` (19) are new."""
    del make
    if _attributes(node).get("mode") == b"wrap":
        raise _Cannot("mode wrap")
    if len(node.input) > 3 and node.input[3]:
        raise _Cannot("with axes")
    plain = onnx.NodeProto()
    plain.CopyFrom(node)
    del plain.input[3:]
    return [plain]


def _resize(node: onnx.NodeProto, make: _Maker) -> Nodes:
    """Resize: `antialias`, `axes` and the policies are new in 18, the mode half_pixel_symmetric in 19."""
    attributes = _attributes(node)
    if attributes.get("coordinate_transformation_mode") == b"half_pixel_symmetric":
        raise _Cannot("half_pixel_symmetric")
    plain = _without(node, _NEUTRAL["Resize"])
    axes = attributes.get("axes")
    if axes is None:
        return [plain]
    if not (len(node.input) == 3 and sorted(axes) == [2, 3]):
        raise _Cannot("with axes")
    plain.attribute.remove(next(entry for entry in plain.attribute if entry.name == "axes"))
    scales = np.ones(4, np.float32)
    scales[axes] = make.known(node.input[2])
    plain.input[2] = make.constant(scales)
    return [plain]


def _scatter(node: onnx.NodeProto, make: _Maker) -> Nodes:
    del make
    if (mode := _attributes(node).get("reduction", b"none")) in (b"min", b"max"):
        raise _Cannot(f"reduction {mode.decode()}")
    return [node]


def _grid_sample(node: onnx.NodeProto, make: _Maker) -> Nodes:
    """GridSample: `linear` and `cubic` were `bilinear` and `bicubic`."""
    attributes = _attributes(node)
    names = {b"linear": "bilinear", b"cubic": "bicubic"}
    mode = attributes.pop("mode", b"linear")
    make("GridSample", *node.input, last=True, mode=names.get(mode, mode.decode()), **attributes)
    return make.nodes


def _gelu(node: onnx.NodeProto, make: _Maker) -> Nodes:
    """Hendrycks and Gimpel 2016: x / 2 * (1 + erf(x / sqrt 2)), or its approximation by tanh."""
    x, one = node.input[0], make.constant(np.float32(1))
    if _attributes(node).get("approximate", b"none") == b"tanh":
        cube = make("Mul", x, make("Mul", x, x))
        inside = make("Add", x, make("Mul", cube, make.constant(np.float32(0.044715))))
        curve = make("Tanh", make("Mul", inside, make.constant(np.float32(np.sqrt(2 / np.pi)))))
    else:
        curve = make("Erf", make("Mul", x, make.constant(np.float32(np.sqrt(0.5)))))
    make("Mul", make("Mul", x, make("Add", curve, one)), make.constant(np.float32(0.5)), last=True)
    return make.nodes


def _mish(node: onnx.NodeProto, make: _Maker) -> Nodes:
    """Misra 2019: x * tanh(softplus(x))."""
    make("Mul", node.input[0], make("Tanh", make("Softplus", node.input[0])), last=True)
    return make.nodes


def _swish(node: onnx.NodeProto, make: _Maker) -> Nodes:
    """Ramachandran et al. 2017: x * sigmoid(alpha x)."""
    x, alpha = node.input[0], _attributes(node).get("alpha", 1.0)
    inside = x if alpha == 1.0 else make("Mul", x, make.constant(np.float32(alpha)))
    make("Mul", x, make("Sigmoid", inside), last=True)
    return make.nodes


def _rms_norm(node: onnx.NodeProto, make: _Maker) -> Nodes:
    """Zhang and Sennrich 2019, over the last axis."""
    attributes = _attributes(node)
    if attributes.get("axis", -1) != -1:
        raise _Cannot("not over the last axis")
    x = node.input[0]
    mean = make("ReduceMean", make("Mul", x, x), axes=[-1], keepdims=1)
    size = make("Sqrt", make("Add", mean, make.constant(np.float32(attributes.get("epsilon", 1e-5)))))
    make("Mul", make("Div", x, size), node.input[1], last=True)
    return make.nodes


_RULES: dict[str, Callable[[onnx.NodeProto, _Maker], Nodes]] = {
    **dict.fromkeys(
        (
            "ReduceL1", "ReduceL2", "ReduceLogSum", "ReduceLogSumExp", "ReduceMax", "ReduceMean", "ReduceMin",
            "ReduceProd", "ReduceSumSquare",
        ),
        _reduce,
    ),
    "Gelu": _gelu,
    "GridSample": _grid_sample,
    "Mish": _mish,
    "Pad": _pad,
    "RMSNormalization": _rms_norm,
    "Resize": _resize,
    "ScatterElements": _scatter,
    "ScatterND": _scatter,
    "Split": _split,
    "Swish": _swish,
}  # fmt: skip


def nodes_of(graph: onnx.GraphProto) -> Iterator[onnx.NodeProto]:
    """All nodes of a graph, those of the graphs inside its nodes too."""
    for node in graph.node:
        yield node
        for attribute in node.attribute:
            if attribute.HasField("g"):
                yield from nodes_of(attribute.g)
            for inner in attribute.graphs:
                yield from nodes_of(inner)
