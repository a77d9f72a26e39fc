"""Families of networks: how each wants its pixels, and what its outputs mean.

A family is what everybody's export of it has in common. What differs from file to file (size, labels, layout) is read
from the file or asked for; a family that leaves a fact open (None) makes it the user's to say.
"""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, NoReturn

from engines.errors import ModelFileError
from engines.importing.export import shape_text
from engines.importing.facts import PRESETS
from engines.tasks.boxes import cells

Shape = tuple[int, ...]
Content = dict[str, Any]


@dataclass(frozen=True)
class Seen:
    """What the graph shows."""

    where: str
    shapes: Mapping[str, Shape]
    """Output -> shape for one picture, the batch included."""
    ends: Mapping[str, frozenset[str]]
    """Output -> the operators that make its numbers, behind those that only move them."""
    size: tuple[int, int]
    labels: int | None
    """How many labels are known, where that is known before."""
    said: Mapping[str, Any]
    """The file's own metadata, as `Export.said`."""

    def unlike(self, wanted: str) -> NoReturn:
        """Raise ModelFileError: the outputs are not the family's."""
        found = ", ".join(f"{name} {shape_text(shape)}" for name, shape in self.shapes.items())
        hint = _looks_like(self)
        raise ModelFileError(
            f"{self.where}: the family has {wanted}, this network has {found}{f': {hint}' if hint else ''}"
        )

    def only(self, rank: int, wanted: str) -> tuple[str, Shape]:
        """Return name and shape of the one output of that rank; others may be there (raw heads beside decoded ones)."""
        found = [(name, shape) for name, shape in self.shapes.items() if len(shape) == rank]
        if len(found) != 1 or (len(self.shapes) > 1 and _is_segmentation(self)):
            self.unlike(wanted)
        return found[0]


@dataclass(frozen=True)
class Reading:
    """A task's config, and how many classes the graph has by it (None: it does not say)."""

    task: Content
    classes: int | None


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


# -- what outputs mean


def _yolox(seen: Seen) -> Reading:
    name, shape = seen.only(3, _YOLOX)
    strides = next((s for s in ((8, 16, 32), (8, 16, 32, 64)) if shape[1] == _cells(seen.size, s)), None)
    if strides is None or shape[2] < 6:
        seen.unlike(f"{_YOLOX}, {_cells(seen.size, (8, 16, 32))} cells at {seen.size[0]}x{seen.size[1]}")
    if _decoded(seen, name):  # --decode_in_inference
        task: Content = {"type": "yolo", "output": name, "layout": "rows", "objectness": True}
    else:
        task = {"type": "yolox", "output": name, "strides": list(strides), "activated": "Sigmoid" in seen.ends[name]}
    return Reading(task, shape[2] - 5)


def _yolov5(seen: Seen) -> Reading:
    name, shape = seen.only(3, _V5)
    bare = shape[1] == _cells(seen.size, (8, 16, 32)) and not _decoded(seen, name)  # YOLOX, in strides of its grid
    if shape[2] < 6 or shape[1] < shape[2] or bare:
        seen.unlike(f"{_V5}, in pixels" if bare else _V5)
    return Reading({"type": "yolo", "output": name, "layout": "rows", "objectness": True}, shape[2] - 5)


def _yolov8(seen: Seen) -> Reading:
    name, shape = seen.only(3, _V8)
    if shape[1] < 5 or shape[1] >= shape[2]:
        seen.unlike(_V8)
    return Reading({"type": "yolo", "output": name, "layout": "columns", "objectness": False}, shape[1] - 4)


def _end2end(seen: Seen) -> Reading:
    name, shape = seen.only(3, _END2END)
    if shape[2] != 6:
        seen.unlike(_END2END)
    return Reading({"type": "nms", "output": name}, None)


