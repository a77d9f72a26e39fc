"""COCO's average precision taken apart: matched once, then counted for pictures of any weight.

What pycocotools does in loops is done here for all IoU limits and sizes at once, with the same result (the tests hold
it to that): a thousand resamples of the pictures would otherwise take hours. Lin et al., Microsoft COCO, 2014, and
`COCOeval` of its evaluation code, whose rules for crowds, sizes and equal scores are these.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from calibration.measures.bootstrap import Counts
from calibration.truth import Boxes
from engines.results import Detections

IOUS = np.linspace(0.5, 0.95, 10)
RECALLS = np.linspace(0.0, 1.0, 101)
AREAS = np.array([[0, 1e10], [0, 32**2], [32**2, 96**2], [96**2, 1e10]], np.float64)
"""Square pixels of all, small, medium and large objects, as `calibration.measures.coco.SIZES` has them."""
_TOP = 100
"""Detections of one label in one picture."""
_CELLS = 4_000_000
"""Numbers in one array: resamples are counted in portions of so many."""

Bools = NDArray[np.bool_]
Floats = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Matched:
    """All detections of one label, best first, and whether they are right: A sizes, T limits of IoU, N detections."""

    label: int
    picture: NDArray[np.intp]
    """(N,)"""
    hit: Bools
    """(A, T, N) found an object that counts."""
    ignored: Bools
    """(A, T, N) counts neither way."""
    objects: NDArray[np.int32]
    """(A, pictures) objects that count."""


def match(objects: Sequence[Boxes], found: Sequence[Detections]) -> list[Matched]:
    """Match the detections of each picture with its objects, for each label that objects have."""
    labels = np.unique(np.concatenate([np.zeros(0, np.int32), *(boxes.label for boxes in objects)]))
    nothing = np.zeros((len(AREAS), len(IOUS), 0), np.bool_)
    pictures, guesses, hits, ignored = [np.zeros(0, np.intp)], [Detections.empty()], [nothing], [nothing]
    for index, (truth, guess) in enumerate(zip(objects, found, strict=True)):
        guess = _first(guess[np.isin(guess.label, labels)])
        hit, skip = _match_picture(truth, guess)
        pictures.append(np.full(len(guess), index))
        guesses.append(guess)
        hits.append(hit)
        ignored.append(skip)
    said = np.concatenate([guess.label for guess in guesses])
    score = np.concatenate([guess.score for guess in guesses])
    order = np.lexsort((-score, said))  # stable: of equal scores the earlier picture's goes first
    starts, ends = (np.searchsorted(said[order], labels, side) for side in ("left", "right"))
    picture, hit, skip = np.concatenate(pictures), np.concatenate(hits, axis=2), np.concatenate(ignored, axis=2)
    counts = _objects(objects, labels)
    return [
        Matched(int(label), picture[rows], hit[:, :, rows], skip[:, :, rows], counts[index])
        for index, label in enumerate(labels)
        for rows in [order[starts[index] : ends[index]]]
    ]


def average_precision(matched: Matched, size: int, weights: Counts) -> Floats:
    """(T, R) AP of one label at each IoU limit, for each of R weightings (pictures, R); NaN where no object counts."""
    hits = matched.hit[size] & ~matched.ignored[size]
    last = int(np.flatnonzero(hits.any(axis=0))[-1]) + 1 if hits.any() else 0  # what comes after changes nothing
    portion = max(1, _CELLS // max(last, 1))
    starts = range(0, weights.shape[1], portion)
    return np.concatenate(
        [_counted(matched, size, hits[:, :last], weights[:, at : at + portion]) for at in starts], axis=1
    )


def _counted(matched: Matched, size: int, hits: Bools, weights: Counts) -> Floats:
    objects = matched.objects[size] @ weights
    weight = weights[matched.picture[: hits.shape[1]]]
    seen = np.cumsum(weight, axis=0, dtype=np.int32)
    values = np.empty((len(IOUS), weights.shape[1]))
    for t, hit in enumerate(hits):
        at = np.flatnonzero(hit)
        right = np.cumsum(weight[at], axis=0, dtype=np.int32)
        counted = seen[at] - _before(at, np.flatnonzero(matched.ignored[size, t, : hits.shape[1]]), weight)
        with np.errstate(invalid="ignore", divide="ignore"):
            recall = right / objects
        # Precision can be highest only at a hit, so the others need not be looked at.
        precision = right / (counted + np.spacing(1))
        precision = np.maximum.accumulate(precision[::-1], axis=0)[::-1]
        reached = np.searchsorted(RECALLS, recall, side="right")
        values[t] = (precision * np.diff(reached, axis=0, prepend=0)).sum(axis=0) / len(RECALLS)
    values[:, objects == 0] = np.nan
    return values


def _before(at: NDArray[np.intp], ignored: NDArray[np.intp], weight: Counts) -> Any:
    """(len(at), R) weight of the ignored detections before each of those."""
    if not len(ignored):
        return 0
    sums = np.concatenate(
        [np.zeros((1, weight.shape[1]), np.int32), np.cumsum(weight[ignored], axis=0, dtype=np.int32)]
    )
    return sums[np.searchsorted(ignored, at)]


def _first(guess: Detections) -> Detections:
    """Best first, and of each label as many as count."""
    guess = guess[np.argsort(-guess.score, kind="stable")]
    if len(guess) > _TOP:
        later = [np.flatnonzero(guess.label == label)[_TOP:] for label in np.unique(guess.label)]
        guess = guess[np.delete(np.arange(len(guess)), np.concatenate(later))]
    return guess


def _objects(objects: Sequence[Boxes], labels: NDArray[np.int32]) -> NDArray[np.int32]:
    """(labels, A, pictures) objects that count."""
    counts = np.zeros((len(labels), len(AREAS), len(objects)), np.int32)
    for picture, truth in enumerate(objects):
        row = np.searchsorted(labels, truth.label)
        for size, skipped in enumerate(_skipped(truth.crowd, truth.area)):
            np.add.at(counts[:, size, picture], row[~skipped], 1)
    return counts


def _skipped(crowd: Bools, area: Floats) -> Bools:
    """(A, G) which objects count neither way."""
    return crowd | (area < AREAS[:, :1]) | (area > AREAS[:, 1:])


def _match_picture(truth: Boxes, guess: Detections) -> tuple[Bools, Bools]:
    """(A, T, D) which of a picture's D detections, best first, found an object, and which count neither way."""
    xyxy = guess.xyxy.astype(np.float64)
    xywh = np.hstack([xyxy[:, :2], xyxy[:, 2:] - xyxy[:, :2]])
    outside = _skipped(np.zeros(len(xywh), np.bool_), xywh[:, 2] * xywh[:, 3])
    shape = (len(AREAS), len(IOUS), len(guess))
    hit, ignored = np.zeros(shape, np.bool_), np.repeat(outside[:, None], len(IOUS), axis=1)
    for label in np.unique(truth.label):
        # Of equally good objects the last is taken: turned round, that is the first.
        mine, yours = np.flatnonzero(truth.label == label)[::-1], np.flatnonzero(guess.label == label)
        if len(yours):
            _match_label(truth, mine, xywh, yours, hit, ignored)
    return hit, ignored


