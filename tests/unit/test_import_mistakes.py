"""Importing: what is refused before harm is done, and numbers that belong to channels."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from engines.errors import CardError, ModelFileError
from engines.graph import constant
from engines.importing import Result, import_model
from engines.importing.export import read_export
from engines.importing.facts import Given, labels_from
from engines.importing.families import FAMILIES, read
from engines.importing.plain import _LARGEST, fold
from engines.importing.readings import Seen
from engines.store import ModelStore
from tests.support.models import tiny_network


@pytest.fixture
def store(tmp_path: Path) -> ModelStore:
    return ModelStore(tmp_path / "models")


def network(output: tuple[int, ...], seed: int = 0) -> onnx.ModelProto:
    """A convolution over 32x32 pixels, its mean, and one matrix."""
    rng = np.random.default_rng(seed)
    arrays = {
        "kernel": rng.normal(0, 0.4, (4, 3, 3, 3)).astype(np.float32),
        "matrix": rng.normal(0, 0.2, (4, int(np.prod(output)))).astype(np.float32),
        "rows": np.array([1, *output], np.int64),
    }
    nodes = [
        helper.make_node("Conv", ["picture", "kernel"], ["conv"], kernel_shape=[3, 3]),
        helper.make_node("GlobalAveragePool", ["conv"], ["mean"]),
        helper.make_node("Flatten", ["mean"], ["flat"]),
        helper.make_node("MatMul", ["flat", "matrix"], ["scores"]),
        helper.make_node("Reshape", ["scores", "rows"], ["output"]),
    ]
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("picture", TensorProto.FLOAT, [1, 3, 32, 32])],
        [helper.make_tensor_value_info("output", TensorProto.FLOAT, [1, *output])],
        [numpy_helper.from_array(array, name) for name, array in arrays.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)])
    model.ir_version = 8
    return model


def _lies_in(tensor: TensorProto, location: str) -> None:
    """Leave a tensor's numbers to a second file."""
    tensor.ClearField("raw_data")
    del tensor.external_data[:]
    tensor.data_location = TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value=location)


def take(store: ModelStore, output: tuple[int, ...] = (3,), **given: Any) -> Result:
    store.root.mkdir(parents=True, exist_ok=True)
    path = store.root.parent / "net.onnx"
    path.write_bytes(network(output).SerializeToString())
    said = {"labels": "a,b,c", "name": "mine", "max_batch": 1, **given}
    return import_model(path, Given(**said), store)


CLASSIFIER = {"family": "classifier", "fit": "stretch", "task": {"activation": "softmax"}}
RED_FIRST, BLUE_FIRST = (123.675, 116.28, 103.53), (103.53, 116.28, 123.675)


@pytest.mark.parametrize(
    ("given", "mean"),
    [
        ({**CLASSIFIER, "channels": "rgb", "mean": "imagenet"}, RED_FIRST),
        ({**CLASSIFIER, "channels": "bgr", "mean": "imagenet"}, BLUE_FIRST),
        ({**CLASSIFIER, "channels": "bgr", "mean": "103.53,116.28,123.675", "std": "1"}, BLUE_FIRST),
        ({"family": "nanodet-plus"}, BLUE_FIRST),
        ({"family": "nanodet-plus", "channels": "rgb"}, RED_FIRST),
        ({"family": "tao-classifier", "channels": "rgb", "task": {"activation": "none"}}, (123.68, 116.779, 103.939)),
    ],
    ids=["a preset", "a preset, blue first", "numbers", "a family", "a family, red first", "another, red first"],
)
def test_each_channel_gets_its_own_numbers(store: ModelStore, given: dict[str, Any], mean: tuple[float, ...]) -> None:
    """Presets and families turn with the channels, a user's numbers are in the order of the channels."""
    result = take(store, (22, 35) if given["family"] == "nanodet-plus" else (3,), **given)
    assert {fact.name: fact.value for fact in result.facts}["mean"] == mean


def test_many_labels_with_commas_are_not_taken_for_a_file() -> None:
    """Eighty names are longer than a file's name may be."""
    names = tuple(f"label number {index}" for index in range(80))
    assert labels_from(",".join(names), None, "net") == names


def test_a_list_of_labels_from_windows(tmp_path: Path) -> None:
    """Its byte order mark is no part of the first label."""
    path = tmp_path / "labels.txt"
    path.write_bytes(b"\xef\xbb\xbfhelmet\r\nvest\r\n")
    assert labels_from(str(path), None, "net") == ("helmet", "vest")


def test_a_training_configuration_is_no_list_of_labels(tmp_path: Path) -> None:
    """Its lines are not labels, and some families cannot count them."""
    path = tmp_path / "data.yaml"
    path.write_text("names:\n  0: helmet\n")
    with pytest.raises(
        ModelFileError, match=r"data\.yaml: not a list of labels: a text file with one a line is wanted"
    ):
        labels_from(str(path), None, "net")


