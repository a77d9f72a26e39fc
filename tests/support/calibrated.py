"""Models that are quick to calibrate and large enough for a table, made in a store, and the command that does it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import onnx
from onnx import TensorProto, helper
from typer.testing import CliRunner

from agent.commands._app import app
from calibration.proof import Proof
from engines.card import read_card
from engines.graph import Normalisation, bake, constant, constants, free_batch, model_of
from engines.store import ModelStore
from tests.support.measured import KINDS, LABELS, install
from tests.support.models import run_onnx
from tests.support.pictures import smooth_bgr

PICTURES = 80
"""So many of `made_pictures` are enough of both kinds."""
KEPT = ("stem", "deep", "both", "wide")
SHORT = ("--method", "min-max", *(word for name in KEPT for word in ("--keep", name)))
"""A search that is over soon: one way to find ranges, and few operations to look at."""
SIDE = 16
WIDTH = 48
_LARGE = 160
"""Outputs of the largest convolution: a table may be a hundredth of the weights, no more."""
_BOXES = (4 + len(KINDS), 8)
_LOGITS = 3.0
"""What the network's last numbers deviate by."""


def calibrated_store(folder: Path) -> ModelStore:
    """A classifier `good`, a detector `finds`, and a classifier `broken` that no INT8 form can be right of."""
    store = ModelStore(folder)
    classify = {"type": "classify", "scores": "out"}
    yolo = {"type": "yolo", "output": "out", "layout": "columns", "objectness": False, "boxes": "unit"}
    for name, task, labels, network in (
        ("good", classify, LABELS, small_network()),
        ("broken", classify, LABELS, small_network(drowned=True)),
        ("finds", yolo, KINDS, small_network(boxes=True)),
    ):
        fp32 = free_batch(bake(network, Normalisation(mean=(127,), std=(32,)), name))
        _spread(fp32, "head" if task is yolo else "out")
        install(store, name, SIDE, task, labels, {"fp32": fp32})
    return store


