"""Networks compute the same after what moves their values was taken out of them, in FP32 and in INT8."""

from __future__ import annotations

import hashlib

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from engines.graph import check, constant, model_of, serialise
from engines.numerics import runner
from engines.qdq import Table, activations, apply, quantised_nodes
from engines.rewrites import rewritten

SIDE = 8


class Sketch:
    """A graph that grows node by node from `x`, (1, channels, 8, 8)."""

    def __init__(self, channels: int) -> None:
        self._rng = np.random.default_rng(channels)
        self._graph = onnx.GraphProto(name="sketch")
        self._graph.input.append(helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, channels, SIDE, SIDE]))

    def add(self, kind: str, inputs: list[str], *outputs: str, **attributes: object) -> str:
        self._graph.node.append(helper.make_node(kind, inputs, outputs, name=outputs[0], **attributes))
        return outputs[0]

    def numbers(self, name: str, *values: int) -> str:
        self._graph.initializer.append(constant(name, np.array(values, np.int64)))
        return name

    def conv(self, name: str, source: str, shape: tuple[int, int, int], group: int = 1, **attributes: object) -> str:
        made, read, size = shape
        weights = self._rng.normal(0, 0.5, (made, read // group, size, size)).astype(np.float32)
        self._graph.initializer.append(constant(f"{name}.w", weights))
        self._graph.initializer.append(constant(f"{name}.b", self._rng.normal(0, 1, made).astype(np.float32)))
        form = {"kernel_shape": [size] * 2, "pads": [size // 2] * 4, **attributes}
        return self.add("Conv", [source, f"{name}.w", f"{name}.b"], name, group=group, **form)

    def shuffle(self, name: str, source: str, channels: int) -> str:
        self.add("Reshape", [source, self.numbers(f"{name}.apart", 0, 2, channels // 2, SIDE, SIDE)], f"{name}.5d")
        self.add("Transpose", [f"{name}.5d"], f"{name}.turned", perm=[0, 2, 1, 3, 4])
        return self.add("Reshape", [f"{name}.turned", self.numbers(f"{name}.back", 0, -1, SIDE, SIDE)], name)

    def model(self, *outputs: str) -> onnx.ModelProto:
        for name in outputs:
            self._graph.output.append(helper.make_tensor_value_info(name, TensorProto.FLOAT, None))
        model = onnx.shape_inference.infer_shapes(model_of(self._graph))
        check(model, "sketch")
        return model


def stage(units: int = 4) -> tuple[Sketch, str]:
    """A stage of ShuffleNet, which ends in a shuffle."""
    net, half = Sketch(3), 8
    left = net.add("LeakyRelu", [net.conv("left", "x", (half, 3, 1))], "left.act", alpha=0.1)
    right = net.add("Relu", [net.conv("right", "x", (half, 3, 3))], "right.act")
    for unit in range(units):
        both = net.add("Concat", [left, right], f"{unit}.both", axis=1)
        last = net.shuffle(f"{unit}.shuffled", both, 2 * half)
        net.add("Split", [last, net.numbers(f"{unit}.halves", half, half)], f"{unit}.l", f"{unit}.r", axis=1)
        left, inner = f"{unit}.l", net.add("Relu", [net.conv(f"{unit}.in", f"{unit}.r", (half, half, 1))], f"{unit}.a")
        deep = net.conv(f"{unit}.deep", inner, (half, half, 3), group=half)
        right = net.add("Relu", [net.conv(f"{unit}.out", deep, (half, half, 1))], f"{unit}.act")
    return net, net.shuffle("last", net.add("Concat", [left, right], "last.both", axis=1), 2 * half)


def shuffled() -> onnx.ModelProto:
    net, last = stage()
    deep = net.conv(
        "deep", net.add("MaxPool", [last], "pool", kernel_shape=[3, 3], pads=[1] * 4), (16, 16, 3), group=16
    )
    return net.model(net.conv("y", deep, (4, 16, 1)), net.conv("z", last, (4, 16, 1)))


def focused() -> onnx.ModelProto:
    net, dealt = Sketch(3), []
    for down, right in ((0, 0), (1, 0), (0, 1), (1, 1)):
        name, endless = f"{down}{right}", 2**63 - 1
        wanted = [
            net.numbers(f"{name}.{what}", *values)
            for what, values in {"from": (down, right), "to": (endless,) * 2, "axes": (2, 3), "steps": (2, 2)}.items()
        ]
        dealt.append(net.add("Slice", ["x", *wanted], name))
    joined = net.add("Concat", dealt, "joined", axis=1)
    return net.model(net.add("Relu", [net.conv("conv", joined, (6, 12, 3))], "y"))


def split() -> onnx.ModelProto:
    net = Sketch(3)
    net.add("Split", [net.conv("conv", "x", (9, 3, 3)), net.numbers("sizes", 5, 4)], "scores", "boxes", axis=1)
    return net.model(net.add("Sigmoid", ["scores"], "y"), "boxes")


def int8(fp32: onnx.ModelProto) -> onnx.ModelProto:
    scales = dict.fromkeys(activations(quantised_nodes(fp32)), 0.03125)
    model = hashlib.sha256(serialise(fp32)).hexdigest()
    return apply(fp32, Table(model=model, method="none", calibration_set="0" * 64, pictures=1, scales=scales))


@pytest.mark.parametrize("quantise", [lambda model: model, int8], ids=["fp32", "int8"])
@pytest.mark.parametrize(
    ("made", "gone"),
    [(shuffled, "Transpose"), (focused, "Slice"), (split, "Split")],
    ids=["shuffles", "focus", "split"],
)
def test_what_moved_values_is_gone_and_the_answers_are_the_same(made, gone, quantise) -> None:
    """INT8: the same products in another order may round to the next level here and there."""
    before = quantise(made())
    kept = serialise(before)
    after = rewritten(before)
    assert serialise(before) == kept
    check(after, "rewritten")
    kinds = [[node.op_type for node in model.graph.node] for model in (before, after)]
    assert gone in kinds[0]
    assert gone not in kinds[1]
    assert kinds[0].count("QuantizeLinear") == kinds[1].count("QuantizeLinear")
    x = np.random.default_rng(0).normal(0, 2, (1, 3, SIDE, SIDE)).astype(np.float32)
    expected, got = runner(before, "before")(x), runner(after, "after")(x)
    for name, value in expected.items():
        apart = np.abs(got[name] - value)
        assert np.median(apart) <= 1e-5 * np.abs(value).max()
        assert apart.mean() <= (1e-5 if quantise is not int8 else 1e-2) * np.abs(value).max()


def read_by_an_add() -> onnx.ModelProto:
    net, last = stage(1)
    net.conv("other", "x", (16, 3, 1))
    return net.model(net.add("Add", [last, "other"], "y"))


def is_an_output() -> onnx.ModelProto:
    net, last = stage(1)
    return net.model(last, net.conv("y", last, (4, 16, 1)))


def of_the_input() -> onnx.ModelProto:
    net = Sketch(16)
    return net.model(net.conv("y", net.shuffle("shuffled", "x", 16), (4, 16, 1)))


def of_a_sum() -> onnx.ModelProto:
    net = Sketch(16)
    both = net.add("Add", [net.conv("a", "x", (16, 16, 1)), net.conv("b", "x", (16, 16, 1))], "both")
    return net.model(net.conv("y", net.shuffle("shuffled", both, 16), (4, 16, 1)))


def read_by_another_too() -> onnx.ModelProto:
    net = Sketch(16)
    made = net.conv("a", "x", (16, 16, 1))
    y = net.conv("y", net.shuffle("shuffled", made, 16), (16, 16, 1))
    return net.model(net.add("Add", [y, made], "z"))


@pytest.mark.parametrize("made", [read_by_an_add, is_an_output, of_the_input, of_a_sum, read_by_another_too])
def test_a_shuffle_stays_where_the_order_matters_to_others(made) -> None:
    before = made()
    assert rewritten(before) is before


def test_slices_that_deal_out_something_else_stay() -> None:
    """The same quarter four times, and a step of one."""
    model = focused()
    for wrong, values in (("11.from", [0, 0]), ("11.steps", [1, 2])):
        before = onnx.ModelProto()
        before.CopyFrom(model)
        for tensor in before.graph.initializer:
            if tensor.name == wrong:
                tensor.CopyFrom(constant(wrong, np.array(values, np.int64)))
        assert rewritten(before) is before
