"""What INT8 does to each operation, for the report."""

from __future__ import annotations

from collections.abc import Sequence

import onnx

from calibration.evaluation import Stages
from calibration.forward import Tensor
from calibration.proof import Layer
from calibration.roles import depthwise, prediction_layers, stem
from calibration.search.auto import Found
from calibration.signal import layer_signal_to_noise
from engines.qdq import Table, equalised, quantised_nodes

_PICTURES = 8


def layers_of(
    fp32: onnx.ModelProto,
    int8: onnx.ModelProto,
    table: Table,
    found: Found,
    pictures: Sequence[Tensor],
    stages: Stages,
) -> tuple[Layer, ...]:
    """Every operation that INT8 can take, in the graph's order."""
    nodes = quantised_nodes(fp32)
    names = [str(node.name) for node in nodes]
    looked_at = pictures[:_PICTURES]
    progress = stages("comparing operation by operation")
    signal = layer_signal_to_noise(
        equalised(fp32, table), int8, names, looked_at, lambda done: progress(done, len(looked_at))
    )
    kept, channelwise = set(table.kept_float), set(depthwise(fp32))
    first, last = set(stem(fp32)), set(prediction_layers(fp32))

    def reason(name: str) -> str:
        role = "stem" if name in first else "prediction layer" if name in last else None
        costs = f"alone in INT8 it leaves {found.alone_db[name]:.1f} dB" if name in found.alone_db else "as asked"
        return f"{role}, {costs}" if role else costs

    return tuple(
        Layer(
            name=name,
            operator=node.op_type,
            depthwise=name in channelwise,
            precision="float" if name in kept else "int8",
            reason=reason(name) if name in kept else None,
            macs=found.macs[name],
            signal_to_noise_db=round(signal[name], 2),
            alone_db=found.alone_db.get(name),
        )
        for node, name in zip(nodes, names, strict=True)
    )
