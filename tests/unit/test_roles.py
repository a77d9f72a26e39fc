"""What convolutions are to a network, and how much arithmetic each operation is."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from calibration.cost import float_macs, macs
from calibration.errors import CalibrationError
from calibration.roles import depthwise, prediction_layers, stem
from engines.graph import Normalisation, bake, constant, free_batch, model_of
from tests.support.models import CLASSES, SIZE, tiny_network


@pytest.fixture(scope="module")
def network() -> onnx.ModelProto:
    return free_batch(bake(tiny_network(), Normalisation(mean=(127,), std=(128,)), "tiny"))


def graph_of(nodes: list[onnx.NodeProto], outputs: list[str], **weights: tuple[int, ...]) -> onnx.ModelProto:
    """A graph on `input` (N, 4, 8, 8) with constants of these shapes."""
    graph = onnx.GraphProto(name="test", node=nodes)
    graph.initializer.extend(constant(name, np.zeros(shape, np.float32)) for name, shape in weights.items())
    graph.input.append(helper.make_tensor_value_info("input", TensorProto.FLOAT, ["N", 4, 8, 8]))
    graph.output.extend(helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in outputs)
    return model_of(graph)


def conv(name: str, source: str, weights: str, **attributes: object) -> onnx.NodeProto:
    return helper.make_node("Conv", [source, weights], [name], name=name, **attributes)


def test_roles_of_a_classifier(network: onnx.ModelProto) -> None:
    """Its last convolution is the fully connected one."""
    assert depthwise(network) == ["deep"]
    assert stem(network) == ["stem"]
    assert prediction_layers(network) == ["fc"]


def test_roles_of_a_detector() -> None:
    """Every branch's last convolution is a prediction layer, whatever joins them; one in groups is not depthwise."""
    nodes = [
        conv("stem", "input", "w4"),
        conv("grouped", "stem", "w2", group=2),
        conv("deep", "grouped", "w1", group=4),
        conv("scores", "deep", "w4"),
        helper.make_node("Sigmoid", ["scores"], ["sure"], name="sure"),
        conv("boxes", "grouped", "w4"),
        helper.make_node("Concat", ["sure", "boxes"], ["all"], name="all", axis=1),
    ]
    model = graph_of(nodes, ["all"], w4=(4, 4, 1, 1), w2=(4, 2, 1, 1), w1=(4, 1, 1, 1))
    assert depthwise(model) == ["deep"]
    assert stem(model) == ["stem"]
    assert prediction_layers(model) == ["scores", "boxes"]


def test_a_convolution_whose_shape_alone_is_read_leads_nowhere() -> None:
    """What another convolution gets from it is a number of pixels, not what it computed."""
    nodes = [
        conv("first", "input", "w4"),
        helper.make_node("Shape", ["first"], ["shape"], name="shape"),
        helper.make_node("Reshape", ["input", "shape"], ["again"], name="again"),
        conv("second", "again", "w4"),
    ]
    model = graph_of(nodes, ["first", "second"], w4=(4, 4, 1, 1))
    assert stem(model) == ["first", "second"]
    assert prediction_layers(model) == ["first", "second"]


def test_costs_of_each_operation(network: onnx.ModelProto) -> None:
    """By hand: outputs times weights of each, for one picture whatever the batch."""
    pixels = SIZE * SIZE
    found = macs(network)
    assert found["stem"] == pixels * 8 * 3 * 9
    assert found["deep"] == pixels * 8 * 9
    assert found["sum"] == found["pool"] == pixels * 8
    assert found["fc"] == 8 * CLASSES
    assert found["stem.relu6"] == found["rows"] == 0
    assert float_macs(network, ["deep", "fc", "deep"]) == pixels * 8 * 9 + 8 * CLASSES
    assert float_macs(network, []) == 0


def test_costs_of_other_products() -> None:
    """Strides and padding count through the output, a transposed convolution through its input."""
    nodes = [
        conv("half", "input", "w", strides=[2, 2], pads=[1, 1, 1, 1]),
        helper.make_node("ConvTranspose", ["half", "up"], ["whole"], name="whole", strides=[2, 2]),
        helper.make_node("MatMul", ["whole", "square"], ["product"], name="product"),
    ]
    found = macs(graph_of(nodes, ["product"], w=(6, 4, 3, 3), up=(6, 5, 2, 2), square=(8, 7)))
    assert found == {"half": 6 * 16 * 4 * 9, "whole": 6 * 16 * 5 * 4, "product": 5 * 8 * 7 * 8}


def test_a_shape_that_nobody_can_know_is_a_line() -> None:
    nodes = [
        helper.make_node("NonZero", ["input"], ["places"], name="places"),
        helper.make_node("Cast", ["places"], ["numbers"], name="numbers", to=TensorProto.FLOAT),
        helper.make_node("MatMul", ["square", "numbers"], ["product"], name="product"),
    ]
    with pytest.raises(CalibrationError, match="product: the shape of product cannot be inferred"):
        macs(graph_of(nodes, ["product"], square=(4, 4)))
