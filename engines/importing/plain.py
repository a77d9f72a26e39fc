"""From an export to a plain network: float32 throughout, opset 17, one size, constants where they are constant."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from engines import graph
from engines.errors import ModelFileError
from engines.opset import TARGET, nodes_of

_FLOATS = (TensorProto.FLOAT16, TensorProto.BFLOAT16, TensorProto.DOUBLE)
#: Worked out at import where all they read is constant.
_FOLDED = {
    "Add", "Cast", "Ceil", "Concat", "Div", "Equal", "Exp", "Floor", "Gather", "Identity", "Mul", "Neg", "Pow",
    "Reciprocal", "Reshape", "Shape", "Slice", "Sqrt", "Squeeze", "Sub", "Transpose", "Unsqueeze", "Where",
}  # fmt: skip
_STRIPPED = {"Dropout", "Identity"}
"""Do nothing when a network infers."""
_LARGEST = 64 << 20
"""Bytes of a constant that is worked out: grids and anchors are far smaller, and a file may double one for ever."""


def plain(model: onnx.ModelProto, shape: tuple[int, ...], where: str) -> onnx.ModelProto:
    """Return the network with an input of that shape (-1: the batch is free), at opset 17, in float32.

    Raises ModelFileError for operators that no backend runs and for opsets that cannot be brought to 17.
    """
    network = onnx.ModelProto()
    network.CopyFrom(model)
    if network.functions:
        network = _inlined(network, where)
    del network.graph.value_info[:]
    to_float32(network.graph)
    _fix_input(network, shape)
    network = graph.upgrade(network, where)
    fold(network)
    _loosen(network)
    return network


def _loosen(network: onnx.ModelProto) -> None:
    """Write what names the batch for nothing so that it does not; in place.

    Resizing to a size that has the batch in it becomes resizing by a factor, and `allowzero`, which forbids "as the
    input has it", goes where no 0 stands.
    """
    arrays = graph.constants(network)
    shapes: dict[str, tuple[int, ...]] = {}
    added: list[TensorProto] = []
    for index, node in enumerate(network.graph.node):
        if node.op_type == "Reshape" and 0 not in arrays.get(node.input[1], np.zeros(1)):
            for attribute in [entry for entry in node.attribute if entry.name == "allowzero"]:
                node.attribute.remove(attribute)
        if node.op_type == "Resize" and len(node.input) == 4 and arrays.get(node.input[3], np.zeros(0)).size == 4:
            shapes = shapes or _inferred(network)
            before, after = shapes.get(node.input[0], ()), arrays[node.input[3]]
            if len(before) == 4 and before[1] == after[1] and min(before[2:]) > 0:
                scales = np.array([1, 1, after[2] / before[2], after[3] / before[3]], np.float32)
                # Runtimes take the floor of side times factor.
                if [int(np.floor(np.float32(s) * f)) for s, f in zip(before[2:], scales[2:], strict=True)] == [
                    *after[2:]
                ]:
                    added.append(graph.constant(f"resize.scales.{index}", scales))
                    node.input[2] = added[-1].name
                    del node.input[3:]
    network.graph.initializer.extend(added)


def _inferred(network: onnx.ModelProto) -> dict[str, tuple[int, ...]]:
    """Tensor -> shape, of those whose shape follows from the graph."""
    try:
        values = onnx.shape_inference.infer_shapes(network, data_prop=True).graph.value_info
    except (RuntimeError, ValueError, onnx.shape_inference.InferenceError):
        return {}
    return {value.name: graph.shape_of(value) for value in values}


def trimmed(network: onnx.ModelProto, outputs: set[str]) -> onnx.ModelProto:
    """Return the network with those outputs alone and what they need, in the project's canonical form."""
    kept = onnx.ModelProto()
    kept.CopyFrom(network)
    prune(kept, outputs)
    if any(attribute.HasField("g") or attribute.graphs for node in kept.graph.node for attribute in node.attribute):
        kept.graph.name = "network"
        return graph.model_of(kept.graph)  # its inner graphs read outer tensors by name, so names stay
    return graph.canonical(kept)


def _inlined(network: onnx.ModelProto, where: str) -> onnx.ModelProto:
    """Write functions of the file's own out."""
    from onnx import inliner

    try:
        return inliner.inline_local_functions(network)
    except (RuntimeError, ValueError, onnx.checker.ValidationError) as error:
        raise ModelFileError(f"{where}: its functions cannot be inlined: {str(error)[:200]}") from None


def has_half(model: onnx.ModelProto) -> bool:
    """Whether weights, inputs or steps of the network are in half precision."""
    halves = (TensorProto.FLOAT16, TensorProto.BFLOAT16)
    values = (*model.graph.input, *model.graph.output)
    casts = (a.i for node in nodes_of(model.graph) if node.op_type == "Cast" for a in node.attribute if a.name == "to")
    return (
        any(tensor.data_type in halves for tensor in model.graph.initializer)
        or any(value.type.tensor_type.elem_type in halves for value in values)
        or any(to in halves for to in casts)
    )