def test_devices_pipes_and_folders_are_not_read(tmp_path: Path) -> None:
    """They would fill the memory, or wait for ever."""
    pipe = tmp_path / "pipe.onnx"
    os.mkfifo(pipe)
    for path in (Path("/dev/zero"), pipe, tmp_path):
        with pytest.raises(ModelFileError, match="is a folder or a device, not an ONNX file"):
            read_export(path)


def test_a_file_that_is_too_large_is_not_read(tmp_path: Path) -> None:
    """Nor are weights in a second file; both here are all holes."""
    path = tmp_path / "net.onnx"
    with path.open("wb") as file:
        file.truncate(2**31)
    with pytest.raises(ModelFileError, match="larger than 2 GB"):
        read_export(path)
    model = network((3,))
    _lies_in(model.graph.initializer[0], "net.data")
    path.write_bytes(model.SerializeToString())
    with (tmp_path / "net.data").open("wb") as file:
        file.truncate(2**31)
    with pytest.raises(ModelFileError, match="larger than 2 GB"):
        read_export(path)


def test_constants_in_a_second_file_lie_beside_the_model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """And nowhere else: not where the command was started, nor further up."""
    model = network((3,))
    kernel = model.graph.initializer[0]
    data = kernel.raw_data
    node = helper.make_node("Constant", [], ["kernel"], value=kernel)
    del model.graph.initializer[0]
    model.graph.node.insert(0, node)
    folder = tmp_path / "here"
    folder.mkdir()
    (folder / "net.data").write_bytes(b"another file")
    monkeypatch.chdir(folder)
    path = tmp_path / "net.onnx"
    for location in ("../net.data", "net.data"):
        _lies_in(model.graph.node[0].attribute[0].t, location)
        path.write_bytes(model.SerializeToString())
        with pytest.raises(ModelFileError, match=f"a second file, {location}, which must lie beside it"):
            read_export(path)
    (tmp_path / "net.data").write_bytes(data)
    read = read_export(path).model.graph.node[0].attribute[0].t
    assert numpy_helper.to_array(read).tobytes() == data


@pytest.mark.parametrize("length", [0, 10, 400])
def test_weights_in_a_second_file_that_is_cut_short(tmp_path: Path, length: int) -> None:
    """The error says so."""
    model = network((3,))
    _lies_in(model.graph.initializer[0], "net.data")
    path = tmp_path / "net.onnx"
    path.write_bytes(model.SerializeToString())
    (tmp_path / "net.data").write_bytes(bytes(length))
    with pytest.raises(ModelFileError, match=r"net\.onnx: "):
        read_export(path)


def test_a_folder_that_is_no_model_is_left_alone(store: ModelStore) -> None:
    """Even with --again: whose it is, nobody knows."""
    notes = store.root / "mine" / "notes.txt"
    notes.parent.mkdir(parents=True)
    notes.write_text("precious")
    with pytest.raises(CardError, match="mine: is there already, and is no model"):
        take(store, **CLASSIFIER, channels="rgb", mean="imagenet")
    assert notes.read_text() == "precious"
    assert store.names() == []


def test_bare_yolox_is_not_taken_for_yolov5() -> None:
    """Both have rows of five and the classes, but offsets in strides are no pixels."""
    yolov5, cells = FAMILIES["yolov5"], {"output": (1, 21, 8)}
    bare = Seen(cells, {"output": frozenset({"Conv", "Sigmoid"})}, (32, 32), 3)
    with pytest.raises(ModelFileError, match=r"in pixels, .* it looks like --family yolox$"):
        read(yolov5, bare, "net")
    decoded = Seen(cells, {"output": frozenset({"Mul", "Sigmoid"})}, (32, 32), 3)
    anchors = Seen({"output": (1, 63, 8)}, {"output": frozenset({"Conv"})}, (32, 32), 3)
    for seen in (decoded, anchors):
        assert read(yolov5, seen, "net").classes == 3


def test_a_constant_that_is_doubled_again_and_again_is_not_worked_out_to_the_end(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Each Concat makes twice as much: after forty of them no machine would have the memory."""
    assert _LARGEST <= 1 << 26
    monkeypatch.setitem(fold.__globals__, "_LARGEST", 1 << 20)  # where it ends matters not, and less takes less time
    model = tiny_network()
    before = constant("grown0", np.zeros(1 << 14, np.float32))
    model.graph.initializer.append(before)
    for step in range(40):
        twice = [f"grown{step}"] * 2
        model.graph.node.append(helper.make_node("Concat", twice, [f"grown{step + 1}"], axis=0))
    fold(model)
    most = max(int(np.prod(tensor.dims)) for tensor in model.graph.initializer)
    assert 1 << 16 < most <= 1 << 19
    assert any(node.op_type == "Concat" for node in model.graph.node)
