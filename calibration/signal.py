"""How much of the signal INT8 leaves: of each operation, and of what the network says.

The latter orders candidates before any is scored on labels, so it has to follow accuracy. What a detector says lies in
few of its positions; an average over all of them measures the background. So noise is weighted by how far the reference
stands out where it occurs (ADR 21 has what was tried).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
import onnx
from numpy.typing import NDArray

from calibration.forward import Progress, Tensor, Values, forward, silent
from calibration.roles import prediction_layers

CEILING_DB = 120.0
"""Given where nothing differs; float32 itself is no better."""
_PEAK = 8
"""Weight of a position: how many standard deviations its highest channel is above the channel's mean, to this power."""
_LEAST_VARIANCE = 0.01
"""Of a channel, against its tensor's mean: one that hardly changes says nothing, whatever its relative noise."""
Outputs = dict[str, NDArray[np.float32]]
"""Tensor of a prediction layer -> (pictures, C, ...) its values."""


def predictions(fp32: onnx.ModelProto) -> list[str]:
    """Tensors that hold all that the network says: what its prediction layers compute, before sigmoid and softmax."""
    last = set(prediction_layers(fp32))
    return [str(node.output[0]) for node in fp32.graph.node if node.name in last]


def outputs(
    model: onnx.ModelProto, names: Sequence[str], inputs: Iterable[Tensor], progress: Progress = silent
) -> Outputs:
    """Values of the tensors `names` (of `predictions`) for all inputs, in exact arithmetic: nothing saturates.

    Raises CalibrationError if the model cannot be run.
    """
    rows = list(forward(model, names, inputs, lambda _, values: values, progress))
    return {name: np.concatenate([row[name] for row in rows]) for name in names}


def output_signal_to_noise(reference: Outputs, other: Outputs) -> float:
    """Signal-to-noise in dB of `other` against `reference`, the same tensors over the same pictures.

    Noise is the difference's variance over positions by their weight, in units of the channel's own variance; of that
    the mean of channels, then of tensors, so that neither large boxes nor many classes outvote the rest. Tensors of
    one size share their weights: boxes count where scores stand out. A difference that is the same wherever there is
    something is no noise: it puts no detection before another. A tensor without positions (a classifier's) is one
    channel without weights. Values that are not finite are nothing but noise.
    """
    shares = []
    for names in _of_one_size(reference):
        values = [_by_channel(reference[name]) for name in names]
        variances = [_variance(value) for value in values]
        weight = _weight(values, variances, _PEAK if reference[names[0]].ndim > 2 else 0)
        for name, value, variance in zip(names, values, variances, strict=True):
            with np.errstate(over="ignore", invalid="ignore"):  # of an INT8 network that overflows
                difference = value - _by_channel(other[name])
                difference -= (difference @ weight)[:, None]
                shares.append(float((np.square(difference) @ weight / variance).mean()))
    return decibels(1.0, float(np.mean(shares)))


def layer_signal_to_noise(
    fp32: onnx.ModelProto,
    int8: onnx.ModelProto,
    nodes: Iterable[str],
    inputs: Sequence[Tensor],
    progress: Progress = silent,
) -> dict[str, float]:
    """Signal-to-noise in dB of the first output of each of `nodes`, INT8 network against FP32 network.

    A layer's noise is its own and all that reaches it. Where INT8 scales channels (equalisation), `fp32` must be the
    equalised network: the same tensors in the same scale. Raises CalibrationError if a model cannot be run.
    """
    wanted = set(nodes)
    tensors = {str(node.name): str(node.output[0]) for node in fp32.graph.node if node.name in wanted}
    names = list(dict.fromkeys(tensors.values()))
    signal, noise = dict.fromkeys(names, 0.0), dict.fromkeys(names, 0.0)
    exact = forward(fp32, names, inputs, _unread)
    for a, b in zip(exact, forward(int8, names, inputs, _unread, progress), strict=True):
        for name in names:
            signal[name] += _power(a[name])
            noise[name] += _power(a[name] - b[name])
    return {node: decibels(signal[tensor], noise[tensor]) for node, tensor in tensors.items()}


def decibels(signal: float, noise: float) -> float:
    """10 log10(signal / noise), between the ceiling and its negative, which is also that of noise without bounds."""
    if not np.isfinite(noise):
        return -CEILING_DB
    if noise <= 0:
        return CEILING_DB
    return float(np.clip(10 * np.log10(max(signal / noise, 1e-30)), -CEILING_DB, CEILING_DB))


def _of_one_size(tensors: Outputs) -> list[list[str]]:
    """Names of tensors that have the same positions; each without any by itself."""
    groups: dict[tuple[object, ...], list[str]] = {}
    for name, values in tensors.items():
        groups.setdefault(values.shape[2:] or (name,), []).append(name)
    return list(groups.values())


def _by_channel(values: NDArray[np.float32]) -> NDArray[np.float64]:
    """(pictures, C, ...) -> (C, positions of all pictures); (pictures, C) -> (1, all values)."""
    channels = values.shape[1] if values.ndim > 2 else 1
    return np.moveaxis(values, 1, 0).reshape(channels, -1).astype(np.float64)


def _variance(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """(C,) of each channel, none of them next to nothing."""
    found: NDArray[np.float64] = values.var(axis=1)
    return found.clip(max(_LEAST_VARIANCE * float(found.mean()), 1e-12))


def _weight(values: list[NDArray[np.float64]], variances: list[NDArray[np.float64]], power: int) -> NDArray[np.float64]:
    """(positions,) how far the channels of all these tensors (C, positions) stand out in each, to `power`; sum 1."""
    peaks = [
        ((value - value.mean(axis=1, keepdims=True)) / np.sqrt(variance)[:, None]).max(axis=0)
        for value, variance in zip(values, variances, strict=True)
    ]
    weight = np.maximum(np.max(peaks, axis=0), 0) ** power
    total = float(weight.sum())
    return weight / total if total > 0 else np.full(len(weight), 1 / len(weight))


def _power(values: NDArray[np.float32]) -> float:
    return float(np.square(values, dtype=np.float64).sum())


def _unread(_: int, values: Values) -> Values:
    return values
