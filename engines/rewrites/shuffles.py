"""Channel shuffles taken out: the channels are put in order where they are made and read instead.

ShuffleNet's units end in Concat, shuffle (Reshape, Transpose, Reshape) and Split. These only rename channels, but move
all values of a tensor one by one, for a quarter of NanoDet-m's time on a CPU. Which channel of which convolution each
channel is can be said beforehand. So each convolution makes those channels side by side that are read together, they
are cut out and joined in whole pieces, and the weights of the readers are put in the same order.
"""

from __future__ import annotations

import numpy as np
import onnx
from onnx import helper

from engines.rewrites.network import Network, Stays, attribute, is_plain_convolution, order, split_sizes

_ALIKE = ("Relu", "LeakyRelu", "Clip", "HardSwish", "Sigmoid", "QuantizeLinear", "DequantizeLinear", "MaxPool")
"""Operations on each channel by itself, alike for all if their other inputs are single numbers."""
_APART, _TURNED = 5, [0, 2, 1, 3, 4]
Channel = tuple[str, int]
"""A tensor, and the number of a channel in it."""
Piece = tuple[str, tuple[int, ...]]
"""A tensor, and channels of it that the same tensors want."""


def shuffled(network: Network) -> list[str]:
    """What shuffles make."""
    return list(_shuffles(network))


def unshuffle(network: Network, name: str) -> None:
    """Take out a shuffle and all that it hangs together with. Raises Stays."""
    if name not in (shuffles := _shuffles(network)):
        raise Stays  # it went with another
    _Unshuffling(network, shuffles, name).carry_out()


def _shuffles(network: Network) -> dict[str, tuple[str, int]]:
    """What each shuffle makes -> what it reads, and in how many groups."""
    found = {}
    for turn in network.nodes:
        if turn.op_type != "Transpose" or attribute(turn, "perm") != _TURNED:
            continue
        apart, back = network.makers.get(turn.input[0]), network.only_reader(turn.output[0])
        if apart is None or back is None or apart.op_type != "Reshape" or back.op_type != "Reshape":
            continue
        if not network.is_read_by(apart.output[0], turn):
            continue
        before, after = (network.arrays.get(node.input[1]) for node in (apart, back))
        if before is None or after is None or len(before) != _APART or len(after) != _APART - 1:
            continue
        groups, each = int(before[1]), int(before[2])
        if min(groups, each) > 0 and after[1] in (-1, groups * each) and list(before[3:]) == list(after[2:]):
            found[back.output[0]] = (apart.input[0], groups)
    return found