def to_float32(network: onnx.GraphProto) -> None:
    """Make every other kind of float a float32: weights, constants, casts, inputs and outputs; in place."""
    for tensor in network.initializer:
        _tensor_to_float32(tensor)
    for value in (*network.input, *network.output, *network.value_info):
        if value.type.tensor_type.elem_type in _FLOATS:
            value.type.tensor_type.elem_type = TensorProto.FLOAT
    for node in network.node:
        for attribute in node.attribute:
            if attribute.name in ("to", "dtype", "output_dtype", "stash_type") and attribute.i in _FLOATS:
                attribute.i = TensorProto.FLOAT
            if attribute.HasField("t"):
                _tensor_to_float32(attribute.t)
            for inner in (attribute.g, *attribute.graphs) if attribute.HasField("g") else attribute.graphs:
                del inner.value_info[:]
                to_float32(inner)


def _tensor_to_float32(tensor: TensorProto) -> None:
    if tensor.data_type in _FLOATS:
        tensor.CopyFrom(graph.constant(tensor.name, numpy_helper.to_array(tensor).astype(np.float32)))


def _fix_input(network: onnx.ModelProto, shape: tuple[int, ...]) -> None:
    """Give the input that shape, and float32 whatever it was: the way from uint8 is baked in front of it.

    Outputs get the rank that they have and nothing else: what an exporter wrote there may be about another size.
    """
    weights = {tensor.name for tensor in network.graph.initializer}
    (value,) = (value for value in network.graph.input if value.name not in weights)
    dims: list[int | str] = ["N" if side < 0 else side for side in shape]
    value.CopyFrom(helper.make_tensor_value_info(value.name, TensorProto.FLOAT, dims))


def fold(network: onnx.ModelProto) -> None:
    """Turn constants, and what is worked out of constants alone, into initialisers; strip what does nothing."""
    from onnx.reference import ReferenceEvaluator

    tensors = {tensor.name: tensor for tensor in network.graph.initializer}
    outputs = {value.name for value in network.graph.output}
    alias: dict[str, str] = {}
    nodes = []
    for node in network.graph.node:
        for slot, name in enumerate(node.input):
            node.input[slot] = alias.get(name, name)
        if node.op_type in _STRIPPED and len([o for o in node.output if o]) == 1 and node.output[0] not in outputs:
            alias[node.output[0]] = node.input[0]
            continue
        if node.op_type == "Constant" and node.output[0] not in outputs:
            tensors[node.output[0]] = graph.constant(node.output[0], _constant_of(node))
            continue
        known = node.op_type in _FOLDED and all(name in tensors for name in node.input) and len(node.input) > 0
        if known and node.output[0] not in outputs:
            arrays = {name: numpy_helper.to_array(tensors[name]) for name in node.input}
            try:
                if sum(array.nbytes for array in arrays.values()) <= _LARGEST:
                    (result,) = ReferenceEvaluator(node, opsets={"": TARGET}).run(None, arrays)
                    tensors[node.output[0]] = graph.constant(node.output[0], np.asarray(result))
                    continue
            except Exception:  # noqa: BLE001, S110  # left as it is: the runtime will say what is wrong with it
                pass
        nodes.append(node)
    for node in nodes:
        for attribute in node.attribute:
            for inner in (attribute.g, *attribute.graphs) if attribute.HasField("g") else attribute.graphs:
                _rename(inner, alias)
    kept = [onnx.NodeProto.FromString(node.SerializeToString()) for node in nodes]
    del network.graph.node[:], network.graph.initializer[:]
    network.graph.node.extend(kept)
    network.graph.initializer.extend(tensors.values())


def _rename(inner: onnx.GraphProto, alias: dict[str, str]) -> None:
    for node in nodes_of(inner):
        for slot, name in enumerate(node.input):
            node.input[slot] = alias.get(name, name)
    for value in inner.output:
        value.name = alias.get(value.name, value.name)


def _constant_of(node: onnx.NodeProto) -> NDArray[Any]:
    (attribute,) = node.attribute
    value = helper.get_attribute_value(attribute)
    if isinstance(value, TensorProto):
        return np.asarray(numpy_helper.to_array(value))
    kind = np.float32 if attribute.name.startswith("value_float") else np.int64
    return np.asarray(value, kind)


def prune(network: onnx.ModelProto, outputs: set[str]) -> None:
    """Keep those outputs, and the nodes and constants that they need; in place."""
    needed = set(outputs)
    nodes = []
    for node in reversed(network.graph.node):
        if not needed.isdisjoint(node.output):
            nodes.append(node)
            needed |= {name for inner in _inner(node) for name in inner}
            needed |= set(node.input)
    kept = [onnx.NodeProto.FromString(node.SerializeToString()) for node in reversed(nodes)]
    values = [value for value in network.graph.output if value.name in outputs]
    tensors = [tensor for tensor in network.graph.initializer if tensor.name in needed]
    inputs = [value for value in network.graph.input if value.name in needed]
    for field, content in (("node", kept), ("output", values), ("initializer", tensors), ("input", inputs)):
        copies = [type(entry).FromString(entry.SerializeToString()) for entry in content]
        network.graph.ClearField(field)
        getattr(network.graph, field).extend(copies)


def _inner(node: onnx.NodeProto) -> list[list[str]]:
    """Names that graphs inside the node read."""
    graphs = [g for a in node.attribute for g in ((a.g, *a.graphs) if a.HasField("g") else a.graphs)]
    return [[*(n for inner in nodes_of(g) for n in inner.input), *(v.name for v in g.output)] for g in graphs]
