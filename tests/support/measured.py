"""Models that are quick to measure: made networks in a store, and pictures they differ about."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import cv2
import onnx

from calibration.pictures import Sample
from engines.assembly import write_model
from engines.card import Card, Input, Origin, write_card
from engines.graph import Normalisation, bake, free_batch, serialise
from engines.qdq import Table, activations, apply, quantised_nodes, scale_of
from engines.store import ModelStore
from tests.support.exports import export
from tests.support.models import CLASSES, SIZE, tiny_network
from tests.support.pictures import image_from, smooth_bgr

LABELS = tuple("abcde"[:CLASSES])
SIDE = 64
"""Of the detectors' input."""
KINDS = ("person", "dog", "car")


def made_store(folder: Path) -> ModelStore:
    """Classifiers `tiny` (fp32 and int8) and `other` of labels a to e; detectors `boxes` and `fewer`, without cars."""
    store = ModelStore(folder)
    classify = {"type": "classify", "scores": "logits"}
    for name, seed in (("tiny", 0), ("other", 1)):
        fp32 = free_batch(bake(tiny_network(seed=seed), Normalisation(mean=(127,), std=(128,)), name))
        files = {"fp32": fp32} | ({"int8": apply(fp32, _table(fp32))} if name == "tiny" else {})
        install(store, name, SIZE, classify, LABELS, files)
    reading = {"type": "yolo", "output": "out", "layout": "columns", "objectness": False, "boxes": "unit"}
    for name, labels, seed in (("boxes", KINDS, 2), ("fewer", KINDS[1::-1], 3)):
        network = export({"out": (4 + len(labels), 84)}, size=(SIDE, SIDE), end="Sigmoid", seed=seed)
        fp32 = free_batch(bake(network, Normalisation(std=(255,)), name))
        install(store, name, SIDE, reading, labels, {"fp32": fp32})
    return store


def _table(fp32: onnx.ModelProto) -> Table:
    largest = {"normalised": 1.0, "sum": 12.0}
    return Table(
        model=hashlib.sha256(serialise(fp32)).hexdigest(),
        method="min-max",
        calibration_set="0" * 64,
        pictures=1,
        scales={name: scale_of(largest.get(name, 6.0)) for name in activations(quantised_nodes(fp32))},
    )


def install(
    store: ModelStore, name: str, side: int, task: dict[str, Any], labels: Sequence[str], files: dict[str, Any]
) -> None:
    """Make a model in the store of networks by their precision."""
    folder = store.root / name
    folder.mkdir(parents=True)
    content = {
        "schema": "sightwire.card/1",
        "name": name,
        "summary": "made for tests",
        "input": Input(width=side, height=side, fit="stretch"),
        "task": task,
        "labels": tuple(labels),
        "files": {
            precision: write_model(network, folder / f"{precision}.onnx") for precision, network in files.items()
        },
        "origin": Origin(source="tests", sha256="0" * 64, licence="Apache-2.0"),
        "max_batch": 4,
    }
    write_card(Card.model_validate(content), folder)


def made_sample(index: int, read: Callable[[], Any] | None = None) -> Sample:
    """A picture of its own for each number."""
    return Sample(f"{index}.png", f"{index:064x}", read or (lambda: image_from(smooth_bgr(96, 80, seed=index), "bgr")))


def made_pictures(folder: Path, count: int) -> Path:
    """A folder with the same pictures, as files."""
    folder.mkdir(parents=True, exist_ok=True)
    for index in range(count):
        cv2.imwrite(str(folder / f"{index}.png"), smooth_bgr(96, 80, seed=index))
    return folder
