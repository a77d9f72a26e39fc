"""An ONNX file as one TensorRT wants it, and into its network."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import onnx

from engines.errors import LintError, ModelFileError
from engines.graph import INPUT, constants, load, serialise, shape_of
from engines.qdq import half
from engines.qdq.nodes import attribute, drop_unread
from engines.trt.errors import BuildError
from engines.trt.features import Features
from engines.trt.log import Messages
from engines.trt.order import Floats, Order

_ELSEWHERE = "the CPU engine serves this model"
_UNKNOWN = re.compile(r"Plugin not found|No importer registered|^false$")
"""What parsers say of an operator that they do not have at all."""


@dataclass(frozen=True)
class Form:
    """The bytes that are parsed."""

    data: bytes = field(repr=False)
    floats: Floats
    """What computes what is not INT8."""
    note: str | None
    """Why that is not what was ordered."""


def form_of(order: Order, features: Features) -> Form:
    """Read the order's file and give it the form in which it is parsed.

    Where the file alone says every precision (strongly typed), float16 is written into it; elsewhere flags of the
    builder say it. What float16 cannot hold stays float32, and is noted. Raises ModelFileError for a file that is no
    sound ONNX, BuildError for one that does not fit the order.
    """
    model = load(order.model)
    _check_shapes(order, model)
    _leave_out_what_is_empty(model)
    if order.floats == "f32" or features.strongly_typed is None:
        return Form(serialise(model), order.floats, None)
    try:
        return Form(serialise(half(model)), "f16", None)
    except LintError as error:
        raise BuildError(f"{order.model}: {error}") from None
    except ModelFileError as error:
        return Form(serialise(model), "f32", f"float32 instead of float16: {error}")


def parse(trt: Any, network: Any, logger: Any, data: bytes, model: Path, said: Messages) -> None:
    """Fill `network`. Raises BuildError naming the node that TensorRT does not take, or what it warns of INT8."""
    parser = trt.OnnxParser(network, logger)
    if not parser.parse(data):
        raise _unparsed(parser, data, model, said)


def _unparsed(parser: Any, data: bytes, model: Path, said: Messages) -> BuildError:
    """Return what the parser's first error means."""
    if parser.num_errors == 0:
        return BuildError(f"{model}: TensorRT cannot read it: {said.reason('it does not say why')}")
    error = parser.get_error(0)
    nodes = onnx.ModelProto.FromString(data).graph.node
    at = error.node()
    node = nodes[at] if 0 <= at < len(nodes) else None
    reason = " ".join(error.desc().split())
    if node is None:
        return BuildError(f"{model}: TensorRT cannot read it: {reason}; {_ELSEWHERE}")
    where = f"{node.op_type} (node {node.name or node.output[0]})"
    if "QuantizeLinear" in node.op_type:
        return BuildError(f"{model}: TensorRT does not take its INT8 at {where}: {reason}")
    if _UNKNOWN.search(reason):
        return BuildError(f"{model}: TensorRT has no {where}: {_ELSEWHERE}")
    return BuildError(f"{model}: TensorRT has no such {where}: {reason}; {_ELSEWHERE}")


def _check_shapes(order: Order, model: onnx.ModelProto) -> None:
    fixed = constants(model)
    shape = next((shape_of(value) for value in model.graph.input if value.name not in fixed), ())
    width, height = order.size
    if shape[1:] != (3, height, width):
        raise BuildError(f"{order.model}: {INPUT} is {shape}, expected (N, 3, {height}, {width})")
    if not 1 <= order.batches[0] <= order.batches[1] <= order.batches[2]:
        raise BuildError(f"{order.model}: batches {order.batches} are not least, best and most")
    if shape[0] != -1 and set(order.batches) != {shape[0]}:
        raise BuildError(
            f"{order.model}: the graph is fixed at batch {shape[0]}, the order says {order.batches[0]} to "
            f"{order.batches[2]}"
        )


def _leave_out_what_is_empty(model: onnx.ModelProto) -> None:
    """Drop empty regions and scales of Resize: they mean nothing, and TensorRT warns of them."""
    arrays = constants(model)
    for node in model.graph.node:
        cropped = attribute(node, "coordinate_transformation_mode", b"") == b"tf_crop_and_resize"
        for slot, name in enumerate(node.input):
            if node.op_type == "Resize" and not cropped and name in arrays and arrays[name].size == 0:
                node.input[slot] = ""
    drop_unread(model.graph)