class _Unshuffling:
    def __init__(self, network: Network, shuffles: dict[str, tuple[str, int]], name: str) -> None:
        self._network = network
        self._shuffles = shuffles
        self._movers = self._moving(name)
        self._moved: dict[str, list[Channel]] = {}
        """What the channels are of tensors that movers make."""
        for node in network.nodes:
            if node.output[0] in self._movers:
                self._follow(node)

    def carry_out(self) -> None:
        wanted = [name for name in self._moved if name in self._network.ends or self._readers(name)]
        pieces = self._pieces(wanted)
        for source, parts in pieces.items():
            if source in self._network.ends or self._readers(source):
                raise Stays  # it would have to stay in order for those
            self._network.take_outputs(self._convolution(source), order(parts))
        joins = {}
        for name in wanted:
            places = {channel: place for place, channel in enumerate(self._moved[name])}
            mine = [(s, part) for s, parts in pieces.items() for part in parts if (s, part[0]) in places]
            self._reorder_readers(name, order([[places[s, number] for number in part] for s, part in mine]))
            joins[name] = [s if len(pieces[s]) == 1 else f"{s}.{pieces[s].index(part)}" for s, part in mine]
        self._rebuild(pieces, joins)

    def _moving(self, start: str) -> set[str]:
        """First outputs of the nodes that only move channels and hang together with a shuffle."""
        waiting, found = [start], set()
        while waiting:
            name = waiting.pop()
            maker = self._network.makers.get(name)
            if maker is None or maker.output[0] in found:
                continue
            if name in self._shuffles:
                found.add(name)
                inputs = [self._shuffles[name][0]]
            elif maker.op_type in ("Concat", "Split") and attribute(maker, "axis", 0) == 1:
                found.add(maker.output[0])
                inputs = list(maker.input if maker.op_type == "Concat" else maker.input[:1])
            else:
                continue
            waiting += inputs
            waiting += [made for output in maker.output for node in self._after(output) for made in node.output]
        return found

    def _after(self, name: str) -> list[onnx.NodeProto]:
        """Nodes that read a tensor, the end of a shuffle in place of its start."""
        ends = [self._network.makers[end] for end, (start, _) in self._shuffles.items() if start == name]
        return [*ends, *(node for node in self._network.readers(name) if node.op_type != "Reshape")]

    def _readers(self, name: str) -> list[onnx.NodeProto]:
        """Nodes that read a tensor and are not among those that only move channels."""
        starts = {start for start, _ in self._shuffles.values()}
        return [
            node
            for node in self._network.readers(name)
            if node.output[0] not in self._movers and not (name in starts and self._starts_shuffle(node))
        ]

    def _starts_shuffle(self, node: onnx.NodeProto) -> bool:
        turn = self._network.only_reader(node.output[0])
        back = None if turn is None else self._network.only_reader(turn.output[0])
        return back is not None and back.output[0] in self._shuffles

    def _follow(self, node: onnx.NodeProto) -> None:
        if node.output[0] in self._shuffles:
            start, groups = self._shuffles[node.output[0]]
            channels = self._channels(start)
            if len(channels) % groups:
                raise Stays
            turned = np.arange(len(channels)).reshape(groups, -1).T.ravel()
            self._moved[node.output[0]] = [channels[place] for place in turned]
        elif node.op_type == "Concat":
            self._moved[node.output[0]] = [channel for name in node.input for channel in self._channels(name)]
        else:
            channels = self._channels(node.input[0])
            for name, size in zip(node.output, split_sizes(self._network, node, len(channels)), strict=True):
                self._moved[name], channels = channels[:size], channels[size:]

    def _channels(self, name: str) -> list[Channel]:
        if name in self._moved:
            return self._moved[name]
        return [(name, number) for number in range(len(self._network.weights(self._convolution(name))))]

    def _convolution(self, name: str) -> onnx.NodeProto:
        """The convolution that makes a tensor's channels, behind operations that treat all of them alike."""
        node = self._network.makers.get(name)
        while node is not None and self._alike(node) and self._network.is_read_by(node.input[0], node):
            node = self._network.makers.get(node.input[0])
        if node is None or not is_plain_convolution(node) or len(self._network.readers(node.output[0])) != 1:
            raise Stays
        return node

    def _alike(self, node: onnx.NodeProto) -> bool:
        return node.op_type in _ALIKE and all(
            not name or (name in self._network.arrays and self._network.arrays[name].size == 1)
            for name in node.input[1:]
        )

    def _pieces(self, wanted: list[str]) -> dict[str, list[tuple[int, ...]]]:
        """For each tensor that is moved, its channels by who wants them."""
        wanting: dict[Channel, list[str]] = {}
        for name in wanted:
            if len(set(self._moved[name])) != len(self._moved[name]):
                raise Stays
            for channel in self._moved[name]:
                wanting.setdefault(channel, []).append(name)
        pieces: dict[str, dict[tuple[str, ...], list[int]]] = {}
        for (source, number), names in wanting.items():
            pieces.setdefault(source, {}).setdefault(tuple(names), []).append(number)
        for source, parts in pieces.items():
            if sum(map(len, parts.values())) != len(self._channels(source)):
                raise Stays  # some are made for nothing
        return {source: [tuple(part) for part in parts.values()] for source, parts in pieces.items()}

    def _reorder_readers(self, name: str, places: list[int]) -> None:
        """Make what reads a tensor expect its channels in this order."""
        if name in self._network.ends:
            raise Stays
        for node in self._readers(name):
            if node.output[0] in self._movers or node.input[0] != name or name in node.input[1:]:
                raise Stays
            if is_plain_convolution(node):
                self._network.change_weights(node, lambda weights: weights[:, places])
                continue
            if node.op_type == "Conv" and self._network.weights(node).shape[:2] == (attribute(node, "group"), 1):
                self._network.take_outputs(node, places)  # depthwise: what it makes is in that order too
            elif not self._alike(node):
                raise Stays
            if any(reader.output[0] in self._movers for reader in self._network.readers(node.output[0])):
                raise Stays
            self._reorder_readers(node.output[0], places)

    def _rebuild(self, pieces: dict[str, list[tuple[int, ...]]], joins: dict[str, list[str]]) -> None:
        nodes = []
        for node in self._network.nodes:
            if node.output[0] not in self._movers:
                nodes.append(node)
            for name in node.output:
                parts = pieces.get(name, [])
                if len(parts) > 1:
                    sizes = self._network.constant(f"{name}.sizes", np.array([len(part) for part in parts], np.int64))
                    made = [f"{name}.{number}" for number in range(len(parts))]
                    nodes.append(helper.make_node("Split", [name, sizes], made, name=f"{name}.split", axis=1))
                if name in joins:
                    nodes.append(helper.make_node("Concat", joins[name], [name], name=f"{name}.join", axis=1))
        self._network.nodes = nodes
        self._network.index()
