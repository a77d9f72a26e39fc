"""ONNX graphs in the project's own form: built to the byte, fed with uint8 RGB, free in the batch.

Every file that the project writes is opset 17, IR version 8, its first node casts `images` (N, 3, H, W) uint8 RGB to
float, and its bytes depend on nothing but the weights: no producer versions, no clock, no order of a dictionary.
"""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any, Literal

import numpy as np
import onnx
from google.protobuf.message import DecodeError
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper
from pydantic import BaseModel, ConfigDict

from engines.card import Card
from engines.errors import CardError, ModelFileError, first_line
from engines.opset import TARGET as OPSET
from engines.opset import lower, nodes_of
from engines.tasks import TaskConfig, misfit

INPUT = "images"
NORMALISED = "normalised"
"""The float tensor between the baked normalisation and the network."""
IR_VERSION = 8
#: Operators that mean the same from opset 11 to 17 when the network only infers.
_UNCHANGED = {
    "Add", "AveragePool", "Cast", "Clip", "Concat", "Constant", "Conv", "Div", "Exp", "Flatten", "Gather", "Gemm",
    "GlobalAveragePool", "HardSigmoid", "Identity", "LeakyRelu", "MatMul", "MaxPool", "Mul", "PRelu", "Pad", "Relu",
    "Reshape", "Resize", "Shape", "Sigmoid", "Slice", "Sub", "Tanh", "Transpose",
}  # fmt: skip


class Normalisation(BaseModel):
    """What a network expects instead of uint8 RGB: (x - mean) / std per channel, in its own order of channels."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    mean: tuple[float, ...] = (0.0,)
    std: tuple[float, ...] = (1.0,)
    channels: Literal["rgb", "bgr"] = "rgb"
    layout: Literal["nchw", "nhwc"] = "nchw"


def constant(name: str, array: NDArray[Any]) -> TensorProto:
    """Return an initialiser with the array's raw little-endian bytes; the same bytes whatever the onnx version."""
    array = np.ascontiguousarray(array) if array.ndim else array
    data_type = helper.np_dtype_to_tensor_dtype(array.dtype)
    little = array.astype(array.dtype.newbyteorder("<"), copy=False)
    return TensorProto(name=name, data_type=data_type, dims=array.shape, raw_data=little.tobytes())


def model_of(graph: onnx.GraphProto) -> onnx.ModelProto:
    """Return a model with the project's header around `graph`."""
    model = onnx.ModelProto(ir_version=IR_VERSION, producer_name="sightwire", graph=graph)
    model.opset_import.add(domain="", version=OPSET)
    return model


def serialise(model: onnx.ModelProto) -> bytes:
    """Bytes of the model, the same on every machine."""
    return bytes(model.SerializeToString(deterministic=True))


def parse(data: bytes, where: str) -> onnx.ModelProto:
    """Read and check an ONNX model. Raises ModelFileError naming `where`."""
    try:
        model = onnx.ModelProto.FromString(data)
    except (DecodeError, ValueError) as error:
        raise ModelFileError(
            f"{where}: not a sound ONNX model ({first_line(error, 200)}); pull or export it again"
        ) from None
    check(model, where)
    return model


def check(model: onnx.ModelProto, where: str) -> None:
    """Check a model that is in memory. Raises ModelFileError naming `where`."""
    try:
        onnx.checker.check_model(model)
        constants(model)  # the checker takes weights of another size than their shape
    except (onnx.checker.ValidationError, ValueError, RuntimeError, KeyError, TypeError) as error:
        raise ModelFileError(
            f"{where}: not a sound ONNX model ({first_line(error, 200)}); pull or export it again"
        ) from None


def load(path: Path) -> onnx.ModelProto:
    """Read and check an ONNX file. Raises ModelFileError naming it."""
    try:
        return parse(path.read_bytes(), str(path))
    except OSError as error:
        raise ModelFileError(f"{path}: cannot be read ({error.strerror})") from None


def constants(model: onnx.ModelProto) -> dict[str, NDArray[Any]]:
    """Name -> array of all initialisers."""
    return {tensor.name: numpy_helper.to_array(tensor) for tensor in model.graph.initializer}


def consumers(model: onnx.ModelProto) -> dict[str, list[onnx.NodeProto]]:
    """Tensor name -> nodes that read it, in graph order."""
    readers: dict[str, list[onnx.NodeProto]] = {}
    for node in model.graph.node:
        for name in node.input:
            readers.setdefault(name, []).append(node)
    return readers


