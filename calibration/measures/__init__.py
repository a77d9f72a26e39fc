"""How good a model is on a set of pictures, and how much worse another one is on the same pictures.

A measure is made for one list of samples. It scores the results of a model on exactly these, in their order; scores
are points of 100. `compare` pairs two models picture by picture: its interval is a bootstrap over pictures, both
models resampled together (Efron & Tibshirani, An Introduction to the Bootstrap, 1993, chapter 13).
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from engines.results import Result

RESAMPLES = 1000


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
    """Further figures by name, JSON values: `top-5`, AP by size, the worst classes with their losses."""

    @property
    def resolution(self) -> float:
        """Half the interval's width: differences smaller than this cannot be told from chance on these pictures."""
        return (self.interval[1] - self.interval[0]) / 2


class Measure(ABC):
    """One metric over one list of samples."""

    name: str

    @abstractmethod
    def score(self, results: Sequence[Result]) -> float:
        """Points of 100 over all samples; `results` has one for each sample, in order."""

    @abstractmethod
    def compare(self, a: Sequence[Result], b: Sequence[Result], resamples: int = RESAMPLES) -> Comparison:
        """How much worse b is than a, with its interval; the same numbers give the same answer."""

    @abstractmethod
    def badness(self, a: Sequence[Result], b: Sequence[Result]) -> NDArray[np.float64]:
        """(samples,) how far b is from a on each picture, 0: the same; the report shows the worst."""
