"""A network under the knife: its nodes, who makes and who reads what, and convolutions whose weights change."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import helper, numpy_helper

from engines.graph import constant, constants

Array = NDArray[Any]


class Stays(Exception):
    """Something is not of the form that a rewrite understands: the network stays as it is."""


class Network:
    """A copy of a model that may be changed. Nodes are told apart by their first output."""

    def __init__(self, model: onnx.ModelProto) -> None:
        self._model = model
        self.nodes = [onnx.NodeProto.FromString(node.SerializeToString()) for node in model.graph.node]
        self.arrays = constants(model)
        """Constants by name, those that nodes hold included."""
        self.ends = {value.name for value in model.graph.output}
        for node in self.nodes:
            if node.op_type == "Constant" and node.attribute[0].name == "value":
                self.arrays[node.output[0]] = numpy_helper.to_array(node.attribute[0].t)
        self._added: list[onnx.TensorProto] = []
        self.index()

    def index(self) -> None:
        """Look again at who makes and who reads what, after nodes were changed."""
        self.makers = {name: node for node in self.nodes for name in node.output}
        self._readers: dict[str, list[onnx.NodeProto]] = {}
        for node in self.nodes:
            for name in dict.fromkeys(node.input):
                self._readers.setdefault(name, []).append(node)

    def readers(self, name: str) -> list[onnx.NodeProto]:
        """Nodes that read a tensor, each once."""
        return self._readers.get(name, [])

    def only_reader(self, name: str) -> onnx.NodeProto | None:
        """The node that a tensor is made for, if it is the only one and the tensor is no output."""
        readers = self.readers(name)
        return readers[0] if len(readers) == 1 and name not in self.ends else None

    def is_read_by(self, name: str, node: onnx.NodeProto) -> bool:
        """Whether a tensor is made for this node alone."""
        return self.only_reader(name) is node

    def maker(self, name: str) -> onnx.NodeProto:
        """The node that makes a tensor. Raises Stays if there is none."""
        if name not in self.makers:
            raise Stays
        return self.makers[name]

    def value(self, node: onnx.NodeProto, place: int) -> Array:
        """Constant input of a node. Raises Stays if it is missing or not constant."""
        if len(node.input) <= place or node.input[place] not in self.arrays:
            raise Stays
        return self.arrays[node.input[place]]

    def constant(self, name: str, array: Array) -> str:
        """Add a constant; returns its name, which is a new one."""
        while name in self.arrays or name in self.makers:
            name += "+"
        self.arrays[name] = array
        self._added.append(constant(name, array))
        return name

    def weights(self, conv: onnx.NodeProto) -> Array:
        """Weights of a convolution as they are stored: floats or levels, (out, in / groups, height, width)."""
        maker = self._dequantise(conv)
        return self.value(*(maker, 0) if maker is not None else (conv, 1))

    def change_weights(self, conv: onnx.NodeProto, change: Callable[[Array], Array]) -> None:
        """Give a convolution other weights; those that read the same constants keep theirs."""
        changed = change(self.weights(conv))
        maker = self._dequantise(conv)
        if maker is None:
            conv.input[1] = self.constant(f"{conv.input[1]}.changed", changed)
            return
        copy = onnx.NodeProto.FromString(maker.SerializeToString())
        copy.input[0] = self.constant(f"{maker.input[0]}.changed", changed)
        self._requantise(conv, copy)

    def take_outputs(self, conv: onnx.NodeProto, channels: Sequence[int]) -> None:
        """Make a convolution compute these of its output channels, in this order."""
        count = len(self.weights(conv))
        self.change_weights(conv, lambda weights: weights[list(channels)])
        maker = self._dequantise(conv)
        for node, places in ((maker, (1, 2)), (conv, (2,))):
            for place in places:
                if node is not None and len(node.input) > place and node.input[place]:
                    array = self.value(node, place)
                    if array.shape == (count,):
                        node.input[place] = self.constant(f"{node.input[place]}.changed", array[list(channels)])
                    elif array.size != 1:
                        raise Stays

    def model(self) -> onnx.ModelProto:
        """Return the changed model, without what nothing reads any more."""
        read, kept = set(self.ends), []
        for node in reversed(self.nodes):
            if any(name in read for name in node.output):
                kept.append(node)
                read.update(node.input)
        changed = onnx.ModelProto()
        changed.CopyFrom(self._model)
        del changed.graph.node[:], changed.graph.initializer[:], changed.graph.value_info[:]
        changed.graph.node.extend(reversed(kept))
        tensors = [*self._model.graph.initializer, *self._added]
        changed.graph.initializer.extend(tensor for tensor in tensors if tensor.name in read)
        return changed

    def _dequantise(self, conv: onnx.NodeProto) -> onnx.NodeProto | None:
        maker = self.makers.get(conv.input[1])
        if maker is None or maker.op_type == "Constant":
            return None
        if maker.op_type != "DequantizeLinear":
            raise Stays
        return maker

    def _requantise(self, conv: onnx.NodeProto, dequantise: onnx.NodeProto) -> None:
        name = f"{conv.output[0]}.weights"
        while name in self.makers:
            name += "+"
        dequantise.output[0] = dequantise.name = conv.input[1] = name
        self.nodes.insert(next(place for place, node in enumerate(self.nodes) if node is conv), dequantise)
        self.makers[name] = dequantise


def attribute(node: onnx.NodeProto, name: str, default: Any = None) -> Any:
    """Value of an attribute: a number, a string, or a list."""
    found = next((entry for entry in node.attribute if entry.name == name), None)
    return default if found is None else helper.get_attribute_value(found)


def is_plain_convolution(node: onnx.NodeProto | None) -> bool:
    """Whether it is a Conv that adds up all channels."""
    return node is not None and node.op_type == "Conv" and attribute(node, "group", 1) == 1


def split_sizes(network: Network, node: onnx.NodeProto, total: int) -> list[int]:
    """How many channels go to each output of a Split. Raises Stays."""
    if len(node.input) > 1:
        sizes = [int(size) for size in network.value(node, 1)]
    else:
        sizes = [total // len(node.output)] * len(node.output)
    if sum(sizes) != total or len(sizes) != len(node.output):
        raise Stays
    return sizes


def order(parts: Sequence[Sequence[int]]) -> list[int]:
    """Return the numbers of several lists as one."""
    return [int(number) for number in np.concatenate([np.asarray(part, np.int64) for part in parts])]