def _match_label(
    truth: Boxes, mine: NDArray[np.intp], xywh: Floats, yours: NDArray[np.intp], hit: Bools, ignored: Bools
) -> None:
    """Match a picture's detections and objects of one label, and enter what was found."""
    from pycocotools import mask

    corner, crowd = truth.xyxy[mine, :2], truth.crowd[mine]
    objects = np.hstack([corner, truth.xyxy[mine, 2:] - corner])
    ious = mask.iou(xywh[yours], objects, crowd.astype(np.uint8).tolist())
    skipped = _skipped(crowd, truth.area[mine])
    free = np.ones((len(AREAS), len(IOUS), len(mine)), np.bool_)
    rows, columns = np.indices(free.shape[:2])
    for d in np.flatnonzero(ious.max(axis=1) >= IOUS[0]):
        near = (free | crowd) & (ious[d] >= np.minimum(IOUS, 1 - 1e-10)[:, None])
        counting = near & ~skipped[:, None]
        # An object that counts goes before a nearer one that does not.
        allowed = np.where(counting.any(axis=2, keepdims=True), counting, near)
        best = np.where(allowed, ious[d], -1.0).argmax(axis=2)
        some = near.any(axis=2)
        hit[:, :, yours[d]] = some
        ignored[:, :, yours[d]] = np.where(some, skipped[rows, best], ignored[:, :, yours[d]])
        free[rows[some], columns[some], best[some]] = False