def _ultralytics(seen: Seen) -> Reading:
    """Whichever of its detectors the shapes show."""
    if len(seen.shapes) > 1 and _is_segmentation(seen):
        seen.unlike("one output of boxes and class scores")
    shape = seen.only(3, "one output of boxes and class scores")[1]
    if shape[2] > shape[1] >= 5:
        return _yolov8(seen)
    anchors = shape[1] in (3 * _cells(seen.size, (8, 16, 32)), 3 * _cells(seen.size, (8, 16, 32, 64)))
    if shape[2] == 6 and not anchors:
        return _end2end(seen)
    if anchors or (seen.labels is not None and shape[2] == 5 + seen.labels):
        return _yolov5(seen)
    return seen.unlike("(1, 4 + labels, boxes), (1, boxes, 5 + labels) or (1, boxes, 6)")


def _nanodet(cell: str, strides: tuple[int, ...]) -> Callable[[Seen], Reading]:
    def read(seen: Seen) -> Reading:
        activated = any("Sigmoid" in ends for ends in seen.ends.values())
        task: Content = {"type": "nanodet", "strides": list(strides), "cell": cell, "activated": activated}
        if len(seen.shapes) == 1:
            name, shape = seen.only(3, _NANODET)
            if shape[1] != _cells(seen.size, strides) or shape[2] < 33:
                seen.unlike(f"{_NANODET}, {_cells(seen.size, strides)} cells at {seen.size[0]}x{seen.size[1]}")
            return Reading({**task, "output": name}, shape[2] - 32)
        scores, boxes, classes = [], [], set()
        for stride in strides:
            level = {n: s for n, s in seen.shapes.items() if len(s) == 3 and s[1] == _cells(seen.size, (stride,))}
            box = [n for n, s in level.items() if s[2] == 32]
            score = [n for n in level if n not in box]
            if len(box) == 2:  # as many classes as numbers of a box: scores come from sigmoids, or first
                score = [n for n in box if "Sigmoid" in seen.ends[n]] or box[:1]
                box = [n for n in box if n not in score]
            if len(box) != 1 or len(score) != 1:
                seen.unlike(_NANODET)
            scores += score
            boxes += box
            classes.add(level[score[0]][2])
        return Reading({**task, "scores": scores, "boxes": boxes}, classes.pop())

    return read


def _fastestdet(seen: Seen) -> Reading:
    name, shape = seen.only(4, _FASTESTDET)
    stride = seen.size[0] // shape[3] if shape[3] > 0 else 0
    if not stride or cells(seen.size, [stride]) != [(shape[3], shape[2])] or shape[1] < 6:
        seen.unlike(_FASTESTDET)
    return Reading({"type": "fastestdet", "output": name, "stride": stride}, shape[1] - 5)


def _rt_detr(seen: Seen) -> Reading:
    if len(seen.shapes) == 1:  # Ultralytics
        name, shape = seen.only(3, _RTDETR)
        if shape[2] == 6 and seen.labels != 2:
            return Reading({"type": "nms", "output": name, "order": "cxcywh", "scale": "unit"}, None)
        if shape[2] < 5 or shape[1] < shape[2]:
            seen.unlike(_RTDETR)
        task = {"type": "yolo", "output": name, "layout": "rows", "objectness": False, "boxes": "unit", "iou": 1.0}
        return Reading(task, shape[2] - 4)
    return _queries(seen, _RTDETR, "sigmoid")


def _rf_detr(seen: Seen) -> Reading:
    return _queries(seen, _RFDETR, "sigmoid")


def _detr(seen: Seen) -> Reading:
    reading = _queries(seen, _RTDETR, "softmax")
    return Reading({**reading.task, "background": "last"}, reading.classes and reading.classes - 1)


def _queries(seen: Seen, wanted: str, activation: str) -> Reading:
    boxes = [name for name, shape in seen.shapes.items() if len(shape) == 3 and shape[2] == 4]
    if len(boxes) > 1:  # four classes
        boxes = [name for name in boxes if "box" in name.lower() or name == "dets"]
    scores = [name for name, shape in seen.shapes.items() if len(shape) == 3 and name not in boxes]
    if len(boxes) != 1 or len(scores) != 1 or seen.shapes[boxes[0]][1] != seen.shapes[scores[0]][1]:
        seen.unlike(wanted)
    if {"Sigmoid", "Softmax"} & seen.ends[scores[0]]:
        activation = "none"
    task = {"type": "detr", "boxes": boxes[0], "scores": scores[0], "activation": activation}
    return Reading(task, seen.shapes[scores[0]][2])


