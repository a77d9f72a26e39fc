"""Entries that come by URL: pulled from a local server as a stand-in that has what is published of them.

A stand-in has the published names, shapes and opset; whatever it sees, it gives one thing in one place. So an entry is
proved to fit what its publisher says: input, labels, which number is which. Not how good the weights are.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from pathlib import Path
from unittest.mock import Mock

import numpy as np
import onnx
import pytest
from numpy.typing import NDArray
from onnx import TensorProto, helper

from engines import catalogue
from engines.backends.openvino import Config as OpenVINO
from engines.card import model_file
from engines.catalogue import Entry, Url
from engines.errors import CardError
from engines.graph import constant, load
from engines.model import open_model
from engines.pixels import Image, Picture
from engines.pull import pull
from engines.results import Classification, Detections
from engines.store import ModelStore
from tests.support.models import catalogue_model, obtainable
from tests.support.web import Site, web_server

Floats = NDArray[np.float32]
BUS, SHARK = 5, 2
"""Of COCO's 80 and ImageNet's 1000."""


def stand_in(opset: int, name: str, shape: tuple[int | str, ...], outputs: dict[str, Floats]) -> bytes:
    """A network that gives `outputs` (without batch) for every picture, and hardly more for a bright one.

    Without that, nothing could be proved of batches.
    """
    nodes = [
        helper.make_node("GlobalAveragePool", [name], ["mean"]),
        helper.make_node("Mul", ["mean", "little"], ["shade"]),
        helper.make_node("ReduceMean", ["shade"], ["row"], axes=[1, 2, 3], keepdims=0),
    ]
    constants = [constant("little", np.full((1, 1, 1, 1), 1e-6, np.float32))]
    values = []
    for index, (output, array) in enumerate(outputs.items()):
        column = constant(f"column{index}", np.array([-1, *[1] * array.ndim], np.int64))
        constants += [column, constant(f"values{index}", array[None])]
        nodes.append(helper.make_node("Reshape", ["row", column.name], [f"rows{index}"]))
        nodes.append(helper.make_node("Add", [f"rows{index}", f"values{index}"], [output]))
        values.append(helper.make_tensor_value_info(output, TensorProto.FLOAT, [shape[0], *array.shape]))
    source = helper.make_tensor_value_info(name, TensorProto.FLOAT, shape)
    graph = helper.make_graph(nodes, "stand-in", [source], values, constants)
    ir_version = {11: 6, 12: 7}.get(opset, 8)
    return bytes(
        helper.make_model(
            graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=ir_version
        ).SerializeToString()
    )


def yolox(side: int) -> bytes:
    """A bus over the middle of the picture: in strides from the corner of a cell of the last grid, sides as logs."""
    grids = [(side // stride) for stride in (8, 16, 32)]
    output = np.zeros((sum(n * n for n in grids), 85), np.float32)
    middle = grids[2] // 2
    row = output[grids[0] ** 2 + grids[1] ** 2 + middle * grids[2] + middle]
    row[:4] = side / 64 - middle, side / 64 - middle, np.log(side / 64), np.log(side / 128)
    row[4], row[5 + BUS] = 1, 0.9
    return stand_in(11, "images", (1, 3, side, side), {"output": output})


def nanodet_plus() -> bytes:
    """A bus: three strides of 64 to the left and right of a cell's corner, one and a half up and down."""
    grids = [52, 26, 13, 7]
    output = np.zeros((sum(n * n for n in grids), 80 + 32), np.float32)
    row = output[sum(n * n for n in grids[:3]) + 3 * 7 + 3]
    row[BUS] = 0.9
    bins = row[80:].reshape(4, 8)
    bins[:] = -50
    bins[[0, 2], 2] = 50
    bins[[1, 3], 1] = 50
    return stand_in(11, "data", (1, 3, 416, 416), {"output": output})


def nanodet_m() -> bytes:
    """A bus: three strides of 32 from a cell's middle to the left and right, one and a half up and down."""
    outputs: dict[str, Floats] = {}
    for cells, scores, boxes in ((2704, "792", "795"), (676, "814", "817"), (169, "836", "839")):
        outputs |= {scores: np.zeros((cells, 80), np.float32), boxes: np.zeros((cells, 32), np.float32)}
    outputs["836"][6 * 13 + 6, BUS] = 0.9
    bins = outputs["839"][6 * 13 + 6].reshape(4, 8)
    bins[:] = -50
    bins[[0, 2], 3] = 50
    bins[[1, 3], 1] = 50
    return stand_in(11, "input.1", (1, 3, 416, 416), outputs)


def mobilenet() -> bytes:
    """A shark."""
    output = np.zeros(1000, np.float32)
    output[SHARK] = 9
    return stand_in(12, "input", ("batch_size", 3, 224, 224), {"output": output})


