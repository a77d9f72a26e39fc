"""Imports of random networks compute what the file computes; imports of damaged files say so."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from engines.card import model_file
from engines.errors import EngineError
from engines.importing import import_model
from engines.importing.facts import Given
from engines.store import ModelStore
from tests.support.exports import export

_SLOW = [HealthCheck.too_slow]


@st.composite
def networks(draw: st.DrawFn) -> tuple[onnx.ModelProto, str, int]:
    """A few convolutions in any layout and precision, then a mean and a matrix; its layout and its number of labels."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    layout, opset = draw(st.sampled_from(["nchw", "nhwc"])), draw(st.integers(11, 21))
    half = draw(st.booleans())
    floats = np.float16 if half else np.float32
    nodes, tensors = [], []
    source = "x"
    if layout == "nhwc":
        nodes.append(helper.make_node("Transpose", ["x"], ["planes"], perm=[0, 3, 1, 2]))
        source = "planes"
    channels = 3
    for index in range(draw(st.integers(1, 3))):
        depthwise, kernel = draw(st.booleans()), draw(st.sampled_from([1, 3]))
        out = channels if depthwise else draw(st.integers(2, 6))
        weights = rng.normal(0, 0.5, (out, 1 if depthwise else channels, kernel, kernel)).astype(floats)
        tensors.append(numpy_helper.from_array(weights, f"w{index}"))
        nodes.append(
            helper.make_node(
                "Conv",
                [source, f"w{index}"],
                [f"c{index}"],
                group=channels if depthwise else 1,
                strides=[draw(st.integers(1, 2))] * 2,
                pads=[kernel // 2] * 4,
            )
        )
        activation = draw(st.sampled_from(["Relu", "Sigmoid", "HardSigmoid", "LeakyRelu", "Tanh"]))
        nodes.append(helper.make_node(activation, [f"c{index}"], [f"a{index}"]))
        source, channels = f"a{index}", out
    labels = draw(st.integers(2, 5))
    tensors.append(numpy_helper.from_array(rng.normal(0, 0.5, (channels, labels)).astype(floats), "matrix"))
    nodes += [
        helper.make_node("GlobalAveragePool", [source], ["pooled"]),
        helper.make_node("Flatten", ["pooled"], ["row"]),
        helper.make_node("MatMul", ["row", "matrix"], ["scores"]),
    ]
    kind = TensorProto.FLOAT16 if half else TensorProto.FLOAT
    width, height = draw(st.sampled_from([(16, 16), (24, 12)]))
    dims = [1, 3, height, width] if layout == "nchw" else [1, height, width, 3]
    values = [
        helper.make_tensor_value_info("x", kind, dims),
        helper.make_tensor_value_info("scores", kind, [1, labels]),
    ]
    graph = helper.make_graph(nodes, "g", values[:1], values[1:], tensors)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)])
    model.ir_version = 8
    return model, layout, labels


def _run(model: bytes, tensor: NDArray[Any]) -> NDArray[np.float64]:
    session = onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"])
    (output,) = session.run(None, {session.get_inputs()[0].name: tensor})
    return np.asarray(output, np.float64)


@settings(max_examples=12, deadline=None, suppress_health_check=_SLOW)
@given(
    networks(),
    st.sampled_from(["rgb", "bgr"]),
    st.tuples(*[st.integers(0, 255)] * 3),
    st.tuples(*[st.integers(40, 255)] * 3),
    st.integers(0, 2**32 - 1),
)
def test_an_imported_network_computes_what_its_file_computes(network, channels, mean, std, seed) -> None:
    model, layout, labels = network
    data = model.SerializeToString()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "net.onnx"
        path.write_bytes(data)
        words = Given(
            family="classifier", channels=channels, mean=",".join(map(str, mean)), std=",".join(map(str, std)),
            fit="stretch", labels=",".join("abcde"[:labels]), task={"activation": "softmax"}, max_batch=1,
        )  # fmt: skip
        result = import_model(path, words, ModelStore(Path(folder) / "models"))
        ours = model_file(result.card, result.folder, "fp32").read_bytes()
    shape = (1, 3, result.card.input.height, result.card.input.width)
    picture = np.random.default_rng(seed).integers(0, 256, shape, np.uint8)
    # What whoever trained it would write, in double precision and in no way of ours.
    planes = picture.astype(np.float64)
    if channels == "bgr":
        planes = planes[:, [2, 1, 0]]
    planes = (planes - np.reshape(mean, (1, 3, 1, 1))) / np.reshape(std, (1, 3, 1, 1))
    if layout == "nhwc":
        planes = np.moveaxis(planes, 1, 3)
    half = model.graph.input[0].type.tensor_type.elem_type == TensorProto.FLOAT16
    expected = _run(data, planes.astype(np.float16 if half else np.float32))
    scale = max(1.0, np.abs(expected).max())
    assert np.abs(_run(ours, picture) - expected).max() <= (3e-2 if half else 1e-4) * scale


WHOLE = export({"logits": (3,)}, size=(16, 16)).SerializeToString()
WORDS = Given(
    family="classifier", channels="rgb", mean="unit", fit="stretch", labels="a,b,c", task={"activation": "softmax"},
    max_batch=1,
)  # fmt: skip


def _attempt(data: bytes) -> str | None:
    """Import a file; what it was refused with, None if it was taken."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "net.onnx"
        path.write_bytes(data)
        store = ModelStore(Path(folder) / "models")
        try:
            import_model(path, WORDS, store)
        except EngineError as error:
            assert store.names() == []
            return str(error)
        assert store.names() == ["net"]
        return None


@settings(max_examples=40, deadline=None, suppress_health_check=_SLOW)
@given(st.integers(0, len(WHOLE) - 1))
def test_a_file_that_is_cut_short_is_refused_in_a_line(length) -> None:
    said = _attempt(WHOLE[:length])
    assert said is not None
    assert "\n" not in said


@settings(max_examples=60, deadline=None, suppress_health_check=_SLOW)
@given(st.lists(st.tuples(st.integers(0, len(WHOLE) - 1), st.integers(0, 255)), min_size=1, max_size=6))
def test_a_damaged_file_is_taken_or_refused_but_never_a_traceback(changes) -> None:
    data = bytearray(WHOLE)
    for at, value in changes:
        data[at] = value
    said = _attempt(bytes(data))
    assert said is None or "\n" not in said


@settings(max_examples=40, deadline=None)
@given(st.binary(max_size=400))
def test_noise_is_no_model(data) -> None:
    said = _attempt(data)
    assert said is not None
    assert "\n" not in said
