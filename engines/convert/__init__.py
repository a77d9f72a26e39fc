"""From a publisher's weights to an FP32 ONNX graph, with neither torch nor tensorflow.

A converter takes the bytes of the weights file, the converter's own numbers from the catalogue and what to call the
file in an error; it returns opset-17 ONNX whose bytes depend on the weights alone. It raises ModelFileError for a file
that is cut short, malformed or of another network, whatever the bytes are.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import onnx

from engines import graph
from engines.convert import efficientnet_lite, ssd
from engines.errors import ModelFileError

Converter = Callable[[bytes, Mapping[str, Any], str], onnx.ModelProto]


def from_onnx(data: bytes, options: Mapping[str, Any], where: str) -> onnx.ModelProto:
    """Return an ONNX export: brought to opset 17, its names made canonical.

    options: `shape`, that of the input where the export leaves it free.
    """
    model = graph.parse(data, where)
    if "shape" in options:
        fixed = {tensor.name for tensor in model.graph.initializer}
        (source,) = (value for value in model.graph.input if value.name not in fixed)
        for dimension, size in zip(source.type.tensor_type.shape.dim, options["shape"], strict=True):
            dimension.dim_value = size
    return graph.canonical(graph.upgrade(model, where))


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
