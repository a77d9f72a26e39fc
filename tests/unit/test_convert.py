"""From weights files to ONNX: real formats made here, and every way in which they can be broken."""

from __future__ import annotations

import io
import pickle
import struct
import sys
import types
import zipfile
from collections import OrderedDict
from pathlib import Path

import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper

from engines import graph
from engines.batch import proved_batch
from engines.convert import convert
from engines.convert.pth import read_state
from engines.convert.tensorflow_graph import read_graph
from engines.errors import ModelFileError
from engines.graph import Normalisation, bake, canonical, free_batch, parse, serialise, shape_of, upgrade
from engines.quiet import import_openvino
from tests.support.models import SIZE, tiny_bytes, tiny_network

MAGIC = 0x1950A86A20F9469CFC6C


class _Storage:
    """Pickled by reference to `torch.FloatStorage`, as torch does."""


class _Named:
    """Pickles as a call of `module.name` with arguments."""

    def __init__(self, function: object, arguments: tuple[object, ...]) -> None:
        self._call = (function, arguments)

    def __reduce__(self) -> tuple[object, tuple[object, ...]]:
        return self._call


@pytest.fixture
def torch_names(monkeypatch: pytest.MonkeyPatch) -> types.ModuleType:
    """What pickling needs to find under torch's names."""
    torch, utils = types.ModuleType("torch"), types.ModuleType("torch._utils")
    storage = type("FloatStorage", (), {"__module__": "torch"})

    def _rebuild_tensor_v2() -> None: ...

    _rebuild_tensor_v2.__module__ = "torch._utils"
    _rebuild_tensor_v2.__qualname__ = "_rebuild_tensor_v2"
    torch.FloatStorage, utils._rebuild_tensor_v2 = storage, _rebuild_tensor_v2  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "torch", torch)
    monkeypatch.setitem(sys.modules, "torch._utils", utils)
    return torch


def pickled(value: object) -> bytes:
    """Pickle, storages as persistent ids."""
    buffer = io.BytesIO()

    class Pickler(pickle.Pickler):
        def persistent_id(self, entry: object) -> object:
            return entry.pid if isinstance(entry, _Storage) else None  # type: ignore[attr-defined]

    Pickler(buffer, 2).dump(value)
    return buffer.getvalue()


