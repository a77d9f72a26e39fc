"""How good a model is on a set of pictures, and how much worse another one is on the same pictures.

A measure is made for one list of samples by `calibration.measures.choose.measure_for`. It scores the results of a model
on exactly these, in their order; scores are points of 100. Results are read with the options of
`calibration.measures.choose.reading`. `compare` pairs two models picture by picture: its interval is a bootstrap over
pictures, both models resampled together (Efron & Tibshirani, An Introduction to the Bootstrap, 1993, chapter 13).
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from engines.results import Result

RESAMPLES = 1000
Z = 1.959964
"""A normal distribution has 95 % within so many standard deviations."""


@dataclass(frozen=True)
class Comparison:
    """Model `b` against model `a` on the same pictures, in points of 100."""

    metric: str
    """`top-1`, `AP .50:.95`, `agreement where FP32 is sure`, `AP .50:.95 against FP32's own detections`."""
    a: float
    b: float
    loss: float
    """a - b: what b loses."""
    interval: tuple[float, float]
    """95 % of the bootstrap's losses lie within."""
    pictures: int
    """That counted."""
    details: dict[str, Any]
    """Further figures by name, JSON values; see docs/accuracy.md."""
    given: int
    """Pictures there were; those on which FP32 is not sure count for nothing, say."""
    at_stake: float = 100.0
    """Points that the average picture brings if all of it is right."""

    @property
    def resolution(self) -> float:
        """Differences smaller than this cannot be told from chance on these pictures, in points.

        Half the interval's width, widened as if the models differed on two pictures more, wholly and in opposite
        directions (Bonett & Price, Adjusted Wald intervals for a difference of proportions, 2012): where they differ on
        none, the bootstrap has nothing to resample and its interval is (0, 0), however few pictures there are.
        """
        return math.hypot(self._half, _unseen(self.at_stake) / self.pictures)

    def resolves(self, budget: float) -> bool:
        """Whether a loss of the budget can be told from chance on these pictures."""
        return self.resolution <= budget

    def pictures_needed(self, budget: float) -> int | None:
        """About how many pictures, of this kind, would resolve a budget: as many as there were, if they do.

        None: no number of them resolves a budget of 0.
        """
        if self.resolves(budget):
            return self.given
        if budget <= 0:
            return None
        spread, unseen = self._half**2 * self.pictures, _unseen(self.at_stake)
        # The root of budget**2 = spread / n + (unseen / n)**2.
        needed = (spread + math.hypot(spread, 2 * budget * unseen)) / (2 * budget**2)
        return math.ceil(needed * self.given / self.pictures)

    @property
    def _half(self) -> float:
        return (self.interval[1] - self.interval[0]) / 2


def _unseen(at_stake: float) -> float:
    return Z * math.sqrt(2) * at_stake


class Measure(ABC):
    """One metric over one list of samples."""

    name: str
    budget: float
    """Points that may be lost unless asked otherwise."""

    @abstractmethod
    def score(self, results: Sequence[Result]) -> float:
        """Points of 100 over all samples; `results` has one for each sample, in order."""

    @abstractmethod
    def compare(self, a: Sequence[Result], b: Sequence[Result], resamples: int = RESAMPLES) -> Comparison:
        """How much worse b is than a, with its interval; the same numbers give the same answer."""

    @abstractmethod
    def badness(self, a: Sequence[Result], b: Sequence[Result]) -> NDArray[np.float64]:
        """(samples,) how far b is from a on each picture, 0: the same; the report shows the worst."""
