"""Lint: one small graph for each construct that some backend would misread."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from engines.errors import LintError
from engines.graph import constant, model_of, serialise
from engines.qdq import apply, lint, lint_file
from tests.support.tables import branching_fp32, everything, measured_table, tiny_fp32

Spoil = Callable[[onnx.ModelProto], None]


@pytest.fixture(scope="module")
def int8() -> onnx.ModelProto:
    fp32 = tiny_fp32()
    return apply(fp32, measured_table(fp32))


def node(model: onnx.ModelProto, name: str) -> onnx.NodeProto:
    return next(node for node in model.graph.node if node.name == name)


def replace_constant(model: onnx.ModelProto, name: str, array: np.ndarray) -> None:
    next(tensor for tensor in model.graph.initializer if tensor.name == name).CopyFrom(constant(name, array))


def add_constant(model: onnx.ModelProto, name: str, array: np.ndarray) -> str:
    model.graph.initializer.append(constant(name, array))
    return name


def insert_before(model: onnx.ModelProto, name: str, *new: onnx.NodeProto) -> None:
    nodes = list(model.graph.node)
    at = next(index for index, old in enumerate(nodes) if old.name == name)
    del model.graph.node[:]
    model.graph.node.extend([*nodes[:at], *new, *nodes[at:]])


def pair(source: str, target: str, scale: str = "sum.scale") -> list[onnx.NodeProto]:
    """Q and DQ between two tensors."""
    return [
        helper.make_node("QuantizeLinear", [source, scale, "int8.zero"], [f"{source}.l"], name=f"{source}.q"),
        helper.make_node("DequantizeLinear", [f"{source}.l", scale, "int8.zero"], [target], name=f"{source}.dq"),
    ]


def uint8_zero_point(model: onnx.ModelProto) -> None:
    replace_constant(model, "int8.zero", np.zeros((), np.uint8))


def shifted_zero_point(model: onnx.ModelProto) -> None:
    replace_constant(model, "int8.zero", np.full((), 3, np.int8))


def no_zero_point(model: onnx.ModelProto) -> None:
    del node(model, "sum.q").input[2:]


def no_zero_point_of_weights(model: onnx.ModelProto) -> None:
    del node(model, "stem.w.dq").input[2:]


def one_zero_point_for_many_scales(model: onnx.ModelProto) -> None:
    node(model, "stem.w.dq").input[2] = "int8.zero"


def uint8_weights(model: onnx.ModelProto) -> None:
    replace_constant(model, "stem.w.int8", np.zeros((8, 3, 3, 3), np.uint8))


def weights_of_minus_128(model: onnx.ModelProto) -> None:
    replace_constant(model, "stem.w.int8", np.full((8, 3, 3, 3), -128, np.int8))


def int32_bias(model: onnx.ModelProto) -> None:
    inputs = [add_constant(model, "b", np.zeros(8, np.int32)), add_constant(model, "bs", np.full((), 0.1, np.float32))]
    model.graph.node.insert(0, helper.make_node("DequantizeLinear", inputs, ["bias"], name="bias.dq"))
    node(model, "stem").input[2] = "bias"


def int8_bias(model: onnx.ModelProto) -> None:
    inputs = [add_constant(model, "b", np.zeros(8, np.int8)), "sum.scale", "int8.zero"]
    model.graph.node.insert(0, helper.make_node("DequantizeLinear", inputs, ["bias"], name="bias.dq"))
    node(model, "stem").input[2] = "bias"


def per_channel_activation(model: onnx.ModelProto) -> None:
    replace_constant(model, "sum.scale", np.full(8, 0.1, np.float32))


def between_conv_and_clip(model: onnx.ModelProto) -> None:
    insert_before(model, "stem.relu6", *pair("stem", "stem.rounded"))
    node(model, "stem.relu6").input[0] = "stem.rounded"


def input_not_cast_to_float(model: onnx.ModelProto) -> None:
    node(model, "front.cast").attribute[0].i = TensorProto.INT8


def input_dequantised(model: onnx.ModelProto) -> None:
    cast = node(model, "front.cast")
    cast.op_type = "DequantizeLinear"
    cast.input.extend(["sum.scale", "int8.zero"])
    del cast.attribute[:]


def int8_input(model: onnx.ModelProto) -> None:
    model.graph.input[0].type.tensor_type.elem_type = TensorProto.INT8


def wrong_axis(model: onnx.ModelProto) -> None:
    node(model, "stem.w.dq").attribute[0].i = 1


def wrong_axis_of_square_weights(model: onnx.ModelProto) -> None:
    replace_constant(model, "stem.w.int8", np.ones((8, 8, 3, 3), np.int8))
    wrong_axis(model)


def unsaid_axis(model: onnx.ModelProto) -> None:
    del node(model, "stem.w.dq").attribute[:]


def operator_form(model: onnx.ModelProto) -> None:
    node(model, "stem").op_type = "QLinearConv"


def integer_form(model: onnx.ModelProto) -> None:
    node(model, "stem").op_type = "ConvInteger"


def dynamic_form(model: onnx.ModelProto) -> None:
    node(model, "sum.q").op_type = "DynamicQuantizeLinear"


def of_one_runtime(model: onnx.ModelProto) -> None:
    node(model, "sum.q").domain = "com.microsoft"


def free_scale(model: onnx.ModelProto) -> None:
    node(model, "sum.q").input[1] = "pool"


def scale_of_zero(model: onnx.ModelProto) -> None:
    replace_constant(model, "sum.scale", np.zeros((), np.float32))


def negative_scale(model: onnx.ModelProto) -> None:
    replace_constant(model, "stem.w.scale", np.full(8, -0.1, np.float32))


def half_scale(model: onnx.ModelProto) -> None:
    replace_constant(model, "sum.scale", np.full((), 0.1, np.float16))


def double_scale(model: onnx.ModelProto) -> None:
    replace_constant(model, "sum.scale", np.full((), 0.1, np.float64))


def blocks(model: onnx.ModelProto) -> None:
    node(model, "stem.w.dq").attribute.append(helper.make_attribute("block_size", 4))


def other_output_type(model: onnx.ModelProto) -> None:
    node(model, "sum.q").attribute.append(helper.make_attribute("output_dtype", int(TensorProto.UINT8)))


def two_scales(model: onnx.ModelProto) -> None:
    node(model, "sum.dq").input[1] = "normalised.scale"


def levels_pooled(model: onnx.ModelProto) -> None:
    """Between Q and DQ."""
    insert_before(model, "sum.dq", helper.make_node("MaxPool", ["sum.int8"], ["m"], name="max", kernel_shape=[1, 1]))
    node(model, "sum.dq").input[0] = "m"


def levels_given_out(model: onnx.ModelProto) -> None:
    model.graph.output.append(helper.make_tensor_value_info("sum.int8", TensorProto.INT8, None))


def float_input_for_int8_weights(model: onnx.ModelProto) -> None:
    node(model, "stem").input[0] = "normalised"


def transposed_convolution(model: onnx.ModelProto) -> None:
    node(model, "stem").op_type = "ConvTranspose"


def inside_a_branch(model: onnx.ModelProto) -> None:
    branch = onnx.GraphProto(name="branch", node=pair("sum", "inner"))
    branch.output.append(helper.make_tensor_value_info("inner", TensorProto.FLOAT, None))
    model.graph.node.append(
        helper.make_node("If", ["truth"], ["either"], name="if", then_branch=branch, else_branch=branch)
    )


@pytest.mark.parametrize(
    ("spoil", "complaint"),
    [
        (uint8_zero_point, "uint8 zero point"),
        (shifted_zero_point, "a zero point that is not 0"),
        (no_zero_point, "sum.q: no constant int8 zero point"),
        (no_zero_point_of_weights, "stem.w.dq: no constant int8 zero point"),
        (one_zero_point_for_many_scales, "stem.w.dq: 1 zero points for 8 scales"),
        (uint8_weights, "stem.w.dq: uint8 weights"),
        (weights_of_minus_128, "stem.w.dq: a weight of -128"),
        (int32_bias, "bias.dq: an INT32 bias"),
        (int8_bias, "stem: a quantised bias"),
        (per_channel_activation, "sum.q: per-channel scales on an activation"),
        (between_conv_and_clip, "stem.q: Q/DQ between stem and its Clip"),
        (input_not_cast_to_float, "input images must be cast to float first"),
        (input_dequantised, "input images must be cast to float first"),
        (int8_input, "input images is int8"),
        (wrong_axis, "stem.w.dq: 8 scales along axis 1 of weights of shape (8, 3, 3, 3)"),
        (wrong_axis_of_square_weights, "stem.w.dq: scales along axis 1 of the weights of stem, not its output"),
        (unsaid_axis, "stem.w.dq: per-channel scales without an axis"),
        (operator_form, "stem: QLinearConv is not the Q/DQ form"),
        (integer_form, "stem: ConvInteger is not the Q/DQ form"),
        (dynamic_form, "sum.q: DynamicQuantizeLinear is not the Q/DQ form"),
        (of_one_runtime, "sum.q: QuantizeLinear of com.microsoft"),
        (free_scale, "sum.q: its scale is not a positive constant"),
        (scale_of_zero, "sum.q: its scale is not a positive constant"),
        (negative_scale, "stem.w.dq: its scale is not a positive constant"),
        (half_scale, "sum.q: a float16 scale at opset 17"),
        (double_scale, "sum.q: a scale of float64"),
        (blocks, "stem.w.dq: scales for blocks"),
        (other_output_type, "sum.q: says a type of its own"),
        (two_scales, "sum.dq: another scale than that of sum.q"),
        (levels_pooled, "sum.q: max reads its levels"),
        (levels_pooled, "sum.dq: dequantises m, which no QuantizeLinear makes"),
        (levels_given_out, "sum.q: its levels are an output"),
        (float_input_for_int8_weights, "stem: its weights are INT8 and its input is not"),
        (transposed_convolution, "stem.w.dq: per-channel scales for stem"),
        (inside_a_branch, "sum.q: QuantizeLinear inside of If"),
    ],
)
def test_refused(int8: onnx.ModelProto, spoil: Spoil, complaint: str) -> None:
    """Each construct that a backend would misread, by name."""
    model = onnx.ModelProto()
    model.CopyFrom(int8)
    spoil(model)
    with pytest.raises(LintError) as caught:
        lint(model)
    assert complaint in str(caught.value)


def activated(*nodes: onnx.NodeProto, output: str = "y") -> onnx.ModelProto:
    """A convolution in float, `conv`, and those nodes after it."""
    graph = onnx.GraphProto(name="activated")
    graph.node.append(helper.make_node("Conv", ["x", "w"], ["conv"], name="conv"))
    graph.node.extend(nodes)
    graph.initializer.extend(
        [
            constant("w", np.ones((4, 3, 1, 1), np.float32)),
            constant("s", np.full((), 0.1, np.float32)),
            constant("int8.zero", np.zeros((), np.int8)),
            constant("three", np.full((), 3, np.float32)),
        ]
    )
    graph.input.append(helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 3, 4, 4]))
    graph.output.append(helper.make_tensor_value_info(output, TensorProto.FLOAT, [1, 4, 4, 4]))
    return model_of(graph)


def op(operator: str, output: str, *inputs: str) -> onnx.NodeProto:
    return helper.make_node(operator, list(inputs), [output], name=output)


ROUNDED = pair("conv", "c", "s")


@pytest.mark.parametrize(
    ("nodes", "complaint"),
    [
        ([*ROUNDED, op("Clip", "y", "c")], "conv.q: Q/DQ between conv and its Clip"),
        ([*ROUNDED, op("PRelu", "y", "c", "three")], "conv.q: Q/DQ between conv and its PRelu"),
        ([*ROUNDED, op("Sigmoid", "g", "c"), op("Mul", "y", "c", "g")], "conv.q: Q/DQ between conv and its Sigmoid"),
        ([*ROUNDED, op("Sigmoid", "g", "conv"), op("Mul", "y", "c", "g")], "conv.q: Q/DQ between conv and its y"),
        (
            [op("Sigmoid", "g", "conv"), *pair("g", "h", "s"), op("Mul", "y", "conv", "h")],
            "g.q: Q/DQ between conv and its y",
        ),
        (
            [op("Add", "a", "conv", "three"), op("Clip", "g", "a"), *pair("g", "h", "s"), op("Mul", "y", "h", "conv")],
            "g.q: Q/DQ between conv and its y",
        ),
    ],
)
def test_nothing_separates_a_convolution_from_its_activation(nodes: list[onnx.NodeProto], complaint: str) -> None:
    """Of one node, or of several, as in x * sigmoid(x) and x * relu6(x + 3)."""
    model = activated(*nodes)
    onnx.checker.check_model(model)
    with pytest.raises(LintError) as caught:
        lint(model)
    assert complaint in str(caught.value)


@pytest.mark.parametrize(
    "nodes",
    [
        [op("Sigmoid", "g", "conv"), op("Mul", "m", "conv", "g"), *pair("m", "y", "s")],
        [op("Clip", "a", "conv"), *pair("a", "b", "s"), op("MaxPool", "y", "b")],
        [op("Mul", "m", "conv", "three"), *pair("m", "y", "s")],
        [*ROUNDED, op("Relu", "r", "conv"), op("Add", "y", "c", "r")],
        [
            *ROUNDED,
            op("GlobalAveragePool", "p", "c"),
            helper.make_node("Conv", ["p", "u"], ["excite"], name="excite"),
            op("Sigmoid", "g", "excite"),
            op("Mul", "y", "c", "g"),
        ],
    ],
)
def test_accepted(nodes: list[onnx.NodeProto]) -> None:
    """A whole SiLU before Q, an activation before Q, a factor before Q, a residual, squeeze and excite."""
    model = activated(*nodes)
    model.graph.initializer.append(constant("u", np.ones((4, 4, 1, 1), np.float32)))
    for pool in (node for node in model.graph.node if node.op_type == "MaxPool"):
        pool.attribute.append(helper.make_attribute("kernel_shape", [1, 1]))
    lint(model)


def test_what_the_writer_writes_is_accepted() -> None:
    """With all that a table can hold, with nodes kept in float, and not quantised at all."""
    fp32 = branching_fp32()
    lint(fp32)
    for kept in ((), ("deep",), ("last", "logits")):
        lint(apply(fp32, measured_table(fp32, **everything(fp32, kept_float=kept))))


def test_weights_that_are_quantised_in_the_graph_are_accepted(int8: onnx.ModelProto) -> None:
    """Float weights, Q, DQ, and scales in Constant nodes, as frameworks export what they trained with rounding."""
    model = onnx.ModelProto()
    model.CopyFrom(int8)
    dq = node(model, "stem.w.dq")
    _, scale, zero = dq.input
    add_constant(model, "stem.w.float", np.ones((8, 3, 3, 3), np.float32))
    quantise = helper.make_node("QuantizeLinear", ["stem.w.float", "c", zero], ["fresh"], name="stem.w.q", axis=-4)
    values = next(tensor for tensor in model.graph.initializer if tensor.name == scale)
    insert_before(model, "stem.w.dq", helper.make_node("Constant", [], ["c"], value=values), quantise)
    node(model, "stem.w.dq").input[:] = ["fresh", "c", zero]
    node(model, "stem.w.dq").attribute[0].i = -4
    onnx.checker.check_model(model, full_check=True)
    lint(model)


def test_everything_is_named_at_once(int8: onnx.ModelProto, tmp_path: Path) -> None:
    """Two mistakes, one line, with the file's name."""
    model = onnx.ModelProto()
    model.CopyFrom(int8)
    per_channel_activation(model)
    wrong_axis(model)
    (tmp_path / "bad.onnx").write_bytes(serialise(model))
    with pytest.raises(LintError, match=r"bad\.onnx: .*(per-channel.*axis 1|axis 1.*per-channel)") as caught:
        lint_file(tmp_path / "bad.onnx")
    assert "\n" not in str(caught.value)