def rf_detr() -> bytes:
    """A bus over the middle: number 6 of COCO's own numbers, which begin at 1."""
    boxes, logits = np.zeros((300, 4), np.float32), np.full((300, 91), -9, np.float32)
    boxes[7], logits[7, 6] = (0.5, 0.5, 0.5, 0.25), 2.2
    names = ("batch_size", "num_channels", "height", "width")
    return stand_in(17, "pixel_values", names, {"logits": logits, "pred_boxes": boxes})


#: name -> what stands in for it, and the shares of a square picture where the bus is
STAND_INS: dict[str, tuple[Callable[[], bytes], tuple[float, float, float, float]]] = {
    "yolox-nano": (lambda: yolox(416), (0.25, 0.375, 0.75, 0.625)),
    "yolox-tiny": (lambda: yolox(416), (0.25, 0.375, 0.75, 0.625)),
    "yolox-s": (lambda: yolox(640), (0.25, 0.375, 0.75, 0.625)),
    "nanodet-plus-m": (nanodet_plus, (64 / 416, 128 / 416, 320 / 416, 256 / 416)),
    "nanodet-m": (nanodet_m, (112 / 416, 176 / 416, 304 / 416, 240 / 416)),
    "street-nanodet": (nanodet_m, (112 / 416, 176 / 416, 304 / 416, 240 / 416)),
    "mobilenet-v2": (mobilenet, (0, 0, 0, 0)),
    "rf-detr-nano": (rf_detr, (0.25, 0.375, 0.75, 0.625)),
}


@pytest.fixture
def site() -> Iterator[Site]:
    with web_server() as site:
        yield site


def installed(entry: Entry, data: bytes, site: Site, store: ModelStore, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Pull the entry's stand-in from the server; its folder."""
    assert isinstance(entry.fetch, Url)
    site.files[f"/{entry.fetch.name}"] = data
    there = {"url": f"{site.url}/{entry.fetch.name}", "sha256": hashlib.sha256(data).hexdigest(), "size": len(data)}
    known = entry.model_copy(update={"fetch": entry.fetch.model_copy(update=there)})
    monkeypatch.setattr(catalogue, "entry", Mock(return_value=known))
    return pull(entry.name, store)[1]


@pytest.mark.parametrize("name", STAND_INS)
def test_an_entry_fits_what_is_published(
    name: str, site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It pulls, says that it was never tried, compiles, and finds the stand-in's bus (or shark) in its place."""
    make, where = STAND_INS[name]
    store = ModelStore(tmp_path)
    entry = catalogue.entry(name)
    folder = installed(entry, make(), site, store, monkeypatch)
    card, _ = store.find(name)
    assert not card.origin.seen
    assert card.max_batch == entry.max_batch
    model = open_model(card, folder, "fp32", OpenVINO())
    try:
        (result,) = model([Picture(Image((np.zeros((200, 200, 3), np.uint8),), "bgr", "601", "full", (200, 200)))])
    finally:
        model.close()
    if isinstance(result, Classification):
        assert card.labels[result.label[0]] == "great white shark"
    else:
        assert isinstance(result, Detections)
        assert [card.labels[label] for label in result.label] == ["bus"]
        assert result.score[0] == pytest.approx(0.9, abs=0.01)
        assert result.xyxy[0] == pytest.approx(200 * np.array(where), abs=0.5)


def test_every_unseen_entry_has_a_stand_in() -> None:
    """A new one needs its own above."""
    unseen = {name for name in catalogue.names() if not catalogue.entry(name).seen}
    assert unseen <= set(STAND_INS)


@pytest.mark.parametrize("name", obtainable())
def test_weights_that_were_seen(name: str, real_models: ModelStore, tmp_path_factory: pytest.TempPathFactory) -> None:
    """They become what the catalogue says, to the byte, INT8 included."""
    card, _ = catalogue_model(name, real_models, tmp_path_factory)
    entry = catalogue.entry(name)
    assert card.origin.seen
    assert {kind: found.sha256 for kind, found in card.files.items()} == {
        "fp32": entry.fp32, **({"int8": entry.int8.sha256} if entry.int8 else {})
    }  # fmt: skip


def test_a_stand_in_of_another_network(site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What does not fit the entry is not installed."""
    store = ModelStore(tmp_path)
    with pytest.raises(CardError, match="yolox-s: images is uint8"):
        installed(catalogue.entry("yolox-s"), nanodet_plus(), site, store, monkeypatch)
    assert store.names() == []


def test_normalisation_is_that_of_the_training(site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Baked in: BGR where the network wants it, and numbers of the same channels."""
    store = ModelStore(tmp_path)
    folder = installed(catalogue.entry("nanodet-plus-m"), nanodet_plus(), site, store, monkeypatch)
    model = load(model_file(store.find("nanodet-plus-m")[0], folder, "fp32"))
    operators = [node.op_type for node in model.graph.node[:4]]
    assert operators == ["Cast", "Gather", "Mul", "Add"]
    assert onnx.numpy_helper.to_array(model.graph.initializer[1]).ravel() == pytest.approx(
        [1 / 57.375, 1 / 57.12, 1 / 58.395]
    )
