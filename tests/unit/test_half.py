"""The float16 variant: the same network for TensorRT's strongly typed networks, as exact as INT8 is."""

from __future__ import annotations

from collections import Counter

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from engines.card import model_file
from engines.errors import ModelFileError
from engines.graph import Normalisation, bake, constant, constants, load, model_of, serialise
from engines.qdq import apply, half, lint
from engines.store import ModelStore
from tests.support.models import branching_network, run_onnx
from tests.support.tables import branching_fp32, everything, measured_table, noise, tiny_fp32


def converted(fp32: onnx.ModelProto, **fields: object) -> onnx.ModelProto:
    return apply(fp32, measured_table(fp32, **fields))


def distance(a: np.ndarray, b: np.ndarray) -> float:
    """Root mean square of the difference, as a share of b's."""
    return float(np.sqrt(np.mean((a - b) ** 2) / np.mean(b**2)))


@pytest.mark.parametrize("build", [tiny_fp32, branching_fp32])
def test_it_computes_the_same(build) -> None:
    """Its float parts round a little: far less than INT8 does."""
    int8 = converted(build())
    images = noise(16, seed=2)
    fp32, plain, short = (run_onnx(model, images)[0] for model in (build(), int8, half(int8)))
    assert short.dtype == np.float32
    assert distance(short, plain) < distance(plain, fp32)
    assert distance(short, fp32) < 1.2 * distance(plain, fp32)


def test_it_computes_the_same_for_a_real_network(real_models: ModelStore) -> None:
    """A thousand classes, from a picture with structure."""
    card, folder = real_models.find("efficientnet-lite0")
    side = card.input.width
    rows, columns = np.mgrid[0:side, 0:side]
    picture = np.stack([rows, columns, np.abs(rows - columns)])[None].astype(np.uint8)
    int8 = load(model_file(card, folder, "int8"))
    plain, short = (run_onnx(model, picture, "logits")[0] for model in (int8, half(int8)))
    assert distance(short, plain) < 0.15
    assert plain.argmax() == short.argmax()


@pytest.mark.parametrize("build", [tiny_fp32, branching_fp32])
def test_a_network_without_int8_has_such_a_form_too(build) -> None:
    """It serves where INT8 cannot be built."""
    fp32 = build()
    short = half(fp32)
    assert {tensor.data_type for tensor in short.graph.initializer} <= {TensorProto.FLOAT16, TensorProto.INT64}
    assert 0 < distance(run_onnx(short, noise(4))[0], run_onnx(fp32, noise(4))[0]) < 0.01


def test_everything_between_input_and_outputs_is_float16() -> None:
    """Scales, weights that stay float, biases and casts; levels stay int8 and pictures uint8."""
    fp32 = branching_fp32()
    model = half(converted(fp32, **everything(fp32, kept_float=("last",))))
    assert Counter(tensor.data_type for tensor in model.graph.initializer).keys() == {
        TensorProto.FLOAT16,
        TensorProto.INT8,
        TensorProto.INT64,
    }
    assert model.opset_import[0].version == 19
    assert model.graph.input[0].type.tensor_type.elem_type == TensorProto.UINT8
    assert [value.type.tensor_type.elem_type for value in model.graph.output] == [TensorProto.FLOAT]
    onnx.checker.check_model(model, full_check=True)
    lint(model)


def test_the_same_bytes_each_time() -> None:
    """And the INT8 model that it was made of is left as it was."""
    int8 = converted(tiny_fp32())
    before = serialise(int8)
    assert serialise(half(int8)) == serialise(half(int8))
    assert serialise(int8) == before