def shape_of(value: onnx.ValueInfoProto) -> tuple[int, ...]:
    """Shape of a graph input or output; -1 where it is free."""
    return tuple(d.dim_value if d.HasField("dim_value") else -1 for d in value.type.tensor_type.shape.dim)


def upgrade(model: onnx.ModelProto, where: str) -> onnx.ModelProto:
    """Return the model at opset 17. Raises ModelFileError if its opset is unknown or cannot be brought there."""
    used = {node.domain for node in nodes_of(model.graph)}
    if foreign := sorted(used - {"", "ai.onnx"}):
        raise ModelFileError(
            f"{where}: uses operators of {', '.join(foreign)}, which not every backend runs; export it without a "
            "framework's own operators"
        )
    version = max((entry.version for entry in model.opset_import if entry.domain in ("", "ai.onnx")), default=0)
    upgraded = onnx.ModelProto()
    upgraded.CopyFrom(model)
    unchanged = 11 <= version <= OPSET and {node.op_type for node in model.graph.node} <= _UNCHANGED
    if version > OPSET:
        upgraded = lower(model, where)
    elif version != OPSET and not unchanged:
        try:
            upgraded = onnx.version_converter.convert_version(model, OPSET)
        except Exception as error:  # noqa: BLE001  # C++ raises its own kind, which has no base but Exception
            raise ModelFileError(
                f"{where}: opset {version} cannot be brought to {OPSET}: {first_line(error, 200)}"
            ) from None
    del upgraded.opset_import[:]
    upgraded.opset_import.add(domain="", version=OPSET)
    upgraded.ir_version = IR_VERSION
    return upgraded


def canonical(model: onnx.ModelProto) -> onnx.ModelProto:
    """Return the same network, named after nothing but its structure, without unused constants and comments.

    Two exports of one network that differ in names and comments only become the same bytes.
    """
    graph = model.graph
    arrays = constants(model)
    inputs = [value for value in graph.input if value.name not in arrays]  # before IR 4 weights were inputs too
    names = {value.name: value.name for value in (*inputs, *graph.output)}
    nodes: list[onnx.NodeProto] = []
    initialisers: list[TensorProto] = []
    count: Counter[str] = Counter()
    for node in graph.node:
        kind = node.op_type.lower()
        label = f"{kind}_{count[kind]}"
        count[kind] += 1
        for slot, name in enumerate(node.input):
            if name and name not in names and name in arrays:
                names[name] = f"{label}.{slot}"
                initialisers.append(constant(names[name], arrays[name]))
        for slot, name in enumerate(node.output):
            names.setdefault(name, label if slot == 0 else f"{label}.out{slot}")
        nodes.append(
            onnx.NodeProto(
                op_type=node.op_type,
                name=label,
                input=[names.get(name, name) for name in node.input],
                output=[names[name] if name else "" for name in node.output],
                attribute=sorted(node.attribute, key=lambda attribute: str(attribute.name)),
            )
        )
    return model_of(
        onnx.GraphProto(name="network", node=nodes, initializer=initialisers, input=inputs, output=graph.output)
    )


def bake(model: onnx.ModelProto, normalisation: Normalisation, where: str) -> onnx.ModelProto:
    """Put the way from (N, 3, H, W) uint8 RGB to the network's own float input in front of it.

    Cast, then channel swap, then * 1/std + (-mean/std), then transposition: only those that do something. No weight
    of the network is touched. Raises ModelFileError if the network has not one picture as its input.
    """
    baked = onnx.ModelProto()
    baked.CopyFrom(model)
    graph = baked.graph
    arrays = constants(model)
    inputs = [value for value in graph.input if value.name not in arrays]
    shape = shape_of(inputs[0]) if inputs else ()
    channel = 1 if normalisation.layout == "nchw" else 3
    if len(inputs) != 1 or len(shape) != 4 or shape[channel] != 3:
        found = ", ".join(f"{value.name} {shape_of(value)}" for value in inputs) or "none"
        raise ModelFileError(f"{where}: expected one {normalisation.layout} input of 3 channels, found {found}")
    for node in graph.node:
        for slot, name in enumerate(node.input):
            if name == inputs[0].name:
                node.input[slot] = NORMALISED

    height, width = shape[2:] if normalisation.layout == "nchw" else shape[1:3]
    batch: int | str = shape[0] if shape[0] > 0 else "N"
    front, added = _front(normalisation)
    nodes, initialisers = [*front, *graph.node], [*added, *graph.initializer]
    del graph.node[:], graph.initializer[:], graph.input[:]
    graph.node.extend(nodes)
    graph.initializer.extend(initialisers)
    graph.input.append(helper.make_tensor_value_info(INPUT, TensorProto.UINT8, [batch, 3, height, width]))
    return baked