def state_of(torch: types.ModuleType, arrays: dict[str, np.ndarray]) -> OrderedDict[str, object]:
    """An OrderedDict of tensors over storages 0, 1, ..."""
    state: OrderedDict[str, object] = OrderedDict()
    for key, (name, array) in enumerate(arrays.items()):
        storage = _Storage()
        storage.pid = ("storage", torch.FloatStorage, str(key), "cpu", array.size, None)[:5]  # type: ignore[attr-defined]
        strides = tuple(step // array.itemsize for step in array.strides)
        rebuild = sys.modules["torch._utils"]._rebuild_tensor_v2
        state[name] = _Named(rebuild, (storage, 0, array.shape, strides, False, OrderedDict()))
    return state


def legacy_pth(torch: types.ModuleType, arrays: dict[str, np.ndarray]) -> bytes:
    """The format of torch < 1.6."""
    keys = [str(key) for key in range(len(arrays))]
    parts = [pickled(value) for value in (MAGIC, 1001, {"little_endian": True}, state_of(torch, arrays), keys)]
    parts += [struct.pack("<q", array.size) + array.astype("<f4").tobytes() for array in arrays.values()]
    return b"".join(parts)


def zip_pth(torch: types.ModuleType, arrays: dict[str, np.ndarray]) -> bytes:
    """The format of torch >= 1.6."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("model/data.pkl", pickled(state_of(torch, arrays)))
        for key, array in enumerate(arrays.values()):
            archive.writestr(f"model/data/{key}", array.astype("<f4").tobytes())
    return buffer.getvalue()


ARRAYS = {"conv.weight": np.arange(24, dtype=np.float32).reshape(2, 3, 2, 2), "bias": np.ones(2, np.float32)}


@pytest.mark.parametrize("write", [legacy_pth, zip_pth])
def test_reads_state_dicts(torch_names: types.ModuleType, write: object) -> None:
    """Both formats, bit for bit."""
    found = read_state(write(torch_names, ARRAYS), "x.pth")  # type: ignore[operator]
    assert list(found) == list(ARRAYS)
    for name, array in ARRAYS.items():
        np.testing.assert_array_equal(found[name], array)


@pytest.mark.parametrize("write", [legacy_pth, zip_pth])
def test_cut_short_anywhere(torch_names: types.ModuleType, write: object) -> None:
    """Every shorter file is refused, naming it."""
    whole = write(torch_names, ARRAYS)  # type: ignore[operator]
    for length in range(len(whole)):
        with pytest.raises(ModelFileError, match=r"x\.pth: not a readable PyTorch state dict"):
            read_state(whole[:length], "x.pth")


def test_runs_no_code(tmp_path: Path) -> None:
    """A pickle that wants to call anything else is refused before it does."""
    trap = tmp_path / "ran"
    evil = _Named(Path.touch, (trap,))
    data = b"".join(pickled(value) for value in (MAGIC, 1001, {}, OrderedDict(x=evil), []))
    with pytest.raises(ModelFileError, match="refused"):
        read_state(data, "x.pth")
    assert not trap.exists()


def test_view_outside_its_storage(torch_names: types.ModuleType) -> None:
    """A tensor that claims more numbers than there are is refused."""
    whole = legacy_pth(torch_names, {"x": np.zeros(4, np.float32)})
    forged = whole.replace(pickled((4,))[2:5], pickled((9,))[2:5])
    assert forged != whole
    with pytest.raises(ModelFileError):
        read_state(forged, "x.pth")


@settings(max_examples=150, deadline=None)
@given(st.binary(max_size=200))
def test_garbage_is_refused(data: bytes) -> None:
    """Whatever the bytes, one exception."""
    for reader in (read_state, read_graph, parse):
        if data or reader is not parse:
            with pytest.raises(ModelFileError):
                reader(data, "x")


def field(number: int, value: bytes | int) -> bytes:
    """One protocol buffer field."""
    if isinstance(value, int):
        return varint(number << 3) + varint(value)
    return varint(number << 3 | 2) + varint(len(value)) + value


def varint(value: int) -> bytes:
    out = b""
    while value >= 0x80:
        out += bytes([value & 0x7F | 0x80])
        value >>= 7
    return out + bytes([value])


def tf_node(name: str, op: str, inputs: tuple[str, ...] = (), **attributes: bytes) -> bytes:
    """A NodeDef inside its GraphDef field; attributes are encoded AttrValues."""
    content = field(1, name.encode()) + field(2, op.encode()) + b"".join(field(3, i.encode()) for i in inputs)
    for key, value in attributes.items():
        content += field(5, field(1, key.encode()) + field(2, value))
    return field(1, content)


def tf_const(name: str, array: np.ndarray) -> bytes:
    shape = b"".join(field(2, field(1, n)) for n in array.shape)
    return tf_node(name, "Const", value=field(8, field(1, 1) + field(2, shape) + field(4, array.tobytes())))


def tiny_ssd(cells: int = 1) -> bytes:
    """A detector of one feature map: a convolution, a batch normalisation, two predictors with three anchors a cell."""
    rng = np.random.default_rng(0)

    def numbers(*shape: int) -> np.ndarray:
        return rng.uniform(0.5, 1.5, shape).astype(np.float32)

    strides = field(1, field(3, b"".join(varint(n) for n in (1, 2, 2, 1))))
    ones = field(1, field(3, b"".join(varint(1) for _ in range(4))))
    same = field(2, b"SAME")
    epsilon = varint(4 << 3 | 5) + struct.pack("<f", 0.001)
    nodes = [
        tf_node("Preprocessor/sub", "Sub"),
        tf_const("stem/w", numbers(3, 3, 3, 4)),
        tf_node("stem/conv", "Conv2D", ("Preprocessor/sub", "stem/w"), strides=strides, padding=same),
        *(tf_const(f"stem/{part}", numbers(4)) for part in ("gamma", "beta", "mean", "variance")),
        tf_node(
            "stem/bn", "FusedBatchNorm",
            ("stem/conv", "stem/gamma", "stem/beta", "stem/mean", "stem/variance"), epsilon=epsilon,
        ),
        tf_node("stem/relu", "Relu6", ("stem/bn:0",)),
    ]  # fmt: skip
    for head, channels in (("BoxEncodingPredictor", 12), ("ClassPredictor", 6)):
        part = f"BoxPredictor_0/{head}"
        nodes += [
            tf_const(f"{part}/weights", numbers(1, 1, 4, channels)),
            tf_const(f"{part}/biases", numbers(channels)),
            tf_node(f"{part}/Conv2D", "Conv2D", ("stem/relu", f"{part}/weights"), strides=ones, padding=same),
            tf_node(f"{part}/BiasAdd", "BiasAdd", (f"{part}/Conv2D", f"{part}/biases")),
        ]
    return b"".join(nodes)


def test_converts_an_ssd_graph() -> None:
    """Anchors are cells times anchors a cell; the result is a sound ONNX model, the same each time."""
    data = tiny_ssd()
    model = convert("ssd", data, {"size": 16}, "x.pb")
    onnx.checker.check_model(model, full_check=True)
    outputs = {value.name: shape_of(value) for value in model.graph.output}
    assert outputs == {"box_deltas": (-1, 192, 4), "class_logits": (-1, 192, 2)}
    assert serialise(model) == serialise(convert("ssd", data, {"size": 16}, "x.pb"))
    # Scaled as it was trained: levels up to 255 would drive every ReLU6 to its end, and all pictures be the same.
    assert proved_batch(bake(model, Normalisation(mean=(127.5,), std=(127.5,)), "x"), 4) == 4


def test_ssd_cut_short_anywhere() -> None:
    """Every shorter graph is refused, whether the cut is inside a node or between two."""
    whole = tiny_ssd()
    for length in range(0, len(whole), 7):
        with pytest.raises(ModelFileError, match=r"x\.pb"):
            convert("ssd", whole[:length], {"size": 16}, "x.pb")


def test_ssd_that_runs_in_a_circle() -> None:
    """Refused, not followed for ever."""
    part = "BoxPredictor_0/BoxEncodingPredictor"
    circle = tf_node(f"{part}/BiasAdd", "BiasAdd", ("a", "b")) + tf_node("a", "BiasAdd", (f"{part}/BiasAdd", "b"))
    with pytest.raises(ModelFileError):
        convert("ssd", circle + tf_const("b", np.ones(4, np.float32)), {"size": 16}, "x.pb")


def test_efficientnet_of_other_tensors(torch_names: types.ModuleType) -> None:
    """A state dict of another network is refused by the first tensor that it lacks."""
    with pytest.raises(ModelFileError, match=r"not an EfficientNet-Lite, it has no '_conv_stem\.weight'"):
        convert("efficientnet-lite", zip_pth(torch_names, ARRAYS), {"size": 16, "repeats": [1] * 7}, "x.pth")


def test_bake_gives_what_the_network_wants() -> None:
    """Normalised, swapped and turned, against the same done by numpy."""
    ov = import_openvino()

    node = helper.make_node("Identity", ["input"], ["output"], name="copy")
    network = onnx.GraphProto(name="copy", node=[node])
    network.input.append(helper.make_tensor_value_info("input", TensorProto.FLOAT, ["N", 4, 6, 3]))
    network.output.append(helper.make_tensor_value_info("output", TensorProto.FLOAT, ["N", 4, 6, 3]))
    normalisation = Normalisation(mean=(104, 117, 123), std=(1, 2, 4), channels="bgr", layout="nhwc")
    baked = bake(graph.model_of(network), normalisation, "x")
    images = np.random.default_rng(0).integers(0, 256, (2, 3, 4, 6), np.uint8)
    core = ov.Core()
    compiled = core.compile_model(core.read_model(serialise(baked)), "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    expected = (images[:, ::-1].transpose(0, 2, 3, 1) - np.float32([104, 117, 123])) / np.float32([1, 2, 4])
    np.testing.assert_allclose(compiled([images])[0], expected, atol=1e-4)


def test_bake_wants_one_picture() -> None:
    """A network with another input is refused."""
    model = tiny_network()
    model.graph.input[0].type.tensor_type.shape.dim[1].dim_value = 1
    with pytest.raises(ModelFileError, match="expected one nchw input of 3 channels"):
        bake(model, Normalisation(), "x")


def test_batch_is_freed_and_proved() -> None:
    """The fixed reshape follows the batch; left fixed, the proof says so."""
    baked = bake(tiny_network(), Normalisation(), "tiny")
    freed = free_batch(baked)
    assert shape_of(freed.graph.input[0]) == (-1, 3, SIZE, SIZE)
    assert proved_batch(freed, 5) == 5
    broken = free_batch(baked)
    rows = next(tensor for tensor in broken.graph.initializer if tensor.name == "rows")
    rows.CopyFrom(graph.constant("rows", np.array([1, 8], np.int64)))
    assert proved_batch(broken, 5) == 1


def test_a_network_that_mixes_its_batch_is_not_proved() -> None:
    """The shapes are right, the pictures are not."""
    model = free_batch(bake(tiny_network("N"), Normalisation(), "tiny"))
    mean = helper.make_node("ReduceMean", ["logits.each"], ["mean"], name="mean", axes=[0], keepdims=1)
    mixed = helper.make_node("Add", ["logits.each", "mean"], ["logits"], name="mixed")
    model.graph.node[-1].output[0] = "logits.each"
    model.graph.node.extend([mean, mixed])
    assert proved_batch(model, 3) == 1


def test_canonical_names_forget_the_exporter() -> None:
    """Two exports that differ in names and comments only become the same bytes."""
    other = tiny_network()
    made = {name for node in other.graph.node for name in node.output} - {"logits"}
    for node in other.graph.node:
        inputs, outputs = ([f"t/{n}" if n in made else n for n in names] for names in (node.input, node.output))
        del node.input[:], node.output[:]
        node.name, node.doc_string = f"exported/{node.name}", "line 12"
        node.input.extend(inputs)
        node.output.extend(outputs)
    assert serialise(canonical(other)) == serialise(canonical(tiny_network()))


def test_weights_that_an_old_export_also_lists_as_inputs_stay_weights() -> None:
    """As PyTorch wrote them before ONNX's IR version 4."""
    old = tiny_network()
    for tensor in old.graph.initializer:
        old.graph.input.append(helper.make_tensor_value_info(tensor.name, tensor.data_type, tensor.dims))
    assert serialise(canonical(old)) == serialise(canonical(tiny_network()))


def test_old_opsets_are_brought_up() -> None:
    """Operators that did not change keep their meaning; those that did are converted."""
    model = tiny_network()
    model.opset_import[0].version = 13
    assert upgrade(model, "x").opset_import[0].version == 17
    squeeze = onnx.GraphProto(name="s", node=[helper.make_node("Squeeze", ["x"], ["y"], axes=[0])])
    squeeze.input.append(helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 3]))
    squeeze.output.append(helper.make_tensor_value_info("y", TensorProto.FLOAT, [3]))
    old = graph.model_of(squeeze)
    old.opset_import[0].version = 11
    upgraded = upgrade(old, "x")
    onnx.checker.check_model(upgraded)
    assert len(next(n for n in upgraded.graph.node if n.op_type == "Squeeze").input) == 2


def test_opsets_that_cannot_be_upgraded() -> None:
    """Operators of another domain are refused by its name; a domain that only stands there is not."""
    model = tiny_network()
    model.opset_import.add(domain="com.example", version=1)
    upgrade(model, "x")
    model.graph.node[0].domain = "com.example"
    with pytest.raises(ModelFileError, match=r"uses operators of com\.example"):
        upgrade(model, "x")


def test_a_corrupt_onnx_is_named(tmp_path: Path) -> None:
    """Cut short or missing, by path."""
    path = tmp_path / "model.onnx"
    path.write_bytes(tiny_bytes()[:-100])
    with pytest.raises(ModelFileError, match=r"model\.onnx: not a sound ONNX model"):
        graph.load(path)
    with pytest.raises(ModelFileError, match=r"absent\.onnx: cannot be read"):
        graph.load(tmp_path / "absent.onnx")
