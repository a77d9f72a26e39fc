"""Random small networks in INT8: what conversions by a backend are tried on."""

from __future__ import annotations

import hashlib

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper

from engines.graph import constant, model_of, serialise
from engines.numerics import runner
from engines.qdq import Table, activations, apply, lint, quantised_nodes, scale_of

CHANNELS, SIDE = 8, 12
_KINDS = (*["conv"] * 5, *["concat"] * 4, "depthwise", "add", "resize", "maxpool", "avgpool", "split", "gemm")
_ACTIVATIONS = ("none", "Relu", "relu6", "LeakyRelu", "silu", "HardSwish", "Sigmoid")


def draw(seed: int, steps: int = 8) -> tuple[onnx.ModelProto, onnx.ModelProto, NDArray[np.float32]]:
    """Return a network of all kinds of operations, its INT8 form, and an input for both.

    Some of its operations are kept in float. Its outputs are what no operation reads.
    """
    rng = np.random.default_rng(seed)
    fp32 = _Drawing(rng).network(steps)
    x = rng.normal(0, 2, (1, CHANNELS, SIDE, SIDE)).astype(np.float32)
    kept = tuple(node.name for node in quantised_nodes(fp32) if rng.random() < 0.3)
    wanted = activations(quantised_nodes(fp32, kept))
    seen = onnx.ModelProto()
    seen.CopyFrom(fp32)
    seen.graph.output.extend(
        helper.make_tensor_value_info(name, TensorProto.FLOAT, None)
        for name in wanted
        if name not in {value.name for value in (*fp32.graph.input, *fp32.graph.output)}
    )
    values = {**runner(seen, "drawn")(x), "x": x}
    table = Table(
        model=hashlib.sha256(serialise(fp32)).hexdigest(),
        method="min-max",
        calibration_set="0" * 64,
        pictures=1,
        kept_float=kept,
        scales={name: scale_of(float(np.abs(values[name]).max())) for name in wanted},
    )
    int8 = apply(fp32, table)
    lint(int8)
    return fp32, int8, x