def _front(normalisation: Normalisation) -> tuple[list[onnx.NodeProto], list[TensorProto]]:
    """Nodes from `images` to `normalised`, and their constants."""
    mean, std = (np.asarray(values, np.float64) for values in (normalisation.mean, normalisation.std))
    steps: list[tuple[str, list[TensorProto], dict[str, Any]]] = [("Cast", [], {"to": TensorProto.FLOAT})]
    if normalisation.channels == "bgr":
        steps.append(("Gather", [constant("front.bgr", np.array([2, 1, 0], np.int64))], {"axis": 1}))
    for operator, values, neutral in (("Mul", 1 / std, 1.0), ("Add", -mean / std, 0.0)):
        if np.any(values != neutral):
            array = np.broadcast_to(values, (3,)).astype(np.float32).reshape(1, 3, 1, 1)
            steps.append((operator, [constant(f"front.{operator.lower()}.values", array)], {}))
    if normalisation.layout == "nhwc":
        steps.append(("Transpose", [], {"perm": [0, 2, 3, 1]}))
    nodes, source = [], INPUT
    for index, (operator, extra, attributes) in enumerate(steps):
        name = f"front.{operator.lower()}"
        output = NORMALISED if index == len(steps) - 1 else name
        nodes.append(helper.make_node(operator, [source, *(t.name for t in extra)], [output], name=name, **attributes))
        source = output
    return nodes, [tensor for _, extra, _ in steps for tensor in extra]


def free_batch(model: onnx.ModelProto, batch: int = 1) -> onnx.ModelProto:
    """Return the model with its batch named `N` in every input and output, and reshapes that keep the first dimension.

    `batch` is what it is fixed at.

    Whether the result means the same is for `engines.batch.proved_batch` to say.
    """
    freed = onnx.ModelProto()
    freed.CopyFrom(model)
    del freed.graph.value_info[:]
    for value in (*freed.graph.input, *freed.graph.output):
        value.type.tensor_type.shape.dim[0].dim_param = "N"
    shapes = {node.input[1] for node in freed.graph.node if node.op_type == "Reshape"}
    for tensor in freed.graph.initializer:
        if tensor.name in shapes:
            shape = numpy_helper.to_array(tensor).copy()
            if shape.size and shape[0] == batch:
                shape[0] = 0  # "as the input has it"
                tensor.CopyFrom(constant(tensor.name, shape))
    return freed


def check_fits(card: Card, model: onnx.ModelProto, task: TaskConfig | None) -> None:
    """Check a graph against its card; `task` is the card's, None one that a later version brings.

    Raises CardError naming the input or output that does not fit, and the number of labels where that is why.
    """
    fixed = {tensor.name for tensor in model.graph.initializer}
    inputs = [value for value in model.graph.input if value.name not in fixed]
    if [value.name for value in inputs] != [INPUT]:
        names = ", ".join(value.name for value in inputs) or "none"
        raise CardError(f"{card.name}: the graph's inputs are {names}; expected one, named {INPUT}")
    kind = inputs[0].type.tensor_type.elem_type
    shape = shape_of(inputs[0])
    expected = (3, card.input.height, card.input.width)
    if kind != TensorProto.UINT8 or shape[1:] != expected:
        found = f"{TensorProto.DataType.Name(kind).lower()} {shape}"
        raise CardError(f"{card.name}: {INPUT} is {found}, the card says uint8 (N, {', '.join(map(str, expected))})")
    if card.max_batch > 1 and shape[0] != -1:
        raise CardError(
            f"{card.name}: the graph is fixed at batch {shape[0]}, the card says max_batch {card.max_batch}"
        )
    rows = {value.name: shape_of(value)[1:] for value in model.graph.output}
    wrong = task and misfit(task, len(card.labels), (card.input.width, card.input.height), rows)
    if wrong:
        raise CardError(f"{card.name}: {wrong}")