def _detectnet(seen: Seen) -> Reading:
    four = [(name, shape) for name, shape in seen.shapes.items() if len(shape) == 4]
    if len(four) != 2 or four[0][1][2:] != four[1][1][2:]:
        seen.unlike(_DETECTNET)
    (coverage, small), (boxes, large) = sorted(four, key=lambda pair: pair[1][1])
    stride = seen.size[0] // large[3] if large[3] > 0 else 0
    if 4 * small[1] != large[1] or not stride or cells(seen.size, [stride]) != [(large[3], large[2])]:
        seen.unlike(_DETECTNET)
    return Reading({"type": "detectnet", "coverage": coverage, "boxes": boxes, "stride": stride}, small[1])


def _tensorflow(seen: Seen) -> Reading:
    """The outputs of TensorFlow's object detection library, whatever its exporter put around their names."""

    def named(part: str) -> str:
        exact = [name for name in seen.shapes if part in name.lower() and "raw_" not in name.lower()]
        exact = [name for name in exact if "anchor" not in name and "multiclass" not in name] or exact
        if not exact:
            seen.unlike(_TENSORFLOW)
        return min(exact, key=len)

    boxes, scores, labels = (named(f"detection_{part}") for part in ("boxes", "scores", "classes"))
    task = {
        "type": "nms", "boxes": boxes, "scores": scores, "labels": labels,
        "order": "yxyx", "scale": "unit", "first_label": 1,
    }  # fmt: skip
    return Reading(task, None)


def _classifier(seen: Seen) -> Reading:
    name, shape = seen.only(2, _CLASSIFIER)
    if shape[1] < 2 and seen.labels != 1:
        seen.unlike(_CLASSIFIER)
    task: Content = {"type": "classify", "scores": name}
    if "Softmax" in seen.ends[name] or "Sigmoid" in seen.ends[name]:
        task["activation"] = "none"
    return Reading(task, shape[1])


def _timm(seen: Seen) -> Reading:
    reading = _classifier(seen)
    return Reading({"activation": "softmax", **reading.task}, reading.classes)


def _custom(seen: Seen) -> Reading:  # noqa: ARG001  # everything is the user's
    return Reading({}, None)


def _decoded(seen: Seen, name: str) -> bool:
    """Whether the graph makes pixels of an output's offsets."""
    return not seen.ends[name].isdisjoint({"Exp", "Mul", "ScatterND"})


def _cells(size: tuple[int, int], strides: tuple[int, ...]) -> int:
    return sum(columns * rows for columns, rows in cells(size, strides))


