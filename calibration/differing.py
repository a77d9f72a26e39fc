"""The pictures on which two models differ most: named in the proof, side by side in the report."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from calibration.measures import Measure
from calibration.pictures import Sample
from calibration.proof import Worst
from calibration.report import SideBySide
from calibration.truth import Truth
from engines.results import Classification, Detections, Result
from engines.tasks import TaskConfig

_WORST = 16
"""Pictures that are named."""
_NAMED = 3
"""Classes or objects that a line about a picture names."""
_SHOWN = 0.3
"""Least score of a box that is shown, of a card without a threshold of its own."""


@dataclass(frozen=True, eq=False)
class Answers:
    """What two models say of the same pictures."""

    samples: Sequence[Sample]
    a: Sequence[Result]
    b: Sequence[Result]
    labels: tuple[str, ...]
    truth: Truth | None
    threshold: float
    """Least score of a box that users see."""

    def worst(self, measure: Measure) -> tuple[Worst, ...]:
        """The pictures on which they differ most, the worst first; none on which they agree."""
        badness = measure.badness(self.a, self.b)
        return tuple(
            Worst(
                picture=self.samples[row].name,
                badness=round(float(badness[row]), 4),
                fp32=in_words(self.a[row], self.labels, self.threshold),
                int8=in_words(self.b[row], self.labels, self.threshold),
            )
            for row in np.argsort(-badness, kind="stable")[:_WORST].tolist()
            if badness[row] > 0
        )

    def side_by_side(self, worst: Sequence[Worst]) -> list[SideBySide]:
        """These pictures, read once more. Raises DatasetError."""
        places = {sample.name: index for index, sample in enumerate(self.samples)}
        rows = [places[one.picture] for one in worst]
        truth = {} if self.truth is None else self.truth.of
        return [
            SideBySide(
                self.samples[row].name, self.samples[row].read(), self.a[row], self.b[row], self.labels,
                truth.get(self.samples[row].name), self.threshold,
            )
            for row in rows
        ]  # fmt: skip


def threshold_of(config: TaskConfig) -> float:
    """Least score of a box that users see."""
    return config.threshold or _SHOWN


def in_words(result: Result, labels: Sequence[str], threshold: float) -> str:
    """What a model says of a picture, in a line: its best classes, or the boxes that users see."""
    if isinstance(result, Detections):
        result = result[result.score >= threshold]
    if not len(result):
        return "nothing"
    best = [
        f"{labels[label]} {score:.2f}"
        for label, score in zip(result.label[:_NAMED].tolist(), result.score[:_NAMED].tolist(), strict=True)
    ]
    more = len(result) - len(best)
    return ", ".join(best) + (f" and {more} more" if more and not isinstance(result, Classification) else "")
