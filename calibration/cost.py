"""How much arithmetic each operation of a network is."""

from __future__ import annotations

from collections.abc import Iterable
from math import prod

import onnx

from calibration.errors import CalibrationError

Shape = tuple[int, ...]


def macs(model: onnx.ModelProto) -> dict[str, int]:
    """Node name -> multiplications-and-additions for one picture.

    Convolutions and matrix products count one for each weight that meets a value; Add and pooling one for each value
    that is added; everything else 0. Raises CalibrationError if a shape that this needs cannot be inferred.
    """
    shapes = _shapes(model)
    return {str(node.name): _macs(node, shapes) for node in model.graph.node}


def float_macs(model: onnx.ModelProto, kept_float: Iterable[str]) -> int:
    """Multiplications-and-additions for one picture of the nodes that stay in float."""
    costs = macs(model)
    return sum(costs[name] for name in set(kept_float))


def _macs(node: onnx.NodeProto, shapes: dict[str, Shape]) -> int:
    def shape(name: str) -> Shape:
        if name not in shapes:
            raise CalibrationError(f"{node.name}: the shape of {name} cannot be inferred; import the model again")
        return shapes[name]

    if node.op_type == "Conv":  # weights: (output channels, input channels of a group, height, width)
        return prod(shape(node.output[0])) * prod(shape(node.input[1])[1:])
    if node.op_type == "ConvTranspose":  # weights: (input channels, output channels of a group, height, width)
        return prod(shape(node.input[0])) * prod(shape(node.input[1])[1:])
    if node.op_type == "MatMul":
        return prod(shape(node.output[0])) * shape(node.input[0])[-1]
    if node.op_type == "Gemm":
        transposed = any(entry.name == "transA" and entry.i for entry in node.attribute)
        return prod(shape(node.output[0])) * shape(node.input[0])[0 if transposed else 1]
    if node.op_type == "Add":
        return prod(shape(node.output[0]))
    if node.op_type == "GlobalAveragePool":
        return prod(shape(node.input[0]))
    return 0


def _shapes(model: onnx.ModelProto) -> dict[str, Shape]:
    """Name -> shape of every tensor whose shape is known once the batch is 1."""
    single = onnx.ModelProto()
    single.CopyFrom(model)
    del single.graph.value_info[:]
    for value in single.graph.input:
        value.type.tensor_type.shape.dim[0].dim_value = 1
    for value in single.graph.output:
        value.type.tensor_type.ClearField("shape")
    try:
        graph = onnx.shape_inference.infer_shapes(single, data_prop=True).graph
    except (onnx.shape_inference.InferenceError, ValueError, RuntimeError) as error:
        raise CalibrationError(f"the model's shapes cannot be inferred: {str(error).splitlines()[0]}") from None
    known: dict[str, Shape] = {tensor.name: tuple(tensor.dims) for tensor in graph.initializer}
    for value in (*graph.input, *graph.value_info, *graph.output):
        sides = value.type.tensor_type.shape.dim
        if value.type.tensor_type.HasField("shape") and all(side.HasField("dim_value") for side in sides):
            known[value.name] = tuple(side.dim_value for side in sides)
    return known
