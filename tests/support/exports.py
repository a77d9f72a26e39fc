"""ONNX files as training frameworks write them, tiny: any outputs, layouts, opsets, halves, metadata."""

from __future__ import annotations

from collections.abc import Mapping
from math import prod
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

FEATURES = 6


def export(
    outputs: Mapping[str, tuple[int, ...]],
    *,
    size: tuple[int, int] | None = (32, 32),
    layout: str = "nchw",
    batch: int | str = 1,
    opset: int = 17,
    end: str | None = None,
    kind: int = TensorProto.FLOAT,
    metadata: Mapping[str, Any] | None = None,
    seed: int = 0,
) -> onnx.ModelProto:
    """A network with those outputs (shapes without the batch): a convolution, a mean, and one matrix each.

    `size` (width, height), None: free. `end`: operator before the last reshape. Features vary with the picture, so that
    two pictures do not give the same. Newer opsets use what is new in them.
    """
    rng = np.random.default_rng(seed)
    nodes: list[onnx.NodeProto] = []
    tensors: list[TensorProto] = []
    half = kind == TensorProto.FLOAT16
    floats = np.float16 if half else np.float32

    def tensor(name: str, array: np.ndarray) -> str:
        tensors.append(numpy_helper.from_array(array, name))
        return name

    def node(operator: str, *inputs: str, output: str, **attributes: Any) -> str:
        nodes.append(helper.make_node(operator, list(inputs), [output], name=f"/{operator}_{len(nodes)}", **attributes))
        return output

    x = "picture"
    if kind == TensorProto.UINT8:
        x = node("Cast", x, output="floats", to=TensorProto.FLOAT)
    if layout == "nhwc":
        x = node("Transpose", x, output="planes", perm=[0, 3, 1, 2])
    weights = tensor("conv.weight", rng.normal(0, 0.4, (FEATURES, 3, 3, 3)).astype(floats))
    x = node("Conv", x, weights, output="conv", kernel_shape=[3, 3], strides=[2, 2])
    x = node("Gelu" if opset >= 20 else "Relu", x, output="active")
    if opset >= 18:
        x = node("ReduceMean", x, tensor("axes", np.array([2, 3], np.int64)), output="mean", keepdims=0)
    else:
        x = node("ReduceMean", x, output="mean", axes=[2, 3], keepdims=0)
    for name, shape in outputs.items():
        matrix = tensor(f"{name}.weight", rng.normal(0, 0.2, (FEATURES, prod(shape))).astype(floats))
        y = node("MatMul", x, matrix, output=f"{name}.flat" if end or len(shape) > 1 else name)
        if end:
            y = node(end, y, output=f"{name}.end" if len(shape) > 1 else name)
        if len(shape) > 1:
            rows = tensor(f"{name}.shape", np.array([batch if isinstance(batch, int) else -1, *shape], np.int64))
            node("Reshape", y, rows, output=name)
    sides: list[int | str] = list(size[::-1]) if size else ["height", "width"]
    dims = [batch, 3, *sides] if layout == "nchw" else [batch, *sides, 3]
    graph = helper.make_graph(
        nodes,
        "main_graph",
        [helper.make_tensor_value_info("picture", kind, dims)],
        [
            helper.make_tensor_value_info(n, TensorProto.FLOAT16 if half else TensorProto.FLOAT, [batch, *s])
            for n, s in outputs.items()
        ],
        tensors,
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], producer_name="pytorch")
    model.ir_version = 8 if opset < 20 else 9
    helper.set_model_props(model, {key: str(value) for key, value in (metadata or {}).items()})
    return model


def ultralytics(task: str = "detect", labels: int = 3, size: tuple[int, int] = (32, 32)) -> dict[str, Any]:
    """What Ultralytics writes into an export."""
    return {
        "description": "Ultralytics YOLOv8n model trained on helmets.yaml",
        "author": "Ultralytics",
        "version": "8.4.190",
        "license": "AGPL-3.0 License (https://ultralytics.com/license)",
        "stride": 32,
        "task": task,
        "batch": 1,
        "imgsz": [size[1], size[0]],
        "names": {i: f"kind {i}" for i in range(labels)},
        "args": {"nms": False},
    }
