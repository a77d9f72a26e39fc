"""Families of networks: how each wants its pixels, and what its outputs mean.

A family is what everybody's export of it has in common. What differs from file to file (size, labels, layout) is read
from the file or asked for; a family that leaves a fact open (None) makes it the user's to say.
"""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from engines.errors import ModelFileError
from engines.importing import readings
from engines.importing.export import shape_text
from engines.importing.facts import PRESETS
from engines.importing.readings import Reading, Seen, Unlike


@dataclass(frozen=True)
class Family:
    """One family; None: the user must say."""

    what: str
    read: Callable[[Seen], Reading]
    channels: str | None = "rgb"
    norm: tuple[tuple[float, ...], tuple[float, ...]] | None = PRESETS["unit"]
    fit: str | None = "stretch"
    fill: int = 0
    align: str = "centre"
    crop: float | None = None
    resize: str = "linear"
    open_task: tuple[str, ...] = ()
    """Fields of the task that only the user can know, where the graph does not show them."""


def family(name: str, where: str) -> Family:
    """Return the family of that name. Raises ModelFileError naming the nearest one."""
    name = ALIASES.get(name.lower(), name.lower())
    if name not in FAMILIES:
        near = difflib.get_close_matches(name, [*FAMILIES, *ALIASES], n=1)
        hint = f"did you mean {near[0]!r}?" if near else f"known: {', '.join(sorted(FAMILIES))}"
        raise ModelFileError(f"{where}: --family {name!r} is not known; {hint}")
    return FAMILIES[name]


def read(kind: Family, seen: Seen, where: str) -> Reading:
    """Return what the outputs mean to a family.

    Raises ModelFileError with the shapes found and wanted, and what they look like.
    """
    try:
        return kind.read(seen)
    except Unlike as unlike:
        found = ", ".join(f"{name} {shape_text(shape)}" for name, shape in seen.shapes.items())
        hint = _looks_like(seen)
        raise ModelFileError(
            f"{where}: the family has {unlike}, this network has {found}{f': {hint}' if hint else ''}"
        ) from None


def _looks_like(seen: Seen) -> str | None:
    """What the outputs look like, said in words; None: nothing that is known."""
    if seen.has_map:
        return "it looks like a segmentation network, which cannot be imported yet"
    near = sorted(set(_fitting(seen)))
    return f"it looks like --family {' or '.join(near)}" if near else None


def _fitting(seen: Seen) -> Iterator[str]:
    if len(seen.shapes) == 1 and all(len(shape) == 2 for shape in seen.shapes.values()):
        yield "classifier"
        return
    for name, kind in FAMILIES.items():
        if kind.read in (readings.custom, readings.ultralytics):
            continue
        try:
            reading = kind.read(seen)
        except Unlike:
            continue
        if seen.labels is None or reading.classes in (None, seen.labels):
            yield name


_BGR_IMAGENET = (tuple(PRESETS["imagenet"][0][::-1]), tuple(PRESETS["imagenet"][1][::-1]))

_LETTERBOX: dict[str, Any] = {"fit": "letterbox", "fill": 114}
FAMILIES: dict[str, Family] = {
    "yolox": Family(
        "YOLOX, decoded in the graph or not", readings.yolox,
        channels="bgr", norm=PRESETS["raw"], fit="letterbox", fill=114, align="top-left",
    ),
    "yolov5": Family("YOLOv5 and v7 of their own repositories, with objectness", readings.yolov5, **_LETTERBOX),
    "yolov8": Family("YOLOv8, v9, v11, v12: no objectness, no suppression in the graph", readings.yolov8, **_LETTERBOX),
    "end2end": Family("YOLOv10, YOLO26 and exports with suppression in the graph", readings.end2end, **_LETTERBOX),
    "ultralytics": Family("any detector of Ultralytics, told apart by its shapes", readings.ultralytics, **_LETTERBOX),
    "ultralytics-cls": Family("classifiers of Ultralytics", readings.classifier, fit="crop", crop=1.0, resize="area"),
    "nanodet": Family(
        "NanoDet-m", readings.nanodet("middle", (8, 16, 32)), channels="bgr", norm=_BGR_IMAGENET, fit="letterbox",
    ),
    "nanodet-plus": Family(
        "NanoDet-plus", readings.nanodet("corner", (8, 16, 32, 64)), channels="bgr", norm=_BGR_IMAGENET,
    ),
    "fastestdet": Family("FastestDet", readings.fastestdet, channels="bgr"),
    "rt-detr": Family("RT-DETR, of Ultralytics or Hugging Face", readings.rt_detr),
    "rf-detr": Family("RF-DETR", readings.rf_detr, norm=PRESETS["imagenet"]),
    "detr": Family("DETR", readings.detr, norm=PRESETS["imagenet"], fit=None),
    "timm": Family("classifiers of timm and torchvision", readings.timm, norm=None, fit="crop", resize="area"),
    "classifier": Family(
        "any classifier", readings.classifier,
        channels=None, norm=None, fit=None, resize="area", open_task=("activation",),
    ),
    "tao-classifier": Family(
        "NVIDIA TAO image classification (TensorFlow)", readings.classifier,
        channels="bgr", norm=((103.939, 116.779, 123.68), (1.0,)), open_task=("activation",),
    ),
    "tao-detectnet": Family("NVIDIA TAO DetectNet_v2", readings.detectnet),
    "tf-detection": Family(
        "TensorFlow's object detection library through tf2onnx", readings.tensorflow, norm=PRESETS["raw"],
    ),
    "custom": Family("anything that a task reads: say it all", readings.custom, channels=None, norm=None, fit=None),
}  # fmt: skip
ALIASES = {
    "yolov7": "yolov5", "yolov9": "yolov8", "yolov11": "yolov8", "yolo11": "yolov8", "yolov12": "yolov8",
    "yolo12": "yolov8", "yolov10": "end2end", "yolo26": "end2end", "nanodet-m": "nanodet", "rtdetr": "rt-detr",
    "rfdetr": "rf-detr", "torchvision": "timm", "tf2onnx-detection": "tf-detection", "detectnet": "tao-detectnet",
}  # fmt: skip
