"""Equalisation: a tensor's channels brought to like ranges by powers of two, which its readers' weights undo.

After Nagel et al. 2019, Data-Free Quantization Through Weight Equalization and Bias Correction, section 4.1. Theirs
are any positive factors; powers of two are exact in floating point, so the float function stays what it was, and cost
a byte a channel. Where what makes the tensor is a Conv or Gemm and then only steps with f(a x) = a f(x) for a > 0, the
factors go into its weights and bias and cost nothing; else (SiLU, ReLU6, Concat) into a Mul just before the tensor is
quantised.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import helper

from engines.errors import ModelFileError
from engines.graph import constant, constants
from engines.opset import nodes_of
from engines.qdq.nodes import activations, attribute, drop_unread, output_axis, quantised_nodes
from engines.qdq.stored import unpack_exponents
from engines.qdq.table import Table

_HOMOGENEOUS = ("Relu", "LeakyRelu", "PRelu", "MaxPool")
Array = NDArray[Any]


@dataclass(frozen=True)
class Place:
    """A tensor whose channels can be equalised."""

    tensor: str
    channels: int
    rank: int
    readers: tuple[str, ...]
    """Names of the Conv and Gemm nodes that take the factors into their weights."""
    producer: str | None
    """Name of the Conv or Gemm whose weights and bias take them as well; None: it costs a Mul."""


def equalisable(fp32: onnx.ModelProto, kept_float: Iterable[str] = ()) -> dict[str, Place]:
    """Tensors that can be equalised when those nodes stay in float, in graph order."""
    graph = _Graph(fp32, kept_float)
    found = {}
    for tensor in graph.quantised:
        with contextlib.suppress(ModelFileError):
            found[tensor] = graph.site(tensor).place
    return found


def equalised(fp32: onnx.ModelProto, table: Table) -> onnx.ModelProto:
    """Return the float graph with the table's equalisation: the same function, whose tensors have other ranges.

    An equalised tensor keeps its name. Raises ModelFileError naming a tensor that the model does not have, that cannot
    be equalised, or that has another number of channels.
    """
    graph = _Graph(fp32, table.kept_float)
    model = onnx.ModelProto()
    model.CopyFrom(fp32)
    rewrite = _Rewrite(model, graph.arrays)
    for tensor, text in sorted(table.equalisation.items()):
        site = graph.site(tensor)
        try:
            exponents = unpack_exponents(text).astype(np.int32)
        except ValueError as error:
            raise ModelFileError(f"the calibration table's equalisation of {tensor} {error}; calibrate again") from None
        if len(exponents) != site.place.channels:
            raise ModelFileError(
                f"the calibration table equalises {len(exponents)} channels of {tensor}, which has "
                f"{site.place.channels}: calibrate again"
            )
        if exponents.any():
            rewrite.equalise(site, exponents)
    rewrite.finish()
    return model


@dataclass(frozen=True)
class _Site:
    """A place, with the indices of its nodes."""

    place: Place
    maker: int
    readers: tuple[int, ...]
    producer: int | None


class _Graph:
    """What can be equalised, and why the rest cannot."""

    def __init__(self, model: onnx.ModelProto, kept_float: Iterable[str]) -> None:
        graph = model.graph
        self.arrays = constants(model)
        self.nodes = list(graph.node)
        int8 = quantised_nodes(model, kept_float)
        self.quantised = activations(int8)
        # Also those that stay in float: powers of two change nothing there.
        self._absorbing = {node.output[0] for node in quantised_nodes(model) if node.op_type in ("Conv", "Gemm")}
        self._outputs = {value.name for value in graph.output}
        self._makers = {name: index for index, node in enumerate(self.nodes) for name in node.output if name}
        self._reads: dict[str, list[tuple[int, int]]] = {}
        for index, node in enumerate(self.nodes):
            for slot, name in enumerate(node.input):
                self._reads.setdefault(name, []).append((index, slot))
        self._inner = _read_inside(graph)

    def site(self, tensor: str) -> _Site:
        """Raise ModelFileError, naming the tensor, where it cannot be equalised."""
        if tensor not in self._makers:
            raise ModelFileError(f"{tensor} cannot be equalised: no node of the model makes it")
        if tensor in self._outputs or tensor in self._inner:
            raise ModelFileError(f"{tensor} cannot be equalised: it is an output, or read by an inner graph")
        reads = self._reads.get(tensor, [])
        if not reads:
            raise ModelFileError(f"{tensor} cannot be equalised: nothing reads it")
        sizes = {self._absorbed(tensor, index, slot) for index, slot in reads}
        if len(sizes) > 1:
            raise ModelFileError(f"{tensor} cannot be equalised: its readers take it for different shapes")
        channels, rank = sizes.pop()
        producer = self._producer(tensor, channels)
        readers = tuple(index for index, _ in reads)
        place = Place(
            tensor,
            channels,
            rank,
            tuple(self.nodes[index].name for index in readers),
            None if producer is None else self.nodes[producer].name,
        )
        return _Site(place, self._makers[tensor], readers, producer)

    def _absorbed(self, tensor: str, index: int, slot: int) -> tuple[int, int]:
        """Return channels and rank that a reader sees; raise where its weights cannot take factors."""
        node = self.nodes[index]
        if slot or node.output[0] not in self._absorbing or attribute(node, "transA", 0):
            raise ModelFileError(
                f"{tensor} cannot be equalised: {node.name or node.op_type} reads it, no Conv or Gemm with constant "
                "weights"
            )
        weights = self.arrays[node.input[1]]
        if node.op_type == "Gemm":
            return weights.shape[1 - output_axis(node)], 2
        return weights.shape[1] * int(attribute(node, "group", 1)), weights.ndim

    def _producer(self, tensor: str, channels: int) -> int | None:
        """Return the Conv or Gemm whose outputs can be scaled instead of the tensor."""
        while (index := self._makers.get(tensor)) is not None:
            node = self.nodes[index]
            if node.op_type in ("Conv", "Gemm"):
                return index if self._scalable(node, channels) else None
            before = node.input[0] if node.input else ""
            alone = len(self._reads.get(before, [])) == 1 and before not in self._outputs | self._inner
            if node.op_type not in _HOMOGENEOUS or len([name for name in node.output if name]) > 1 or not alone:
                return None
            tensor = before
        return None

    def _scalable(self, node: onnx.NodeProto, channels: int) -> bool:
        weights = self.arrays.get(node.input[1])
        bias = node.input[2] if len(node.input) > 2 else ""
        right_bias = not bias or (bias in self.arrays and self.arrays[bias].shape == (channels,))
        return weights is not None and weights.shape[output_axis(node)] == channels and right_bias


class _Rewrite:
    """Collects new weights and steps, then writes them into the model."""

    def __init__(self, model: onnx.ModelProto, arrays: dict[str, Array]) -> None:
        self._graph, self._arrays = model.graph, arrays
        self._new: dict[tuple[int, int], Array] = {}
        """(node, slot) -> its own weights or bias; a constant that two nodes share is not changed for both."""
        self._steps: dict[int, list[onnx.NodeProto]] = {}
        self._factors: list[onnx.TensorProto] = []

    def equalise(self, site: _Site, exponents: NDArray[np.int32]) -> None:
        """Divide the tensor's channels by 2**exponents, and multiply its readers' weights by them."""
        for index in site.readers:
            node = self._graph.node[index]
            weights = self._array(index, 1)
            self._new[index, 1] = np.ldexp(weights, _along_inputs(node, weights, exponents))
        if site.producer is None:
            self._insert(site, exponents)
            return
        node = self._graph.node[site.producer]
        weights = self._array(site.producer, 1)
        shape = [-1 if axis == output_axis(node) else 1 for axis in range(weights.ndim)]
        self._new[site.producer, 1] = np.ldexp(weights, -exponents.reshape(shape))
        if len(node.input) > 2 and node.input[2]:
            self._new[site.producer, 2] = np.ldexp(self._array(site.producer, 2), -exponents)

    def finish(self) -> None:
        """Write everything into the graph, in an order that depends on the graph alone."""
        for (index, slot), array in sorted(self._new.items(), key=lambda item: item[0]):
            node = self._graph.node[index]
            if not np.all(np.isfinite(array)):
                raise ModelFileError(
                    f"the calibration table's equalisation makes weights of {node.name or node.output[0]} too large: "
                    "calibrate again"
                )
            name = f"{node.output[0]}.equalised.{'weights' if slot == 1 else 'bias'}"
            node.input[slot] = name
            self._graph.initializer.append(constant(name, array))
        self._graph.initializer.extend(self._factors)
        nodes = [step for index, node in enumerate(self._graph.node) for step in (node, *self._steps.get(index, []))]
        del self._graph.node[:]
        self._graph.node.extend(nodes)
        drop_unread(self._graph)

    def _array(self, index: int, slot: int) -> Array:
        known = self._new.get((index, slot))
        return self._arrays[self._graph.node[index].input[slot]] if known is None else known

    def _insert(self, site: _Site, exponents: NDArray[np.int32]) -> None:
        tensor, maker = site.place.tensor, self._graph.node[site.maker]
        factors = np.ldexp(np.float32(1), -exponents).reshape(1, -1, *[1] * (site.place.rank - 2))
        before, name = f"{tensor}.unequalised", f"{tensor}.equalisation"
        maker.output[list(maker.output).index(tensor)] = before
        self._factors.append(constant(name, factors))
        step = helper.make_node("Mul", [before, name], [tensor], name=f"{tensor}.equalise")
        self._steps.setdefault(site.maker, []).append(step)


def _read_inside(graph: onnx.GraphProto) -> set[str]:
    """Names that the graphs inside of nodes read."""
    inner = [inside for node in graph.node for entry in node.attribute for inside in (entry.g, *entry.graphs)]
    return {name for inside in inner for node in nodes_of(inside) for name in node.input}


def _along_inputs(node: onnx.NodeProto, weights: Array, exponents: NDArray[np.int32]) -> NDArray[np.int32]:
    """Exponents of input channels, laid out so that they broadcast over the weights.

    A Conv's are (O, I / groups, ...): output o reads the inputs of its own group.
    """
    if node.op_type == "Gemm":
        return exponents.reshape((1, -1) if output_axis(node) == 0 else (-1, 1))
    groups = int(attribute(node, "group", 1))
    rows = np.repeat(exponents.reshape(groups, -1), weights.shape[0] // groups, axis=0)
    return rows.reshape(*rows.shape, *[1] * (weights.ndim - 2))
