"""What an FP32 model says of pictures, as the labels by which it is right."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from calibration.evaluation import Choice, evaluate
from calibration.pictures import from_folder
from engines.backends.openvino import Config
from engines.results import Result
from engines.store import ModelStore


def said_by(store: ModelStore, model: str, folder: Path) -> dict[str, Result]:
    """Picture -> what the FP32 model says of it."""
    card, home = store.find(model)
    opened = Choice(model, card, home, "fp32", Config(threads=1)).open()
    samples = from_folder(folder, "bgr")
    results = evaluate(opened, samples)
    opened.close()
    return {sample.name: result for sample, result in zip(samples, results, strict=True)}


def classes_seen(store: ModelStore, model: str, folder: Path) -> dict[str, str]:
    """Picture -> class."""
    labels = store.find(model)[0].labels
    return {name: labels[result.label[0]] for name, result in said_by(store, model, folder).items()}


def boxes_seen(store: ModelStore, model: str, folder: Path, most: int = 3) -> dict[str, Any]:
    """COCO's json of the best objects of each picture; pictures are 96x80."""
    said = {name: result[:most] for name, result in said_by(store, model, folder).items()}
    labels = store.find(model)[0].labels
    return {
        "images": [{"id": i, "file_name": name, "width": 96, "height": 80} for i, name in enumerate(said)],
        "categories": [{"id": i, "name": label} for i, label in enumerate(labels)],
        "annotations": [
            {"id": most * i + k, "image_id": i, "category_id": int(label), "bbox": [x, y, right - x, low - y],
             "area": (right - x) * (low - y), "iscrowd": 0}
            for i, result in enumerate(said.values())
            for k, (label, (x, y, right, low)) in enumerate(zip(result.label, result.xyxy.tolist(), strict=True))
        ],
    }  # fmt: skip
