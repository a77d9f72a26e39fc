"""Shares of pictures: those whose best class is right, or the one that another model is sure of."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from calibration.errors import DatasetError
from calibration.measures import RESAMPLES, Comparison, Measure
from calibration.measures.bootstrap import draws, interval
from calibration.measures.differences import best, classes_differ
from calibration.measures.worst import worst
from engines.results import Classification, Result

SURE = 0.1
"""Least margin between the two best scores of a model that is sure."""

Labels = NDArray[np.int64]


class Share(Measure):
    """Share of the pictures that count, whose best class is the wanted one."""

    def __init__(
        self, name: str, budget: float, wanted: Labels, counts: NDArray[np.bool_], labels: Sequence[str]
    ) -> None:
        """`wanted`: (samples,) class of each, and `counts`: (samples,) whether it counts."""
        self.name, self.budget = name, budget
        self._wanted, self._counts, self._labels = wanted, counts, labels

    def score(self, results: Sequence[Result]) -> float:
        """See Measure."""
        return 100 * float(self._right(self._told(results)).mean())

    def compare(self, a: Sequence[Result], b: Sequence[Result], resamples: int = RESAMPLES) -> Comparison:
        """See Measure."""
        told = self._told(a), self._told(b)
        right = [self._right(results) for results in told]
        pictures = len(right[0])
        losses = 100 * ((right[0].astype(np.int64) - right[1]) @ draws(pictures, resamples)) / pictures
        scores = [100 * float(of.mean()) for of in right]
        return Comparison(
            metric=self.name,
            a=scores[0],
            b=scores[1],
            loss=scores[0] - scores[1],
            interval=interval(losses),
            pictures=pictures,
            details=self.details(*told) | {"worst classes": self._worst(*right)},
            given=len(self._wanted),
        )

    def badness(self, a: Sequence[Result], b: Sequence[Result]) -> NDArray[np.float64]:
        """See Measure. Half the sum of the differences of all scores, and 1 more where the best class differs."""
        pairs = zip(self._told(a), self._told(b), strict=True)
        return np.array([classes_differ(x, y) for x, y in pairs], np.float64)

    @abstractmethod
    def details(self, a: Sequence[Classification], b: Sequence[Classification]) -> dict[str, Any]:
        """Further figures."""

    def _told(self, results: Sequence[Result]) -> list[Classification]:
        told = [result for result in results if isinstance(result, Classification)]
        if len(told) != len(self._wanted):
            raise ValueError(f"{len(told)} classifications of {len(self._wanted)} pictures")
        return told

    def _right(self, told: Sequence[Classification]) -> NDArray[np.bool_]:
        """(pictures that count,)"""
        right: NDArray[np.bool_] = (_best(told) == self._wanted)[self._counts]
        return right

    def _worst(self, a: NDArray[np.bool_], b: NDArray[np.bool_]) -> list[dict[str, Any]]:
        rows = []
        for label in np.unique(self._wanted[self._counts]):
            of = self._wanted[self._counts] == label
            rows.append((self._labels[label], 100 * float(a[of].mean()), 100 * float(b[of].mean()), int(of.sum())))
        return worst(rows, "pictures", key=lambda row: (row[1] - row[2]) * row[3])


class Top1(Share):
    """Share of the pictures whose best class is the right one."""

    def __init__(self, budget: float, wanted: Labels, labels: Sequence[str]) -> None:
        super().__init__("top-1", budget, wanted, np.ones(len(wanted), np.bool_), labels)

    def details(self, a: Sequence[Classification], b: Sequence[Classification]) -> dict[str, Any]:
        """Top-5 of models that have more classes, and on how many pictures both say the same."""
        details: dict[str, Any] = {"agreement": _points(_best(a) == _best(b))}
        if len(self._labels) > 5:
            details["top-5"] = {name: self._among(told, 5) for name, told in (("a", a), ("b", b))}
        return details

    def _among(self, told: Sequence[Classification], count: int) -> float:
        return _points([wanted in result.label[:count] for wanted, result in zip(self._wanted, told, strict=True)])


class Agreement(Share):
    """Share of the pictures of whose class another model is sure, that get the same class."""

    def __init__(self, budget: float, reference: Sequence[Result], labels: Sequence[str], name: str) -> None:
        """Raises DatasetError if the reference is sure of no picture."""
        told = [result for result in reference if isinstance(result, Classification)]
        if len(told) != len(reference):
            raise ValueError("agreement is of classifications, these are results of another task")
        sure = np.array([_margin(result) > SURE for result in told], np.bool_)
        if not sure.any():
            raise DatasetError(
                f"{name} is sure of the class of none of the {len(told)} pictures (margin of its two best scores over "
                f"{SURE}): they say nothing of this model; show it what it knows, or give --labels"
            )
        super().__init__(f"agreement where {name} is sure", budget, _best(told), sure, labels)

    def details(self, a: Sequence[Classification], b: Sequence[Classification]) -> dict[str, Any]:
        """How many were sure, and the agreement on all."""
        return {"sure": int(self._counts.sum()), "agreement": _points(_best(a) == _best(b))}


def _best(told: Sequence[Classification]) -> Labels:
    return np.array([best(result) for result in told], np.int64)


def _margin(result: Classification) -> float:
    first, second, *_ = (*map(float, result.score[:2]), 0.0, 0.0)
    return first - second


def _points(of: Any) -> float:
    return round(100 * float(np.mean(of)), 3)