def test_operators_that_changed_keep_their_meaning() -> None:
    """Reduce*, Split and Resize between opsets 17 and 19; factors of Resize stay float32."""
    network = branching_network()
    nodes, graph = list(network.graph.node), network.graph
    graph.initializer.extend(
        [constant("twice", np.array([1, 1, 2, 2], np.float32)), constant("no", np.zeros(0, np.float32))]
    )
    pooled = next(node for node in nodes if node.name == "pool")
    pooled.op_type = "ReduceMean"
    pooled.attribute.extend([helper.make_attribute("axes", [2, 3]), helper.make_attribute("keepdims", 1)])
    pooled.input[0] = "joined"
    new = [
        helper.make_node("Split", ["last"], ["half0", "half1"], name="split", axis=1),
        helper.make_node("Resize", ["half0", "no", "twice"], ["wide"], name="wide", mode="nearest"),
        helper.make_node("Resize", ["half1", "", "twice"], ["tall"], name="tall", mode="nearest"),
        helper.make_node("Concat", ["wide", "tall"], ["joined"], name="joined", axis=1),
        helper.make_node("Constant", [], ["spare"], name="spare", value_float=0.5),
    ]
    at = nodes.index(pooled)
    del graph.node[:]
    graph.node.extend([*nodes[:at], *new, *nodes[at:]])
    fp32 = bake(network, Normalisation(mean=(127,), std=(128,)), "branching")
    onnx.checker.check_model(fp32, full_check=True)
    int8 = converted(fp32)
    plain, short = (run_onnx(model, noise())[0] for model in (int8, half(int8)))
    assert distance(short, plain) < 0.05


def test_small_weights_keep_their_worth() -> None:
    """A channel whose scale float16 can hardly hold has other levels, and stands for the same weights."""
    fp32 = tiny_fp32()
    weights = constants(fp32)["stem.w"].copy()
    factors = np.array([1, 1e-1, 1e-2, 1e-3, 1e-4, 1e-5, 1e-6, 0], np.float32).reshape(8, 1, 1, 1)
    next(t for t in fp32.graph.initializer if t.name == "stem.w").CopyFrom(constant("stem.w", weights * factors))
    arrays = constants(half(converted(fp32)))
    scale = arrays["stem.w.scale"].astype(np.float64).reshape(8, 1, 1, 1)
    assert (scale > 0).all()
    error = np.abs(arrays["stem.w.int8"] * scale - weights * factors).max(axis=(1, 2, 3))
    assert (error <= scale.ravel() * 1.1).all()  # rounded twice


def spoil(int8: onnx.ModelProto, name: str, array: np.ndarray) -> onnx.ModelProto:
    changed = onnx.ModelProto()
    changed.CopyFrom(int8)
    next(tensor for tensor in changed.graph.initializer if tensor.name == name).CopyFrom(constant(name, array))
    return changed


@pytest.mark.parametrize(
    ("name", "array", "complaint"),
    [
        ("stem.b", np.full(8, 1e5, np.float32), "stem.b: holds 100000, float16 65504 at most"),
        ("stem.w.scale", np.full(8, 1e5, np.float32), "stem.w.scale: holds 100000"),
        ("sum.scale", np.full((), 1000, np.float32), "sum.scale: its tensor reaches 127000"),
        ("sum.scale", np.full((), 1e-6, np.float32), "sum.scale: 1e-06 is too fine"),
    ],
)
def test_what_float16_cannot_hold(name: str, array: np.ndarray, complaint: str) -> None:
    """Refused by name."""
    int8 = spoil(converted(tiny_fp32()), name, array)
    with pytest.raises(ModelFileError) as caught:
        half(int8)
    assert complaint in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_bound_that_is_none_stays_none() -> None:
    """Clip up to infinity is no overflow."""
    int8 = spoil(converted(tiny_fp32()), "high", np.full((), np.inf, np.float32))
    assert np.isinf(constants(half(int8))["high"])


def test_operators_without_a_float16_form() -> None:
    """By ONNX's own rules; in one line."""
    nodes = [
        helper.make_node("Cast", ["images"], ["x"], to=TensorProto.FLOAT),
        helper.make_node("StringNormalizer", ["x"], ["y"]),
    ]
    graph = onnx.GraphProto(name="odd", node=nodes)
    graph.input.append(helper.make_tensor_value_info("images", TensorProto.UINT8, [1, 3, 4, 4]))
    graph.output.append(helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, 3, 4, 4]))
    with pytest.raises(ModelFileError, match="no float16 form") as caught:
        half(model_of(graph))
    assert "\n" not in str(caught.value)
