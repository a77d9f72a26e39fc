"""Networks' answers, made from the boxes that they are to mean: for every head, and every arrangement that it reads."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from engines.model import TASKS
from engines.parts import find_parts
from engines.results import Detections
from engines.tasks import ANY, TaskConfig
from engines.tasks.boxes import cells, grid
from engines.tasks.ssd import anchors

Row = dict[str, NDArray[Any]]
Size = tuple[int, int]
LOW = -12.0
"""The logit of what is not there."""


@dataclass(frozen=True)
class Head:
    """A task as a card has it, and how its network would say that some boxes are there."""

    task: dict[str, Any]
    encode: Callable[[Head, Detections, int, Size], Row]
    """(head, boxes in tensor pixels, number of labels, tensor's size) -> output name -> one picture's row."""
    rows: int = 40
    """Of outputs that may have any number."""

    @property
    def config(self) -> TaskConfig:
        return cast(TaskConfig, find_parts(*TASKS)[self.task["type"]].model_validate(self.task))

    def blank(self, labels: int, size: Size) -> Row:
        """Zeros of the shapes that the task asks for."""
        shapes = self.config.outputs(labels, size)
        return {n: np.zeros([self.rows if s == ANY else s for s in shape], np.float32) for n, shape in shapes.items()}

    def row(self, found: Detections, labels: int, size: Size) -> Row:
        return self.encode(self, found, labels, size)


def logits(share: Any) -> NDArray[Any]:
    share = np.clip(share, 1e-9, 1 - 1e-7)
    return np.log(share / (1 - share))


def centre(found: Detections) -> NDArray[Any]:
    return (found.xyxy[:, :2] + found.xyxy[:, 2:]) / 2


def sides(found: Detections) -> NDArray[Any]:
    return found.xyxy[:, 2:] - found.xyxy[:, :2]


def cells_of(found: Detections, size: Size, strides: list[int], start: float = 0.5) -> NDArray[np.intp]:
    """For each box a row of the grids of its own: the nearest to its centre, of those that start in it if any does.

    `start`: where in its cell distances start, in strides.
    """
    corner, stride = grid(size, strides)
    at = (corner + start) * stride
    taken: list[int] = []
    for xyxy, middle in zip(found.xyxy, centre(found), strict=True):
        outside = ((at < xyxy[:2]) | (at > xyxy[2:])).any(axis=1)
        order = np.lexsort((np.abs(at - middle).max(axis=1), outside))
        taken.append(next(int(row) for row in order if row not in taken))
    return np.array(taken, np.intp)


def yolox(head: Head, found: Detections, labels: int, size: Size) -> Row:
    out = head.blank(labels, size)
    values, rows = out["output"], cells_of(found, size, [8, 16, 32])
    corner, stride = (part[rows] for part in grid(size, [8, 16, 32]))
    values[rows, :2] = centre(found) / stride - corner
    values[rows, 2:4] = np.log(sides(found) / stride)
    values[rows, 4] = 0.95
    values[rows, 5 + found.label] = found.score / 0.95
    if not head.task.get("activated", True):
        values[:, 4:] = logits(values[:, 4:])
    return out


def yolo(head: Head, found: Detections, labels: int, size: Size) -> Row:
    out, count = head.blank(labels, size), len(found)
    values = out["output"] if head.task["layout"] == "rows" else out["output"].T
    scale = np.array(size, np.float32) if head.task.get("boxes") == "unit" else 1
    values[:count, :2], values[:count, 2:4] = centre(found) / scale, sides(found) / scale
    score = found.score
    if head.task["objectness"]:
        values[:count, 4] = 0.95
        score = score / 0.95
    values[np.arange(count), 4 + head.task["objectness"] + found.label] = score
    return out


def nanodet(head: Head, found: Detections, labels: int, size: Size) -> Row:
    strides = head.task.get("strides", [8, 16, 32])
    start = 0.5 if head.task["cell"] == "middle" else 0
    rows = cells_of(found, size, strides, start)
    corner, stride = (part[rows] for part in grid(size, strides))
    at = corner + start
    distance = np.concatenate([at - found.xyxy[:, :2] / stride, found.xyxy[:, 2:] / stride - at], axis=1)
    # Between two bins: shares of both whose mean is the distance.
    low = np.clip(np.floor(distance).astype(int), 0, 6)
    distance = np.clip(distance, 0, 7)
    shares = np.zeros((len(found), 4, 8))
    np.put_along_axis(shares, low[..., None], (1 - (distance - low))[..., None], axis=2)
    np.put_along_axis(shares, low[..., None] + 1, (distance - low)[..., None], axis=2)
    counts = [w * h for w, h in cells(size, strides)]
    scores, bins = np.zeros((sum(counts), labels)), np.zeros((sum(counts), 32))
    scores[rows, found.label] = found.score
    bins[rows] = np.log(np.clip(shares, 1e-12, 1)).reshape(-1, 32)
    if "output" in head.task:
        return {head.task["output"]: np.concatenate([scores, bins], axis=1).astype(np.float32)}
    cuts = np.cumsum(counts)[:-1]
    names = (*head.task["scores"], *head.task["boxes"])
    parts = (*np.split(scores, cuts), *np.split(bins, cuts))
    return {name: part.astype(np.float32) for name, part in zip(names, parts, strict=True)}


def fastestdet(head: Head, found: Detections, labels: int, size: Size) -> Row:
    out = head.blank(labels, size)
    values, rows = out["output"].reshape(5 + labels, -1), cells_of(found, size, [16])
    corner, _ = grid(size, [16])
    shares = np.array(out["output"].shape[:0:-1], np.float32)
    values[0, rows] = found.score
    values[1:3, rows] = np.arctanh(np.clip(centre(found) / size * shares - corner[rows], -0.9999, 0.9999)).T
    values[3:5, rows] = logits(sides(found) / size).T
    values[5 + found.label, rows] = found.score
    return out


def detr(head: Head, found: Detections, labels: int, size: Size) -> Row:
    out, rows = head.blank(labels, size), np.arange(len(found))
    boxes = found.xyxy if head.task.get("order") == "xyxy" else np.concatenate([centre(found), sides(found)], axis=1)
    out["boxes"][rows] = boxes / (1 if head.task.get("scale") == "pixels" else np.array(size * 2))
    first = int(head.task.get("background") == "first")
    if head.task["activation"] == "softmax":
        shares = np.zeros_like(out["scores"])
        shares[rows, first + found.label] = found.score
        shares[:, 0 if first else -1] = 1 - shares.sum(axis=1)
        out["scores"][:] = np.log(np.clip(shares, 1e-9, 1))
        return out
    out["scores"][rows, first + found.label] = found.score
    if head.task["activation"] == "sigmoid":
        out["scores"][:] = logits(out["scores"])
    return out


def nms(head: Head, found: Detections, labels: int, size: Size) -> Row:
    out, rows, task = head.blank(labels, size), slice(len(found)), head.task
    boxes = out[task.get("output", task.get("boxes"))]
    xyxy = found.xyxy / (np.array(size * 2) if task.get("scale") == "unit" else 1)
    boxes[rows, :4] = xyxy[:, [1, 0, 3, 2]] if task.get("order") == "yxyx" else xyxy
    (out[task["scores"]] if "scores" in task else boxes[:, 4])[rows] = found.score
    (out[task["labels"]] if "labels" in task else boxes[:, 5])[rows] = found.label + task.get("first_label", 0)
    if "count" in task:
        out[task["count"]][:] = len(found)
        out[task["scores"]][len(found) :] = 0.99  # whatever stands there means nothing
    return out


def detectnet(head: Head, found: Detections, labels: int, size: Size) -> Row:
    out, rows = head.blank(labels, size), cells_of(found, size, [16])
    corner, _ = grid(size, [16])
    at = corner[rows] * 16 + 0.5
    x, y = corner[rows].astype(int).T
    out["coverage"][found.label, y, x] = found.score
    distances = np.concatenate([at - found.xyxy[:, :2], found.xyxy[:, 2:] - at], axis=1) / 35
    out["boxes"].reshape(labels, 4, *out["boxes"].shape[1:])[found.label, :, y, x] = distances
    return out


def ssd(head: Head, found: Detections, labels: int, size: Size) -> Row:
    out, rows = head.blank(labels, size), np.arange(len(found))
    known = anchors(cast(Any, head.config))[rows]
    out["scores"][:] = LOW
    out["scores"][rows, 1 + found.label] = logits(found.score)
    out["boxes"][rows, :2] = (centre(found) / size)[:, ::-1] - known[:, :2]
    out["boxes"][rows, :2] *= 10 / known[:, 2:]
    out["boxes"][rows, 2:] = np.log((sides(found) / size)[:, ::-1] / known[:, 2:]) * 5
    return out


APART = {"scores": ["s8", "s16", "s32"], "boxes": ["b8", "b16", "b32"]}
HEADS: dict[str, Head] = {
    "yolox": Head({"type": "yolox", "output": "output"}, yolox),
    "yolox, logits": Head({"type": "yolox", "output": "output", "activated": False}, yolox),
    "yolo v5": Head({"type": "yolo", "output": "output", "layout": "rows", "objectness": True}, yolo),
    "yolo v8": Head({"type": "yolo", "output": "output", "layout": "columns", "objectness": False}, yolo),
    "yolo, unit rows": Head(
        {"type": "yolo", "output": "output", "layout": "rows", "objectness": False, "boxes": "unit"}, yolo
    ),
    "nanodet-m": Head({"type": "nanodet", "cell": "middle", **APART}, nanodet),
    "nanodet-plus": Head(
        {"type": "nanodet", "cell": "corner", "output": "output", "strides": [8, 16, 32, 64]}, nanodet
    ),
    "fastestdet": Head({"type": "fastestdet", "output": "output"}, fastestdet),
    "detr": Head(
        {"type": "detr", "boxes": "boxes", "scores": "scores", "activation": "softmax", "background": "last"}, detr
    ),
    "rt-detr": Head({"type": "detr", "boxes": "boxes", "scores": "scores", "activation": "sigmoid"}, detr),
    "rf-detr": Head(
        {"type": "detr", "boxes": "boxes", "scores": "scores", "activation": "sigmoid", "background": "first"}, detr
    ),
    "yolo-nas": Head(
        {"type": "detr", "boxes": "boxes", "scores": "scores", "activation": "none", "order": "xyxy"}
        | {"scale": "pixels", "iou": 0.6},
        detr,
    ),
    "nms, one output": Head({"type": "nms", "output": "output"}, nms),
    "nms, scores in boxes": Head({"type": "nms", "boxes": "boxes", "labels": "labels"}, nms),
    "nms, torchvision": Head(
        {"type": "nms", "boxes": "boxes", "scores": "scores", "labels": "labels", "first_label": 1}, nms
    ),
    "nms, counted": Head(
        {"type": "nms", "boxes": "boxes", "scores": "scores", "labels": "labels", "count": "count"}, nms
    ),
    "nms, tensorflow": Head(
        {"type": "nms", "boxes": "boxes", "scores": "scores", "labels": "labels", "count": "count"}
        | {"order": "yxyx", "scale": "unit", "first_label": 1},
        nms,
    ),
    "detectnet": Head({"type": "detectnet", "coverage": "coverage", "boxes": "boxes"}, detectnet),
    "ssd": Head({"type": "ssd", "boxes": "boxes", "scores": "scores", "grids": [4, 2]}, ssd),
}


def apart(count: int, labels: int, size: Size, seed: int) -> Detections:
    """Up to `count` boxes that do not overlap, each in a square of 64 pixels of its own; best first, all over 0.3."""
    rng = np.random.default_rng(seed)
    columns, rows = size[0] // 64, size[1] // 64
    square = rng.permutation(columns * rows)[:count]
    corner = np.stack([square % columns, square // columns], axis=1) * 64 + rng.uniform(1, 10, (len(square), 2))
    return Detections(
        xyxy=np.concatenate([corner, corner + rng.uniform(12, 50, (len(square), 2))], axis=1),
        score=np.sort(rng.uniform(0.3, 0.94, len(square)))[::-1],
        label=rng.integers(0, labels, len(square)),
    )


def crowd(count: int, labels: int, size: Size, seed: int) -> Detections:
    """Boxes anywhere in the tensor, many of which overlap."""
    rng = np.random.default_rng(seed)
    middle, half = rng.uniform(0.2, 0.8, (count, 2)) * size, rng.uniform(0.05, 0.2, (count, 2)) * size
    return Detections(
        xyxy=np.concatenate([middle - half, middle + half], axis=1),
        score=np.sort(rng.uniform(0.3, 0.94, count))[::-1],
        label=rng.integers(0, labels, count),
    )