class _Drawing:
    def __init__(self, rng: np.random.Generator) -> None:
        self._rng = rng
        self._nodes: list[onnx.NodeProto] = []
        self._constants = [constant("low", np.zeros((), np.float32)), constant("high", np.full((), 6, np.float32))]
        self._live = [("x", CHANNELS, SIDE)]

    def network(self, steps: int) -> onnx.ModelProto:
        for step in range(steps):
            kind = _KINDS[self._rng.integers(len(_KINDS))]
            recent = self._live[-3:]
            getattr(self, f"_{kind}")(f"t{step}", *recent[self._rng.integers(len(recent))])
        read = {name for node in self._nodes for name in node.input}
        graph = onnx.GraphProto(name="drawn", node=self._nodes)
        graph.initializer.extend(tensor for tensor in self._constants if tensor.name in read)
        for values, made in ((graph.input, self._live[:1]), (graph.output, self._live[1:])):
            values.extend(
                helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, channels, side, side])
                for name, channels, side in made
                if name == "x" or name not in read
            )
        return model_of(graph)

    def _constant(self, name: str, array: NDArray[np.generic]) -> str:
        self._constants.append(constant(name, array))
        return name

    def _add_node(self, kind: str, inputs: list[str], output: str, **attributes: object) -> None:
        self._nodes.append(helper.make_node(kind, inputs, [output], name=output, **attributes))

    def _keep(self, name: str, channels: int, side: int) -> None:
        """Offer a tensor to what comes later, behind some activation."""
        kind = _ACTIVATIONS[self._rng.integers(len(_ACTIVATIONS))]
        made = f"{name}.{kind}"
        if kind == "relu6":
            self._add_node("Clip", [name, "low", "high"], made)
        elif kind == "silu":
            self._add_node("Sigmoid", [name], f"{name}.sigmoid")
            self._add_node("Mul", [name, f"{name}.sigmoid"], made)
        elif kind != "none":
            self._add_node(kind, [name], made)
        self._live.append((name if kind == "none" else made, channels, side))

    def _weights(self, name: str, *shape: int) -> str:
        values = self._rng.normal(0, 1 / np.sqrt(np.prod(shape[1:])), shape)
        return self._constant(f"{name}.w{len(self._constants)}", values.astype(np.float32))

    def _conv(self, name: str, source: str, channels: int, side: int) -> None:
        size, stride, made = (int(self._rng.choice(choices)) for choices in ((1, 1, 3), (1, 1, 2), (4, 8, 16)))
        weights = self._weights(name, made, channels, size, size)
        self._convolve(name, source, weights, (made, size, stride), 1)
        self._keep(name, made, -(-side // stride))

    def _depthwise(self, name: str, source: str, channels: int, side: int) -> None:
        size, stride = int(self._rng.choice((3, 5))), int(self._rng.choice((1, 1, 2)))
        weights = self._weights(name, channels, 1, size, size)
        self._convolve(name, source, weights, (channels, size, stride), channels)
        self._keep(name, channels, -(-side // stride))

    def _convolve(self, name: str, source: str, weights: str, form: tuple[int, int, int], group: int) -> None:
        made, size, stride = form
        shape = {"kernel_shape": [size] * 2, "pads": [size // 2] * 4, "strides": [stride] * 2, "group": group}
        biases = self._constant(f"{name}.b", self._rng.normal(0, 0.3, made).astype(np.float32))
        self._add_node("Conv", [source, weights, biases], name, **shape)

    def _add(self, name: str, source: str, channels: int, side: int) -> None:
        others = [made for made in self._live if made[1:] == (channels, side) and made[0] != source]
        if others:
            self._add_node("Add", [source, others[self._rng.integers(len(others))][0]], name)
            self._keep(name, channels, side)

    def _concat(self, name: str, source: str, channels: int, side: int) -> None:
        others = [made for made in self._live if made[2] == side and made[0] != source]
        if others:
            other = others[self._rng.integers(len(others))]
            self._add_node("Concat", [source, other[0]], name, axis=1)
            self._live.append((name, channels + other[1], side))

    def _resize(self, name: str, source: str, channels: int, side: int) -> None:
        if side <= SIDE:
            scales = self._constant(f"{name}.scales", np.array([1, 1, 2, 2], np.float32))
            how = {"mode": "nearest", "coordinate_transformation_mode": "asymmetric", "nearest_mode": "floor"}
            self._add_node("Resize", [source, "", scales], name, **how)
            self._live.append((name, channels, side * 2))

    def _maxpool(self, name: str, source: str, channels: int, side: int) -> None:
        self._add_node("MaxPool", [source], name, kernel_shape=[3, 3], pads=[1] * 4)
        self._live.append((name, channels, side))

    def _avgpool(self, name: str, source: str, channels: int, side: int) -> None:
        self._add_node("AveragePool", [source], name, kernel_shape=[3, 3], pads=[1] * 4)
        self._live.append((name, channels, side))

    def _split(self, name: str, source: str, channels: int, side: int) -> None:
        if channels % 2 == 0:
            halves = self._constant(f"{name}.halves", np.array([channels // 2] * 2, np.int64))
            outputs = [f"{name}.first", f"{name}.second"]
            self._nodes.append(helper.make_node("Split", [source, halves], outputs, name=name, axis=1))
            self._live += [(output, channels // 2, side) for output in outputs]

    def _gemm(self, name: str, source: str, channels: int, side: int) -> None:
        rows, columns = (np.array([1, *rest], np.int64) for rest in ((channels,), (CHANNELS, 1, 1)))
        self._add_node("GlobalAveragePool", [source], f"{name}.pool")
        self._add_node("Reshape", [f"{name}.pool", self._constant(f"{name}.rows", rows)], f"{name}.row")
        self._add_node("Gemm", [f"{name}.row", self._weights(name, CHANNELS, channels)], f"{name}.made", transB=1)
        self._add_node("Reshape", [f"{name}.made", self._constant(f"{name}.columns", columns)], name)
        self._keep(name, CHANNELS, 1)
