"""COCO's average precision, by pycocotools."""

from __future__ import annotations

import contextlib
import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from calibration.errors import MissingExtra
from calibration.truth import Boxes
from calibration.truth.read import read_annotations
from engines.results import Detections, Result

SIZES = ("all", "small", "medium", "large")
"""Of objects: small below 32x32 pixels, large above 96x96."""


def require_pycocotools() -> None:
    """Raise MissingExtra without it."""
    try:
        import pycocotools.cocoeval  # noqa: F401  # is it there?
    except ImportError:
        raise MissingExtra("average precision needs pycocotools: pip install 'sightwire[calibrate]'") from None


def detections(results: Sequence[Result]) -> list[Detections]:
    """The results, which must be a detector's. Raises ValueError."""
    found = [result for result in results if isinstance(result, Detections)]
    if len(found) != len(results):
        raise ValueError("average precision is of detections, these are results of another task")
    return found


def precision(objects: Sequence[Boxes], found: Sequence[Detections]) -> float:
    """AP at IoU .50 to .95 of objects of all sizes, 0 to 1, over the labels that objects have; -1 without objects."""
    return _evaluated(objects, found, sizes=1)["all"]


def average_precision(annotations: Path, labels: Sequence[str], ids: Sequence[int], found: Sequence[Result]) -> float:
    """COCO's AP at IoU .50 to .95 over the labels, of the pictures of a COCO json with those ids.

    Raises DatasetError, MissingExtra.
    """
    return precision_by_size(annotations, labels, ids, found)["all"]


def precision_by_size(
    annotations: Path, labels: Sequence[str], ids: Sequence[int], found: Sequence[Result]
) -> dict[str, float]:
    """As `average_precision`, of all objects, and of small, medium and large ones."""
    require_pycocotools()
    objects = read_annotations(annotations).boxes(ids, labels)
    return {size: round(ap, 4) for size, ap in _evaluated(objects, detections(found), len(SIZES)).items()}


def _evaluated(objects: Sequence[Boxes], found: Sequence[Detections], sizes: int) -> dict[str, float]:
    """AP of the first so many sizes."""
    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval

    # Labels without an object have no AP: pycocotools leaves them out of the mean.
    labels = np.unique(np.concatenate([np.zeros(0, np.int32), *(boxes.label for boxes in objects)])).tolist()
    if not labels:
        return dict.fromkeys(SIZES[:sizes], -1.0)
    with contextlib.redirect_stdout(io.StringIO()):
        truth, guesses = COCO(), COCO()
        common = {"images": [{"id": i} for i in range(len(objects))], "categories": [{"id": k} for k in labels]}
        truth.dataset = common | {"annotations": _truth_rows(objects)}
        guesses.dataset = common | {"annotations": _guess_rows(found, set(labels))}
        truth.createIndex()
        guesses.createIndex()
        evaluation = COCOeval(truth, guesses, "bbox")
        evaluation.params.areaRng = evaluation.params.areaRng[:sizes]
        evaluation.params.areaRngLbl = list(SIZES[:sizes])
        evaluation.params.maxDets = evaluation.params.maxDets[-1:]
        evaluation.evaluate()
        evaluation.accumulate()
    values = evaluation.eval["precision"][..., 0]  # (IoU, recall, label, size), -1: no such object
    return {size: _mean(values[..., index]) for index, size in enumerate(SIZES[:sizes])}


def _mean(values: Any) -> float:
    known = values[values > -1]
    return float(np.mean(known)) if len(known) else -1.0


def _truth_rows(objects: Sequence[Boxes]) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = []
    for image, boxes in enumerate(objects):
        for xyxy, label, crowd, area in zip(boxes.xyxy, boxes.label, boxes.crowd, boxes.area, strict=True):
            rows.append(_row(len(rows), image, xyxy, label) | {"iscrowd": int(crowd), "area": float(area)})
    return rows


def _guess_rows(found: Sequence[Detections], labels: set[int]) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = []
    for image, boxes in enumerate(found):
        for xyxy, label, score in zip(boxes.xyxy.astype(np.float64), boxes.label, boxes.score, strict=True):
            if int(label) in labels:
                row = _row(len(rows), image, xyxy, label)
                area = row["bbox"][2] * row["bbox"][3]
                rows.append(row | {"iscrowd": 0, "area": area, "score": float(score)})
    return rows


def _row(index: int, image: int, xyxy: Any, label: int) -> dict[str, Any]:
    left, top, right, bottom = map(float, xyxy)
    bbox = [left, top, right - left, bottom - top]
    return {"id": index + 1, "image_id": image, "category_id": int(label), "bbox": bbox}  # an id of 0 means no match
