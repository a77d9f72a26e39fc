"""AP of a detector, against labelled boxes or against another model's own detections."""

from __future__ import annotations

import operator
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from calibration.errors import DatasetError
from calibration.measures import RESAMPLES, Comparison, Measure
from calibration.measures.bootstrap import draws, interval
from calibration.measures.coco import SIZES, detections, precision, require_pycocotools
from calibration.measures.differences import boxes_differ
from calibration.measures.matching import IOUS, Matched, average_precision, match
from calibration.measures.worst import worst
from calibration.truth import Boxes
from engines.results import Detections, Result


class AveragePrecision(Measure):
    """COCO's AP at IoU .50 to .95, over the labels that the objects have."""

    def __init__(
        self, name: str, budget: float, objects: Sequence[Boxes], labels: Sequence[str], threshold: float
    ) -> None:
        """`objects`: of each sample. `threshold`: score over which users see a detection, for `badness` alone.

        Raises MissingExtra without pycocotools, DatasetError if there is no object.
        """
        require_pycocotools()
        self.name, self.budget = name, budget
        self._objects, self._labels, self._threshold = objects, labels, threshold
        self._first: _Model | None = None
        if all(boxes.crowd.all() for boxes in objects):
            raise DatasetError(
                f"{name}: none of the {len(objects)} pictures shows an object that the model knows: other pictures are "
                f"wanted, it knows {', '.join(labels[:5])}{', …' * (len(labels) > 5)}"
            )

    def score(self, results: Sequence[Result]) -> float:
        """See Measure. By pycocotools."""
        return 100 * precision(self._objects, self._found(results))

    def compare(self, a: Sequence[Result], b: Sequence[Result], resamples: int = RESAMPLES) -> Comparison:
        """See Measure."""
        # A search compares one model with many others.
        if self._first is None or not self._first.is_of(a, resamples):
            self._first = self._looked_at(a, resamples)
        first, second = self._first, self._looked_at(b, resamples)
        return Comparison(
            metric=self.name,
            a=first.score,
            b=second.score,
            loss=first.score - second.score,
            interval=interval(first.resampled - second.resampled),
            pictures=len(self._objects),
            details=self._details(first, second),
            given=len(self._objects),
            at_stake=max(first.score, second.score),
        )

    def badness(self, a: Sequence[Result], b: Sequence[Result]) -> NDArray[np.float64]:
        """See Measure. Scores of detections that only one has, and by how much those of both differ; summed."""
        pairs = zip(self._found(a), self._found(b), strict=True)
        return np.array([boxes_differ(x, y, self._threshold) for x, y in pairs], np.float64)

    def _found(self, results: Sequence[Result]) -> list[Detections]:
        if len(results) != len(self._objects):
            raise ValueError(f"{len(results)} results of {len(self._objects)} pictures")
        return detections(results)

    def _looked_at(self, results: Sequence[Result], resamples: int) -> _Model:
        matched = match(self._objects, self._found(results))
        once = np.ones((len(self._objects), 1), np.int32)
        return _Model(
            tuple(results),
            self.score(results),
            100 * _mean(_values(matched, 0, draws(len(self._objects), resamples))),
            {size: 100 * _values(matched, index, once)[..., 0] for index, size in enumerate(SIZES)},
            tuple((label.label, int(label.objects[0].sum())) for label in matched),
        )

    def _details(self, a: _Model, b: _Model) -> dict[str, Any]:
        details: dict[str, Any] = {
            f"AP {IOUS[at]:.2f}".replace("0.", "."): _both(a.by_size["all"][:, at], b.by_size["all"][:, at])
            for at in (0, 5)
        }
        for size in SIZES[1:]:
            if not np.isnan(a.by_size[size]).all():
                details[f"AP {size}"] = _both(a.by_size[size], b.by_size[size])
        by_label = (model.by_size["all"].mean(axis=1) for model in (a, b))
        rows = [
            (self._labels[label], float(x), float(y), count)
            for (label, count), x, y in zip(a.labels, *by_label, strict=True)
        ]
        return details | {
            "labels": len(rows),
            "worst classes": worst(rows, "objects", key=lambda row: row[1] - row[2]),
        }


@dataclass(frozen=True, eq=False)
class _Model:
    """What is known of one model's results: points of 100."""

    results: tuple[Result, ...]
    score: float
    resampled: NDArray[np.float64]
    """(R,) of each resample; NaN where it has no object."""
    by_size: dict[str, NDArray[np.float64]]
    """(labels, T) of objects of that size; NaN where a label has none."""
    labels: tuple[tuple[int, int], ...]
    """Label, and how many objects it has."""

    def is_of(self, results: Sequence[Result], resamples: int) -> bool:
        """Whether it is of these very results."""
        same = len(self.results) == len(results) and all(map(operator.is_, self.results, results))
        return same and len(self.resampled) == resamples


def own_objects(results: Sequence[Result], threshold: float) -> list[Boxes]:
    """A model's detections that users see, as if they were the truth."""
    shown = [found[found.score >= np.float32(threshold)] for found in detections(results)]
    boxes = []
    for found in shown:
        xyxy = found.xyxy.astype(np.float64)
        sides = xyxy[:, 2:] - xyxy[:, :2]
        boxes.append(Boxes(xyxy, found.label, np.zeros(len(found), np.bool_), sides[:, 0] * sides[:, 1]))
    return boxes


def _values(matched: Sequence[Matched], size: int, weights: NDArray[np.int32]) -> NDArray[np.float64]:
    """(labels, T, R) AP of each label; NaN where no object counts."""
    return np.stack([average_precision(label, size, weights) for label in matched])


def _mean(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """(R,) mean AP over the labels that have objects; NaN where none has."""
    known = ~np.isnan(values[:, 0])
    with np.errstate(invalid="ignore"):
        return np.asarray(np.nansum(values.mean(axis=1), axis=0) / known.sum(axis=0), np.float64)


def _both(a: NDArray[np.float64], b: NDArray[np.float64]) -> dict[str, float]:
    return {name: round(float(np.nanmean(values)), 3) for name, values in (("a", a), ("b", b))}
