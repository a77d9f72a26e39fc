"""TensorRT-RTX itself, which parses and builds without a GPU for GPUs that are elsewhere."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import onnx

from engines.card import Card, Precision, model_file, sha256_of
from engines.errors import BackendError
from engines.graph import INPUT, serialise, shape_of
from engines.trt.flavours import Flavour, load
from engines.trt.order import Floats, Order
from tests.support.needs import missing


def rtx() -> Flavour:
    """The flavour; skips where it is not installed, fails in CI."""
    try:
        return load("tensorrt_rtx")
    except BackendError as error:
        missing(f"TensorRT-RTX (pip install tensorrt_rtx; {error})")


def order_of(model: onnx.ModelProto, folder: Path, **fields: Any) -> Order:
    """An order of that network for batches of up to 2 on a GPU of compute capability 8.6, written into `folder`."""
    path = folder / "model.onnx"
    path.write_bytes(serialise(model))
    quantised = any(node.op_type == "QuantizeLinear" for node in model.graph.node)
    height, width = next(shape_of(value)[2:] for value in model.graph.input if value.name == INPUT)
    fields = {
        "precision": "int8" if quantised else "fp32",
        "floats": "f16",
        "size": (width, height),
        "batches": (1, 2, 2),
        "target": (8, 6),
        **fields,
    }
    return Order(path, sha256_of(path), **fields)


def order_of_card(card: Card, folder: Path, precision: Precision, floats: Floats, target: tuple[int, int]) -> Order:
    """An order of a model for all the batches that its card allows."""
    size = card.input.width, card.input.height
    batches = 1, card.max_batch, card.max_batch
    path = model_file(card, folder, precision)
    return Order(path, card.files[precision].sha256, precision, floats, size, batches, target)
