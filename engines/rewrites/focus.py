"""YOLOX's first layer: pixels are dealt out to four pictures of half the size, and a convolution reads these.

That is one convolution of twice the size and step over the picture itself.
"""

from __future__ import annotations

import numpy as np
import onnx
from onnx import helper

from engines.rewrites.network import Array, Network, Stays, attribute, is_plain_convolution

_DEALT = 4


def dealt_out(network: Network) -> list[str]:
    """What four tensors are joined to."""
    return [node.output[0] for node in network.nodes if node.op_type == "Concat" and len(node.input) == _DEALT]


def join(network: Network, name: str) -> None:
    """Let a convolution read what its input was dealt out of. Raises Stays."""
    concat = network.maker(name)
    dealt = [_origin(network, name) for name in concat.input]
    sources, offsets = {source for source, _ in dealt}, [offset for _, offset in dealt]
    if len(sources) != 1 or len(set(offsets)) != _DEALT or attribute(concat, "axis", 0) != 1:
        raise Stays
    first = conv = network.only_reader(name)
    while conv is not None and conv.op_type in ("QuantizeLinear", "DequantizeLinear"):  # which treat all alike
        if any(network.value(conv, place).size != 1 for place in range(1, len(conv.input))):
            raise Stays
        name, conv = conv.output[0], network.only_reader(conv.output[0])
    if first is None or conv is None or not is_plain_convolution(conv) or conv.input[0] != name:
        raise Stays
    _widen(network, conv, offsets)
    first.input[0] = sources.pop()
    network.index()


def _widen(network: Network, conv: onnx.NodeProto, offsets: list[tuple[int, int]]) -> None:
    """Make a convolution over what was dealt out one over the whole."""
    plain = {"strides": [1, 1], "dilations": [1, 1], "auto_pad": b"NOTSET"}
    if any(attribute(conv, name, value) != value for name, value in plain.items()):
        raise Stays
    pads = attribute(conv, "pads", [0] * 4)

    def spread(weights: Array) -> Array:
        made, read, height, width = weights.shape
        each = read // _DEALT
        wide = np.zeros((made, each, 2 * height, 2 * width), weights.dtype)
        for number, (down, right) in enumerate(offsets):
            wide[:, :, down::2, right::2] = weights[:, number * each : (number + 1) * each]
        return wide

    network.change_weights(conv, spread)
    height, width = network.weights(conv).shape[2:]
    changed = {"kernel_shape": [height, width], "strides": [2, 2], "pads": [2 * pad for pad in pads]}
    for entry in [entry for entry in conv.attribute if entry.name in changed]:
        conv.attribute.remove(entry)
    conv.attribute.extend(helper.make_attribute(name, value) for name, value in changed.items())


def _origin(network: Network, name: str) -> tuple[str, tuple[int, int]]:
    """The tensor of which every second value down and right was taken, and the first of them. Raises Stays."""
    starts = {}
    while (node := network.makers.get(name)) is not None and node.op_type == "Slice":
        begins, ends, axes, steps = (network.value(node, place).tolist() for place in range(1, 5))
        for begin, end, axis, step in zip(begins, ends, axes, steps, strict=True):
            if axis not in (2, 3) or axis in starts or begin not in (0, 1) or step != 2 or end < _ENDLESS:
                raise Stays
            starts[axis] = begin
        name = node.input[0]
    if len(starts) != 2:
        raise Stays
    return name, (starts[2], starts[3])


_ENDLESS = 2**31 - 1
"""What exporters write for "to the end", at least."""
