"""Which channels are brought to like ranges, and by how much.

Nagel et al. 2019, Data-Free Quantization Through Weight Equalization and Bias Correction, equation 11, with the range
of the activation in place of that of the weights that make it, and rounded to powers of two.
"""

from __future__ import annotations

import numpy as np
import onnx
from numpy.typing import NDArray

from calibration.ranges import Observed
from engines.graph import constants
from engines.qdq import equalisable
from engines.qdq.nodes import attribute, output_axis

_MOST = 6
"""Exponents that are used: channels farther apart are mostly those that are hardly ever used."""


def exponents(fp32: onnx.ModelProto, observed: dict[str, Observed]) -> dict[str, NDArray[np.int8]]:
    """Tensor -> exponent of each channel, for tensors where equalising costs no operation."""
    arrays = constants(fp32)
    nodes = {str(node.name): node for node in fp32.graph.node}
    found = {}
    for name, place in equalisable(fp32).items():
        if place.producer is None or name not in observed:
            continue
        ranges = observed[name].channel_largest.astype(np.float64)
        read = np.zeros(place.channels)
        for reader in place.readers:
            read = np.maximum(read, _read_by(nodes[reader], arrays[nodes[reader].input[1]], place.channels))
        usable = (ranges > 0) & (read > 0)
        if not usable.any():
            continue
        ratio = np.zeros(place.channels)
        ratio[usable] = 0.5 * np.log2(ranges[usable] / read[usable])
        ratio[usable] -= np.median(ratio[usable])
        found[name] = np.clip(np.rint(ratio), -_MOST, _MOST).astype(np.int8)
    return {name: row for name, row in found.items() if row.any()}


def _read_by(node: onnx.NodeProto, weights: NDArray[np.float32], channels: int) -> NDArray[np.float64]:
    """Return (C,) largest weight that each input channel meets, of its output channel's largest."""
    rows = np.abs(np.moveaxis(weights, output_axis(node), 0).astype(np.float64))
    flat = rows.reshape(len(rows), rows.shape[1], -1).max(axis=2)
    shares = flat / np.maximum(flat.max(axis=1, keepdims=True), np.finfo(np.float64).tiny)
    groups = int(attribute(node, "group", 1)) if node.op_type == "Conv" else 1
    largest: NDArray[np.float64] = shares.reshape(groups, -1, shares.shape[1]).max(axis=1).reshape(channels)
    return largest
