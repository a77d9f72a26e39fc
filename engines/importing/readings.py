"""What the outputs of each family mean: from their shapes and ends to a task's config."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from engines.tasks.boxes import cells

Shape = tuple[int, ...]
Content = dict[str, Any]


class Unlike(Exception):
    """The outputs are not the family's; says what those are."""


@dataclass(frozen=True)
class Seen:
    """What the graph shows."""

    shapes: Mapping[str, Shape]
    """Output -> shape for one picture, the batch included."""
    ends: Mapping[str, frozenset[str]]
    """Output -> the operators that make its numbers, behind those that only move them."""
    size: tuple[int, int]
    labels: int | None
    """How many labels are known, where that is known before."""

    def only(self, rank: int, wanted: str) -> tuple[str, Shape]:
        """Return name and shape of the one output of that rank; others may be there (raw heads beside decoded ones).

        Raises Unlike.
        """
        found = [(name, shape) for name, shape in self.shapes.items() if len(shape) == rank]
        if len(found) != 1 or (len(self.shapes) > 1 and self.has_map):
            raise Unlike(wanted)
        return found[0]

    @property
    def has_map(self) -> bool:
        """Whether an output is a map of the picture: prototypes of masks, or a class for each pixel."""
        width, height = self.size
        maps = [shape for shape in self.shapes.values() if len(shape) in (3, 4) and shape[-1] != 4]
        return any(shape[-2:] in ((height, width), (height // 4, width // 4)) for shape in maps)


@dataclass(frozen=True)
class Reading:
    """A task's config, and how many classes the graph has by it (None: it does not say)."""

    task: Content
    classes: int | None


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


def yolox(seen: Seen) -> Reading:
    """YOLOX: cells of its strides; exports with `--decode_in_inference` end in exponents."""
    name, shape = seen.only(3, _YOLOX)
    strides = next((s for s in ((8, 16, 32), (8, 16, 32, 64)) if shape[1] == _cells(seen.size, s)), None)
    if strides is None or shape[2] < 6:
        raise Unlike(f"{_YOLOX}, {_cells(seen.size, (8, 16, 32))} cells at {seen.size[0]}x{seen.size[1]}")
    if _decoded(seen, name):  # --decode_in_inference
        task: Content = {"type": "yolo", "output": name, "layout": "rows", "objectness": True}
    else:
        task = {"type": "yolox", "output": name, "strides": list(strides), "activated": "Sigmoid" in seen.ends[name]}
    return Reading(task, shape[2] - 5)


def yolov5(seen: Seen) -> Reading:
    """Objectness between box and classes."""
    name, shape = seen.only(3, _V5)
    bare = shape[1] == _cells(seen.size, (8, 16, 32)) and not _decoded(seen, name)  # YOLOX, in strides of its grid
    if shape[2] < 6 or shape[1] < shape[2] or bare:
        raise Unlike(f"{_V5}, in pixels" if bare else _V5)
    return Reading({"type": "yolo", "output": name, "layout": "rows", "objectness": True}, shape[2] - 5)


def yolov8(seen: Seen) -> Reading:
    """A column for each box."""
    name, shape = seen.only(3, _V8)
    if shape[1] < 5 or shape[1] >= shape[2]:
        raise Unlike(_V8)
    return Reading({"type": "yolo", "output": name, "layout": "columns", "objectness": False}, shape[1] - 4)


def end2end(seen: Seen) -> Reading:
    """Finished rows: the graph suppressed."""
    name, shape = seen.only(3, _END2END)
    if shape[2] != 6:
        raise Unlike(_END2END)
    return Reading({"type": "nms", "output": name}, None)


def ultralytics(seen: Seen) -> Reading:
    """Whichever of its detectors the shapes show."""
    shape = seen.only(3, "one output of boxes and class scores")[1]
    if shape[2] > shape[1] >= 5:
        return yolov8(seen)
    anchors = shape[1] in (3 * _cells(seen.size, (8, 16, 32)), 3 * _cells(seen.size, (8, 16, 32, 64)))
    if shape[2] == 6 and not anchors:
        return end2end(seen)
    if anchors or (seen.labels is not None and shape[2] == 5 + seen.labels):
        return yolov5(seen)
    raise Unlike("(1, 4 + labels, boxes), (1, boxes, 5 + labels) or (1, boxes, 6)")


def nanodet(cell: str, strides: tuple[int, ...]) -> Callable[[Seen], Reading]:
    """One output, or two a stride; 8 bins a side."""

    def read(seen: Seen) -> Reading:
        activated = any("Sigmoid" in ends for ends in seen.ends.values())
        task: Content = {"type": "nanodet", "strides": list(strides), "cell": cell, "activated": activated}
        if len(seen.shapes) == 1:
            name, shape = seen.only(3, _NANODET)
            if shape[1] != _cells(seen.size, strides) or shape[2] < 33:
                raise Unlike(f"{_NANODET}, {_cells(seen.size, strides)} cells at {seen.size[0]}x{seen.size[1]}")
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
                raise Unlike(_NANODET)
            scores += score
            boxes += box
            classes.add(level[score[0]][2])
        return Reading({**task, "scores": scores, "boxes": boxes}, classes.pop())

    return read


def fastestdet(seen: Seen) -> Reading:
    """One grid."""
    name, shape = seen.only(4, _FASTESTDET)
    stride = seen.size[0] // shape[3] if shape[3] > 0 else 0
    if not stride or cells(seen.size, [stride]) != [(shape[3], shape[2])] or shape[1] < 6:
        raise Unlike(_FASTESTDET)
    return Reading({"type": "fastestdet", "output": name, "stride": stride}, shape[1] - 5)


def rt_detr(seen: Seen) -> Reading:
    """Ultralytics: one output, of finished rows where the graph ranks; Hugging Face: boxes and logits."""
    if len(seen.shapes) == 1:  # Ultralytics
        name, shape = seen.only(3, _RTDETR)
        if shape[2] == 6 and "TopK" in seen.ends[name]:  # else: a box and two classes
            return Reading({"type": "nms", "output": name, "order": "cxcywh", "scale": "unit"}, None)
        if shape[2] < 5 or shape[1] < shape[2]:
            raise Unlike(_RTDETR)
        task = {"type": "yolo", "output": name, "layout": "rows", "objectness": False, "boxes": "unit", "iou": 1.0}
        return Reading(task, shape[2] - 4)
    return _queries(seen, _RTDETR, "sigmoid")


def rf_detr(seen: Seen) -> Reading:
    """Boxes and logits of each query."""
    return _queries(seen, _RFDETR, "sigmoid")


def detr(seen: Seen) -> Reading:
    """Boxes and logits of each query, the last column saying nothing."""
    reading = _queries(seen, _RTDETR, "softmax")
    return Reading({**reading.task, "background": "last"}, reading.classes and reading.classes - 1)


def _queries(seen: Seen, wanted: str, activation: str) -> Reading:
    boxes = [name for name, shape in seen.shapes.items() if len(shape) == 3 and shape[2] == 4]
    if len(boxes) > 1:  # four classes
        boxes = [name for name in boxes if "box" in name.lower() or name == "dets"]
    scores = [name for name, shape in seen.shapes.items() if len(shape) == 3 and name not in boxes]
    if len(boxes) != 1 or len(scores) != 1 or seen.shapes[boxes[0]][1] != seen.shapes[scores[0]][1]:
        raise Unlike(wanted)
    if {"Sigmoid", "Softmax"} & seen.ends[scores[0]]:
        activation = "none"
    task = {"type": "detr", "boxes": boxes[0], "scores": scores[0], "activation": activation}
    return Reading(task, seen.shapes[scores[0]][2])


def detectnet(seen: Seen) -> Reading:
    """A grid of coverage and one of boxes."""
    four = [(name, shape) for name, shape in seen.shapes.items() if len(shape) == 4]
    if len(four) != 2 or four[0][1][2:] != four[1][1][2:]:
        raise Unlike(_DETECTNET)
    (coverage, small), (boxes, large) = sorted(four, key=lambda pair: pair[1][1])
    stride = seen.size[0] // large[3] if large[3] > 0 else 0
    if 4 * small[1] != large[1] or not stride or cells(seen.size, [stride]) != [(large[3], large[2])]:
        raise Unlike(_DETECTNET)
    return Reading({"type": "detectnet", "coverage": coverage, "boxes": boxes, "stride": stride}, small[1])


def tensorflow(seen: Seen) -> Reading:
    """The outputs of TensorFlow's object detection library, whatever its exporter put around their names."""

    def named(part: str) -> str:
        exact = [name for name in seen.shapes if part in name.lower() and "raw_" not in name.lower()]
        exact = [name for name in exact if "anchor" not in name and "multiclass" not in name] or exact
        if not exact:
            raise Unlike(_TENSORFLOW)
        return min(exact, key=len)

    boxes, scores, labels = (named(f"detection_{part}") for part in ("boxes", "scores", "classes"))
    task = {
        "type": "nms", "boxes": boxes, "scores": scores, "labels": labels,
        "order": "yxyx", "scale": "unit", "first_label": 1,
    }  # fmt: skip
    return Reading(task, None)


def classifier(seen: Seen) -> Reading:
    """Scores of all classes; activated where the graph ends so."""
    name, shape = seen.only(2, _CLASSIFIER)
    if shape[1] < 2 and seen.labels != 1:
        raise Unlike(_CLASSIFIER)
    task: Content = {"type": "classify", "scores": name}
    if "Softmax" in seen.ends[name] or "Sigmoid" in seen.ends[name]:
        task["activation"] = "none"
    return Reading(task, shape[1])


def timm(seen: Seen) -> Reading:
    """Logits, unless the graph ends in an activation."""
    reading = classifier(seen)
    return Reading({"activation": "softmax", **reading.task}, reading.classes)


def custom(seen: Seen) -> Reading:  # noqa: ARG001  # everything is the user's
    """Nothing is known: the task is the user's."""
    return Reading({}, None)


def _decoded(seen: Seen, name: str) -> bool:
    """Whether the graph makes pixels of an output's offsets."""
    return not seen.ends[name].isdisjoint({"Exp", "Mul", "ScatterND"})


def _cells(size: tuple[int, int], strides: tuple[int, ...]) -> int:
    return sum(columns * rows for columns, rows in cells(size, strides))
