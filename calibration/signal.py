"""How much of the signal INT8 leaves: of each operation, and of what the network says."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
import onnx
from numpy.typing import NDArray

from calibration.forward import Progress, Tensor, Values, forward, silent
from calibration.roles import prediction_layers

CEILING_DB = 120.0
"""Reported where nothing differs; float32 itself is no better."""
Outputs = dict[str, NDArray[np.float32]]
"""Tensor of a prediction layer -> (pictures, C, ...) its values."""


def outputs(model: onnx.ModelProto, names: Sequence[str], inputs: Iterable[Tensor]) -> Outputs:
    """Values of tensors `names`, as `predictions` gives them, for all inputs."""
    rows = list(forward(model, names, inputs, lambda _, values: values))
    return {name: np.concatenate([row[name] for row in rows]) for name in names}


def predictions(fp32: onnx.ModelProto) -> list[str]:
    """Tensors that say all that the network says: what its prediction layers compute, before sigmoid and softmax."""
    last = set(prediction_layers(fp32))
    return [str(node.output[0]) for node in fp32.graph.node if node.name in last]


def output_signal_to_noise(reference: Outputs, other: Outputs) -> float:
    """Signal-to-noise in dB of `other` against `reference`, the same tensors over the same pictures.

    Each channel counts alike, whatever its scale: its noise is taken in units of its own variance.
    """
    shares = []
    for name, array in reference.items():
        a, b = (_by_channel(part) for part in (array, other[name]))
        noise = np.square(a - b).mean(axis=1)
        shares.append(noise / np.maximum(a.var(axis=1), 1e-12))
    return decibels(1.0, float(np.mean([share.mean() for share in shares])))


def _by_channel(values: NDArray[np.float32]) -> NDArray[np.float64]:
    """(pictures, C, ...) -> (C, all its values)."""
    return np.moveaxis(values, 1, 0).reshape(values.shape[1], -1).astype(np.float64)


def layer_signal_to_noise(
    fp32: onnx.ModelProto,
    int8: onnx.ModelProto,
    nodes: Sequence[str],
    inputs: Sequence[Tensor],
    progress: Progress = silent,
) -> dict[str, float]:
    """Signal-to-noise in dB of the first output of each of `nodes`, INT8 network against FP32 network.

    Where INT8 scales channels (equalisation), `fp32` must be the equalised network: same tensors, same scaling.
    """
    tensors = {name: str(node.output[0]) for node in fp32.graph.node for name in [str(node.name)] if name in set(nodes)}
    wanted = list(dict.fromkeys(tensors.values()))
    signal, noise = dict.fromkeys(wanted, 0.0), dict.fromkeys(wanted, 0.0)
    pairs = zip(forward(fp32, wanted, inputs, _values), forward(int8, wanted, inputs, _values, progress), strict=True)
    for a, b in pairs:
        for name in wanted:
            signal[name] += float(np.square(a[name], dtype=np.float64).sum())
            noise[name] += float(np.square(a[name] - b[name], dtype=np.float64).sum())
    return {name: decibels(signal[tensor], noise[tensor]) for name, tensor in tensors.items()}


def decibels(signal: float, noise: float) -> float:
    """10 log10(signal / noise), between the ceiling and its negative."""
    if noise <= 0:
        return CEILING_DB
    return float(np.clip(10 * np.log10(max(signal, 1e-300) / noise), -CEILING_DB, CEILING_DB))


def _values(_: int, values: Values) -> Values:
    return values
