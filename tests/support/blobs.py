"""A detector for tests, real down to its engine: the bright block of `agent.sources.synthetic` is its one object."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from engines.card import Card, Input, ModelFile, Origin, sha256_of, write_card

SIZE = (64, 36)
BLOCK = (8.0, 9.0)
"""Width and height of the block in the network's input."""
USE = {"use": "blobs", "roi": [0, 0.1, 1, 1]}
"""Without the barcode, which is bright too. The region is 0.9 of the picture's height."""
MODEL = {"model": "blobs", "precision": "fp32", "backend": {"type": "openvino", "threads": 1}}


def add_blobs(folder: Path) -> None:
    """Put the model `blobs` (label: block) into a store at `folder`."""
    target = folder / "blobs"
    target.mkdir(parents=True)
    onnx.save(_network(), target / "model.onnx")
    task: dict[str, Any] = {"type": "yolo", "output": "boxes", "layout": "rows", "objectness": False, "threshold": 0.5}
    card = Card.model_validate(
        {
            "schema": "sightwire.card/1",
            "name": "blobs",
            "summary": "made for tests",
            "input": Input(width=SIZE[0], height=SIZE[1], fit="stretch"),
            "task": task,
            "labels": ("block",),
            "files": {"fp32": ModelFile(path="model.onnx", sha256=sha256_of(target / "model.onnx"))},
            "origin": Origin(source="tests", sha256="0" * 64, licence="Apache-2.0"),
        }
    )
    write_card(card, target)


def _network() -> onnx.ModelProto:
    """(N, 3, H, W) uint8 -> (N, 1, 5): the centre of what is brighter than 160, the block's size, and a score."""
    width, height = SIZE
    constants = {
        "dark": np.array(160, np.float32),
        "one": np.array(1, np.float32),
        "x": (np.arange(width, dtype=np.float32) + 0.5).reshape(1, 1, 1, -1),
        "y": (np.arange(height, dtype=np.float32) + 0.5).reshape(1, 1, -1, 1),
        "enough": np.array(BLOCK[0] * BLOCK[1] * 48 * 3 * 0.6, np.float32),
        "size": np.array(BLOCK, np.float32).reshape(1, 2, 1, 1),
        "axes": np.array([1, 2, 3], np.int64),
        "nothing": np.zeros((1, 2, 1, 1), np.float32),
        "shape": np.array([-1, 1, 5], np.int64),
    }
    n = helper.make_node
    nodes = [
        n("Cast", ["images"], ["floats"], to=TensorProto.FLOAT),
        n("Sub", ["floats", "dark"], ["over"]),
        n("Relu", ["over"], ["bright"]),
        n("ReduceSum", ["bright", "axes"], ["sum"], keepdims=1),
        n("Max", ["sum", "one"], ["least"]),
        n("Mul", ["bright", "x"], ["bright_x"]),
        n("Mul", ["bright", "y"], ["bright_y"]),
        n("ReduceSum", ["bright_x", "axes"], ["sum_x"], keepdims=1),
        n("ReduceSum", ["bright_y", "axes"], ["sum_y"], keepdims=1),
        n("Div", ["sum_x", "least"], ["cx"]),
        n("Div", ["sum_y", "least"], ["cy"]),
        n("Div", ["sum", "enough"], ["share"]),
        n("Min", ["share", "one"], ["score"]),
        n("Mul", ["score", "nothing"], ["sized"]),
        n("Add", ["sized", "size"], ["box"]),
        n("Concat", ["cx", "cy", "box", "score"], ["columns"], axis=1),
        n("Reshape", ["columns", "shape"], ["boxes"]),
    ]
    graph = helper.make_graph(
        nodes,
        "blobs",
        [helper.make_tensor_value_info("images", TensorProto.UINT8, ["N", 3, height, width])],
        [helper.make_tensor_value_info("boxes", TensorProto.FLOAT, ["N", 1, 5])],
        [numpy_helper.from_array(array, name) for name, array in constants.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
