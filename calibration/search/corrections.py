"""What rounding and clipping of activations shifts the mean of each output channel by (Nagel et al. 2019, 4.2)."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import onnx
from numpy.typing import NDArray

from calibration.forward import Tensor, Values, forward
from engines.graph import constants
from engines.qdq import Table, equalised, quantised_nodes
from engines.qdq.nodes import attribute, output_axis
from engines.qdq.weights import LEVELS


def corrections(fp32: onnx.ModelProto, table: Table, pictures: Sequence[Tensor]) -> dict[str, NDArray[np.float64]]:
    """Node -> what its (O,) biases must gain so that its outputs keep their means, when its input alone is INT8."""
    graph = equalised(fp32, table)
    nodes = [node for node in quantised_nodes(graph, table.kept_float) if node.op_type in ("Conv", "Gemm")]
    names = list(dict.fromkeys(str(node.input[0]) for node in nodes))

    def shifts(_: int, values: Values) -> Values:
        found = {}
        for name, array in values.items():
            scale = np.float32(table.scales[name])
            shift = table.shifts.get(name, 0)
            levels = np.clip(np.rint(array / scale - shift), -LEVELS, LEVELS) + shift
            rows = np.moveaxis(levels * scale - array, 1, 0).reshape(array.shape[1], -1)
            found[name] = rows.mean(axis=1, dtype=np.float64)
        return found

    total = {name: np.zeros(0) for name in names}
    for shift in forward(graph, names, pictures, shifts):
        total = {name: total[name] + shift[name] if total[name].size else shift[name] for name in names}
    arrays = constants(graph)
    return {
        str(node.name): -_through(node, arrays[node.input[1]], total[str(node.input[0])] / len(pictures))
        for node in nodes
    }


def _through(node: onnx.NodeProto, weights: NDArray[np.float32], shift: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the (O,) shifts of the outputs from (C,) shifts of the inputs."""
    rows = np.moveaxis(weights, output_axis(node), 0).astype(np.float64)
    summed = rows.reshape(len(rows), rows.shape[1], -1).sum(axis=2)
    groups = int(attribute(node, "group", 1)) if node.op_type == "Conv" else 1
    each = np.repeat(shift.reshape(groups, -1), len(rows) // groups, axis=0)
    moved: NDArray[np.float64] = (summed * each).sum(axis=1)
    return moved
