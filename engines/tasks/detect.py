"""What all detectors share: a head finds candidates, the rest is the same for every family."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from engines.base import Raw
from engines.pixels import Geometry
from engines.results import Detections, Result
from engines.tasks import Options, Task, TaskConfig
from engines.tasks.boxes import Boxes, suppress
from engines.tasks.limits import resolve

LIMIT = 1000
"""Best candidates that suppression looks at: its time grows with their square, and a picture with more shows noise or
has a threshold of nearly 0."""
_SLIVER = 0.01
"""Source pixels: what is thinner after the cut at the region's edges lay outside of it, give or take rounding."""

Floats = NDArray[np.float32]
Row = Mapping[str, NDArray[Any]]
"""Output name -> one picture's row of it."""


class Candidates(NamedTuple):
    """Boxes before suppression, in any order. What is not a number or under its label's threshold is dropped later."""

    xyxy: Boxes
    """(K, 4) left, top, right, bottom in tensor pixels."""
    score: Floats
    """(K,) 0 to 1."""
    label: NDArray[np.integer]
    """(K,) of the model's labels."""


class DetectorConfig(TaskConfig):
    """Fields of every detector's config."""

    threshold: float = Field(default=0.25, ge=0, lt=1)
    """Least score that is reported."""
    iou: float = Field(default=0.6, gt=0, le=1)
    """Overlap over which the weaker of two boxes of one label goes; 1: none goes."""
    agnostic: bool = False
    """Whether a box also suppresses boxes of other labels."""

    @property
    def finds_boxes(self) -> bool:
        """See TaskConfig."""
        return True

    @abstractmethod
    def open(self, labels: Sequence[str], options: Options) -> Detector:
        """See TaskConfig."""


class Detector(Task):
    """Candidates, thresholds, suppression, source pixels: a head implements `candidates`."""

    def __init__(self, config: DetectorConfig, labels: Sequence[str], options: Options) -> None:
        """Raise CardError as TaskConfig.open."""
        self._limits = resolve(config, labels, options)
        self._iou = config.iou if options.iou is None else options.iou
        self._agnostic = config.agnostic if options.agnostic is None else options.agnostic
        self.least = self._limits.least
        """Candidates under this score are not wanted."""

    @abstractmethod
    def candidates(self, row: Row, size: tuple[int, int]) -> Candidates:
        """All boxes of one picture whose score is at least `least`; `size` is the tensor's (width, height)."""

    def read(self, raw: Raw, geometries: Sequence[Geometry]) -> list[Result]:
        """See Task."""
        # A network that overflows gives NaN and infinities; they are dropped, not warned of for each picture.
        with np.errstate(over="ignore", invalid="ignore"):
            return [self._read({n: array[i] for n, array in raw.items()}, g) for i, g in enumerate(geometries)]

    def _read(self, row: Row, geometry: Geometry) -> Detections:
        xyxy, score, classes = self.candidates(row, geometry.tensor)
        if not len(score):
            return Detections.empty()
        label = classes.astype(np.int32, copy=False)
        wanted = (score >= self._limits.thresholds[label]) & (score > 0) & (score < np.inf)
        rows = np.flatnonzero(wanted & np.isfinite(xyxy).all(axis=1))
        rows = rows[np.argsort(-score[rows], kind="stable")[:LIMIT]]
        score = np.minimum(score, np.float32(1))  # sums of rounded shares pass it
        xyxy, score, label = xyxy[rows], score[rows], label[rows]
        if self._iou < 1:
            keep = suppress(xyxy, score, None if self._agnostic else label, self._iou)
            xyxy, score, label = xyxy[keep], score[keep], label[keep]
        xyxy = geometry.to_source(xyxy)
        inside = np.flatnonzero(((xyxy[:, 2:] - xyxy[:, :2]) > _SLIVER).all(axis=1))
        keep = inside[self._limits.select(score[inside], label[inside])]
        return Detections(xyxy=xyxy[keep], score=score[keep], label=label[keep])


def best(values: Floats, least: float, first: int, labels: int) -> tuple[NDArray[np.intp], Floats, NDArray[np.intp]]:
    """Rows of `values` (A, ...) with a class of at least that score, and the score and number of their best class.

    The classes are `labels` columns from `first` on.
    """
    rows = _over(values, least, first, first + labels)
    score, label = best_class(values[rows, first : first + labels])
    return rows, score, label


def best_class(scores: Floats) -> tuple[Floats, NDArray[np.intp]]:
    """Score and number of the best class of each row of `scores` (K, C)."""
    label = scores.argmax(axis=1)
    return scores[np.arange(len(scores)), label], label


def _over(values: Floats, least: float, first: int, end: int) -> NDArray[np.intp]:
    """Rows with a number of at least `least` in columns `first` to `end`: most of a head's time, so with some care."""
    if values.strides[0] < values.strides[1]:  # columns are contiguous, and maxima along those are quick
        return np.flatnonzero(values[:, first:end].max(axis=1) >= least)
    # All columns are compared, which is quicker than to leave some out, and eight answers are looked at at once.
    words = np.empty(-(-values.size // 8), np.uint64)
    words[-1:] = 0  # its end may lie past the last number
    answers = words.view(np.bool_)
    over = answers[: values.size].reshape(values.shape)
    np.greater_equal(values, least, out=over)
    over[:, :first] = over[:, end:] = False
    some = (np.flatnonzero(words != 0)[:, None] * 8 + np.arange(8)).ravel()
    rows: NDArray[np.intp] = some[answers[some]] // values.shape[1]
    return rows[np.diff(rows, prepend=-1) > 0]  # they are in order: those of one row stand together
