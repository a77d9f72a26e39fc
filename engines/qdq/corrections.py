"""Bias corrections: what INT8 shifts the mean of each channel by, taken back in the bias (Nagel et al. 2019, 4.2)."""

from __future__ import annotations

import numpy as np
import onnx

from engines.errors import ModelFileError
from engines.graph import constant, constants
from engines.qdq.nodes import attribute, drop_unread, output_axis
from engines.qdq.stored import unpack_correction
from engines.qdq.table import Table


def corrected(model: onnx.ModelProto, table: Table) -> onnx.ModelProto:
    """Return the float graph with the table's corrections added to the biases; a bias is made where there is none.

    Raises ModelFileError naming a node that the model does not have, that has no bias to correct, or that has another
    number of channels.
    """
    changed = onnx.ModelProto()
    changed.CopyFrom(model)
    arrays = constants(model)
    nodes = {node.name: node for node in changed.graph.node}
    for name, text in sorted(table.bias_corrections.items()):
        node = nodes.get(name)
        if node is None:
            raise ModelFileError(f"the calibration table corrects the bias of {name!r}, which the model does not have")
        try:
            correction = unpack_correction(text)
        except ValueError as error:
            raise ModelFileError(
                f"the calibration table's bias correction of {name} {error}; calibrate again"
            ) from None
        if node.op_type not in ("Conv", "Gemm") or node.input[1] not in arrays or attribute(node, "beta", 1.0) != 1:
            raise ModelFileError(
                f"the calibration table corrects the bias of {name}, which is not a Conv or Gemm with constant weights"
            )
        channels = arrays[node.input[1]].shape[output_axis(node)]
        if len(correction) != channels:
            raise ModelFileError(
                f"the calibration table corrects {len(correction)} channels of {name}, which has {channels}: "
                "calibrate again"
            )
        old = node.input[2] if len(node.input) > 2 else ""
        if old and (old not in arrays or arrays[old].size not in (1, channels)):
            raise ModelFileError(f"the calibration table corrects the bias of {name}, which is not a row of constants")
        bias = arrays[old].reshape(-1) if old else np.float32(0)
        del node.input[2:]
        node.input.append(f"{node.output[0]}.corrected.bias")
        changed.graph.initializer.append(constant(node.input[2], (bias + correction).astype(np.float32)))
    drop_unread(changed.graph)
    return changed