def _is_segmentation(seen: Seen) -> bool:
    """Whether an output is a map of the picture: prototypes of masks, or a class for each pixel."""
    width, height = seen.size
    maps = [shape for shape in seen.shapes.values() if len(shape) in (3, 4) and shape[-1] != 4]
    return any(shape[-2:] in ((height, width), (height // 4, width // 4)) for shape in maps)


def _looks_like(seen: Seen) -> str | None:
    """What the outputs look like, said in words; None: nothing that is known."""
    if _is_segmentation(seen):
        return "it looks like a segmentation network, which cannot be imported yet"
    names = [name for name, reader in FAMILIES.items() if reader.read not in (_custom, _ultralytics)]
    near = sorted(dict.fromkeys(_fitting(seen, names)))
    return f"it looks like --family {' or '.join(near)}" if near else None


def _fitting(seen: Seen, names: list[str]) -> Iterator[str]:
    if len(seen.shapes) == 1 and all(len(shape) == 2 for shape in seen.shapes.values()):
        yield "classifier"
        return
    for name in names:
        blind = _Blind(seen.where, seen.shapes, seen.ends, seen.size, seen.labels, seen.said)
        try:
            reading = FAMILIES[name].read(blind)
        except _Unlike:
            continue
        if seen.labels is None or reading.classes in (None, seen.labels):
            yield name


class _Unlike(Exception):
    """The outputs are not the family's; nobody is told."""


class _Blind(Seen):
    """Asks the families what they would say, without an answer for the user."""

    def unlike(self, wanted: str) -> NoReturn:
        raise _Unlike(wanted)


_YOLOX = "one output (1, cells, 5 + labels)"
_V5 = "one output (1, boxes, 5 + labels)"
_V8 = "one output (1, 4 + labels, boxes)"
_END2END = "one output (1, boxes, 6): left, top, right, bottom, score, label"
_NANODET = "one output (1, cells, labels + 32), or (1, cells, labels) and (1, cells, 32) for each stride"
_FASTESTDET = "one output (1, 5 + labels, rows, columns)"
_RTDETR = "boxes (1, queries, 4) and scores (1, queries, labels), or one output (1, queries, 4 + labels)"
_RFDETR = "boxes (1, queries, 4) and scores (1, queries, labels)"
_DETECTNET = "coverage (1, labels, rows, columns) and boxes (1, 4 * labels, rows, columns)"
_TENSORFLOW = "outputs called detection_boxes, detection_scores and detection_classes"
_CLASSIFIER = "one output (1, labels)"
_BGR_IMAGENET = (tuple(PRESETS["imagenet"][0][::-1]), tuple(PRESETS["imagenet"][1][::-1]))

_LETTERBOX: dict[str, Any] = {"fit": "letterbox", "fill": 114}
FAMILIES: dict[str, Family] = {
    "yolox": Family(
        "YOLOX, decoded in the graph or not", _yolox,
        channels="bgr", norm=PRESETS["raw"], fit="letterbox", fill=114, align="top-left",
    ),
    "yolov5": Family("YOLOv5 and v7 of their own repositories, with objectness", _yolov5, **_LETTERBOX),
    "yolov8": Family("YOLOv8, v9, v11, v12: no objectness, no suppression in the graph", _yolov8, **_LETTERBOX),
    "end2end": Family("YOLOv10, YOLO26 and exports with suppression in the graph", _end2end, **_LETTERBOX),
    "ultralytics": Family("any detector of Ultralytics, told apart by its shapes", _ultralytics, **_LETTERBOX),
    "ultralytics-cls": Family("classifiers of Ultralytics", _classifier, fit="crop", crop=1.0, resize="area"),
    "nanodet": Family(
        "NanoDet-m", _nanodet("middle", (8, 16, 32)), channels="bgr", norm=_BGR_IMAGENET, fit="letterbox",
    ),
    "nanodet-plus": Family(
        "NanoDet-plus", _nanodet("corner", (8, 16, 32, 64)), channels="bgr", norm=_BGR_IMAGENET,
    ),
    "fastestdet": Family("FastestDet", _fastestdet, channels="bgr"),
    "rt-detr": Family("RT-DETR, of Ultralytics or Hugging Face", _rt_detr),
    "rf-detr": Family("RF-DETR", _rf_detr, norm=PRESETS["imagenet"]),
    "detr": Family("DETR", _detr, norm=PRESETS["imagenet"], fit=None),
    "timm": Family("classifiers of timm and torchvision", _timm, norm=None, fit="crop", resize="area"),
    "classifier": Family(
        "any classifier", _classifier, channels=None, norm=None, fit=None, resize="area", open_task=("activation",),
    ),
    "tao-classifier": Family(
        "NVIDIA TAO image classification (TensorFlow)", _classifier,
        channels="bgr", norm=((103.939, 116.779, 123.68), (1.0,)), open_task=("activation",),
    ),
    "tao-detectnet": Family("NVIDIA TAO DetectNet_v2", _detectnet),
    "tf-detection": Family("TensorFlow's object detection library through tf2onnx", _tensorflow, norm=PRESETS["raw"]),
    "custom": Family("anything that a task reads: say it all", _custom, channels=None, norm=None, fit=None),
}  # fmt: skip
ALIASES = {
    "yolov7": "yolov5", "yolov9": "yolov8", "yolov11": "yolov8", "yolo11": "yolov8", "yolov12": "yolov8",
    "yolo12": "yolov8", "yolov10": "end2end", "yolo26": "end2end", "nanodet-m": "nanodet", "rtdetr": "rt-detr",
    "rfdetr": "rf-detr", "torchvision": "timm", "tf2onnx-detection": "tf-detection", "detectnet": "tao-detectnet",
}  # fmt: skip
