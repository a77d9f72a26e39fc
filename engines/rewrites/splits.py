"""A convolution whose output is split is as many convolutions: prediction layers that make boxes and scores."""

from __future__ import annotations

import onnx

from engines.rewrites.network import Network, Stays, attribute, is_plain_convolution, split_sizes


def after_convolutions(network: Network) -> list[str]:
    """Splits into channels of what a convolution makes, by their first outputs."""
    return [
        node.output[0]
        for node in network.nodes
        if node.op_type == "Split"
        and attribute(node, "axis", 0) == 1
        and is_plain_convolution(network.makers.get(node.input[0]))
        and network.is_read_by(node.input[0], node)
    ]


def cut(network: Network, name: str) -> None:
    """Split the weights of a convolution instead of its output. Raises Stays."""
    split = network.maker(name)
    conv = network.maker(split.input[0])
    sizes = split_sizes(network, split, len(network.weights(conv)))
    if any(len(network.value(conv, place)) != sum(sizes) for place in range(2, len(conv.input))):
        raise Stays
    place = next(place for place, node in enumerate(network.nodes) if node is conv)
    start = 0
    for output, size in zip(split.output, sizes, strict=True):
        part = onnx.NodeProto.FromString(conv.SerializeToString())
        part.output[0] = part.name = output
        network.nodes.insert(place, part)
        network.take_outputs(part, range(start, start + size))
        start += size
    network.nodes.remove(split)
    network.index()