def small_network(*, boxes: bool = False, drowned: bool = False, seed: int = 0) -> onnx.ModelProto:
    """Convolutions, one of them depthwise and one with nearly all of the weights, an addition, a matrix product.

    `drowned`: that one reads a channel of a million beside those that matter, at another level for every picture: no
    scale holds both, and in float it would be nearly all of the network.
    """
    rng = np.random.default_rng(seed)
    constants = [constant("rows", np.array([-1, _LARGE], np.int64)), constant("low", np.zeros((), np.float32))]
    nodes: list[onnx.NodeProto] = []

    def weights(name: str, *shape: int) -> np.ndarray:
        fan = int(np.prod(shape[1:])) or 1
        return rng.normal(0, np.sqrt(2 / fan), shape).astype(np.float32)

    def kept(name: str, array: np.ndarray) -> str:
        constants.append(constant(name, array))
        return name

    def node(operator: str, name: str, *inputs: str, **attributes: object) -> str:
        nodes.append(helper.make_node(operator, list(inputs), [name], name=name, **attributes))
        return name

    def conv(name: str, source: str, matrix: np.ndarray, **attributes: object) -> str:
        bias = kept(f"{name}.b", rng.normal(0, 0.1, len(matrix)).astype(np.float32))
        pads = [matrix.shape[2] // 2] * 4
        return node("Conv", name, source, kept(f"{name}.w", matrix), bias, pads=pads, **attributes)

    stem = node("Relu", "stem.relu", conv("stem", "input", weights("stem", 16, 3, 3, 3), strides=[2, 2]))
    deep = node("Relu", "deep.relu", conv("deep", stem, weights("deep", 16, 1, 3, 3), group=16))
    widened, large = weights("wide", WIDTH, 16, 1, 1), weights("large", _LARGE, WIDTH, 3, 3)
    if drowned:
        widened[0], large[:, 0] = 1e6, 1e-9
    wide = node("Relu", "wide.relu", conv("wide", node("Add", "both", deep, stem), widened))
    body = node("Relu", "large.relu", conv("large", wide, large))
    row = node("Reshape", "row", node("GlobalAveragePool", "pool", body), "rows")
    outputs = int(np.prod(_BOXES)) if boxes else len(LABELS)
    matrix = kept("head.w", weights("head", outputs, _LARGE))
    head = "head" if boxes else "out"
    last = node("Gemm", head, row, matrix, kept("head.b", np.zeros(outputs, np.float32)), transB=1)
    shape: list[object] = ["N", outputs]
    if boxes:
        shape = ["N", *_BOXES]
        columns = kept("columns", np.array([-1, *_BOXES], np.int64))
        node("Reshape", "out", node("Sigmoid", "scores", last), columns)
    graph = onnx.GraphProto(name="small", node=nodes, initializer=constants)
    graph.input.append(helper.make_tensor_value_info("input", TensorProto.FLOAT, ["N", 3, SIDE, SIDE]))
    graph.output.append(helper.make_tensor_value_info("out", TensorProto.FLOAT, shape))
    return model_of(graph)


def _spread(fp32: onnx.ModelProto, last: str) -> None:
    """Centre and scale the last product's outputs, so that different pictures give different answers, and sure ones.

    Boxes hardly move: what is to be seen is whether they are found, not how random coordinates round.
    """
    pictures = np.stack([cv2.resize(smooth_bgr(96, 80, seed), (SIDE, SIDE)) for seed in range(1000, 1032)])
    (seen,) = run_onnx(fp32, pictures.transpose(0, 3, 1, 2), last)
    wanted, centre = np.full(seen.shape[1], _LOGITS), np.zeros(seen.shape[1])
    if seen.shape[1] == np.prod(_BOXES):
        corners = 4 * _BOXES[1]
        wanted[:corners], centre[:corners] = 0.05, np.random.default_rng(0).normal(0, 1.5, corners)
    scale = wanted / np.maximum(seen.std(axis=0), 1e-6)
    head = constants(fp32)["head.w"]
    for name, array in (("head.w", head * scale[:, None]), ("head.b", centre - seen.mean(axis=0) * scale)):
        tensor = next(one for one in fp32.graph.initializer if one.name == name)
        tensor.CopyFrom(constant(name, array.astype(np.float32)))


@dataclass(frozen=True)
class Run:
    """What a command answered, and where."""

    status: int
    out: str
    err: str
    store: ModelStore
    cache: Path

    def folder(self, model: str) -> Path:
        return self.store.root / model

    def proof(self, model: str) -> Proof:
        entry = read_card(self.folder(model)).files["int8"]
        assert entry.quantisation is not None
        return Proof.model_validate(entry.quantisation.proof)

    def bytes(self, model: str) -> tuple[bytes, bytes]:
        """Of the INT8 file and of its table."""
        return tuple((self.folder(model) / name).read_bytes() for name in ("model.int8.onnx", "table.json"))  # type: ignore[return-value]


Call = Callable[..., Run]


def calibrating(folder: Path, pictures: Path) -> Call:
    """A store and a cache of their own in the folder, and how to run the command there."""
    store = calibrated_store(folder / "models")
    cache = folder / "cache"

    def run(model: str, *arguments: str | Path, given: bool = True) -> Run:
        asked = [*map(str, arguments), *(("--images", str(pictures)) if given else ())]
        env = {"SIGHTWIRE_MODELS": str(store.root), "XDG_CACHE_HOME": str(cache), "COLUMNS": "200"}
        done = CliRunner().invoke(app, ["calibrate", model, *asked], catch_exceptions=False, env=env)
        return Run(done.exit_code, done.stdout, done.stderr, store, cache)

    return run


def untouched(folder: Path) -> bool:
    """The model is as `calibrated_store` made it, and nothing else is beside it."""
    names = {path.name for path in folder.iterdir()} - {".openvino"}  # what its engine compiled
    left = [path.name for path in folder.parent.iterdir() if path.name.startswith(".partial")]
    return names == {"card.yaml", "fp32.onnx"} and set(read_card(folder).files) == {"fp32"} and not left


def is_a_line(run: Run, status: int = 1) -> bool:
    return run.status == status and run.err.startswith("sightwire: ") and run.err.count("\n") == 1
