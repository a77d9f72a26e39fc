"""The smallest network that has an answer which can be told beforehand."""

from __future__ import annotations

from pathlib import Path

import onnx
from onnx import TensorProto, helper


def means_model(path: Path, side: int = 32) -> Path:
    """ONNX that gives the mean level (0 to 1) of each channel: what the fake engine computes."""
    divisor = helper.make_tensor("divisor", TensorProto.FLOAT, [], [255.0])
    nodes = [
        helper.make_node("Cast", ["images"], ["floats"], to=TensorProto.FLOAT),
        helper.make_node("GlobalAveragePool", ["floats"], ["pooled"]),
        helper.make_node("Flatten", ["pooled"], ["flat"]),
        helper.make_node("Div", ["flat", "divisor"], ["scores"]),
    ]
    graph = helper.make_graph(
        nodes,
        "means",
        [helper.make_tensor_value_info("images", TensorProto.UINT8, ["N", 3, side, side])],
        [helper.make_tensor_value_info("scores", TensorProto.FLOAT, ["N", 3])],
        [divisor],
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), path)
    return path
