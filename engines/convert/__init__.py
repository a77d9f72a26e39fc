"""From a publisher's weights to an FP32 ONNX graph, with neither torch nor tensorflow.

A converter takes the bytes of the weights file, the converter's own numbers from the catalogue and what to call the
file in an error; it returns opset-17 ONNX whose bytes depend on the weights alone. It raises ModelFileError for a file
that is cut short, malformed or of another network, whatever the bytes are.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import onnx

from engines import graph
from engines.convert import efficientnet_lite, ssd
from engines.errors import ModelFileError

Converter = Callable[[bytes, Mapping[str, Any], str], onnx.ModelProto]


def from_onnx(data: bytes, options: Mapping[str, Any], where: str) -> onnx.ModelProto:
    """Return an ONNX export: brought to opset 17, its names made canonical.

    options: `shape`, that of the input where the export leaves it free; `columns`, output -> the columns of its last
    axis that are kept, for a network whose other classes are not wanted.
    """
    model = graph.parse(data, where)
    if "shape" in options:
        fixed = {tensor.name for tensor in model.graph.initializer}
        (source,) = (value for value in model.graph.input if value.name not in fixed)
        for dimension, size in zip(source.type.tensor_type.shape.dim, options["shape"], strict=True):
            dimension.dim_value = size
    model = graph.canonical(graph.upgrade(model, where))
    for output, columns in options.get("columns", {}).items():
        _keep(model, output, columns, where)
    return model


def _keep(model: onnx.ModelProto, output: str, columns: Sequence[int], where: str) -> None:
    """Put a choice of columns of the last axis behind an output, in place, under its name."""
    value = next((value for value in model.graph.output if value.name == output), None)
    if value is None:
        raise ModelFileError(f"{where}: has no output {output!r}")
    whole, chosen = f"{output}.all", f"{output}.columns"
    for node in model.graph.node:
        for names in (node.input, node.output):
            names[:] = [whole if name == output else name for name in names]
    model.graph.initializer.append(graph.constant(chosen, np.array(columns, np.int64)))
    model.graph.node.append(onnx.helper.make_node("Gather", [whole, chosen], [output], name=f"{output}.kept", axis=-1))
    value.type.tensor_type.shape.dim[-1].dim_value = len(columns)


CONVERTERS: dict[str, Converter] = {
    "efficientnet-lite": efficientnet_lite.convert,
    "ssd": ssd.convert,
    "onnx": from_onnx,
}


def convert(kind: str, data: bytes, options: Mapping[str, Any], where: str) -> onnx.ModelProto:
    """Convert with the converter called `kind`. Raises ModelFileError."""
    converter = CONVERTERS.get(kind)
    if converter is None:
        raise ModelFileError(f"{where}: no converter {kind!r}, known: {', '.join(CONVERTERS)}")
    return converter(data, options, where)
