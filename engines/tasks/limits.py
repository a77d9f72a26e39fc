"""Which rows of a result are reported: a card's defaults and a user's options, resolved for every label."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from engines.errors import CardError
from engines.tasks import Options, TaskConfig


@dataclass(frozen=True)
class Limits:
    """Resolved for a model with C labels."""

    thresholds: NDArray[np.float32]
    """(C,) least score of each label; infinite for labels that are not reported."""
    top: int
    """At most so many rows per picture."""
    each: NDArray[np.intp] | None
    """(C,) at most so many rows of each label; None: no such limit."""

    @property
    def least(self) -> float:
        """No row of any label is reported under this score."""
        return float(self.thresholds.min())

    def select(self, score: NDArray[np.float32], label: NDArray[np.int32]) -> NDArray[np.intp]:
        """Indices of the rows that pass their label's threshold and count, of rows that are best first."""
        rows = np.flatnonzero(score >= self.thresholds[label])
        if self.each is not None:
            rows = rows[_rank(label[rows]) < self.each[label[rows]]]
        return rows[: self.top]


def resolve(config: TaskConfig, labels: Sequence[str], options: Options) -> Limits:
    """Raise CardError naming the option that names a label which the model has not, and the nearest that it has."""
    least = thresholds(labels, config.threshold, options.threshold)
    if options.only is not None:
        hidden = np.ones(len(labels), bool)
        hidden[_indices("only", options.only, labels)] = False
        least[hidden] = np.inf
    top, each = config.top, None
    if isinstance(options.top, Mapping):
        each = np.full(len(labels), top, np.intp)
        each[_indices("top", options.top, labels)] = list(options.top.values())
    elif options.top is not None:
        top = options.top
    return Limits(least, top, each)


def thresholds(labels: Sequence[str], base: float, *asked: float | Mapping[str, float] | None) -> NDArray[np.float32]:
    """Least score of each label, (C,): `base`, less what was asked for, one wish after the other.

    Raises CardError as `resolve`.
    """
    least = np.full(len(labels), base, np.float32)
    for wish in asked:
        if isinstance(wish, Mapping):
            least[_indices("threshold", wish, labels)] = list(wish.values())
        elif wish is not None:
            least[:] = wish
    return least


def _indices(option: str, names: Iterable[str], labels: Sequence[str]) -> list[int]:
    found = []
    for name in names:
        if name not in labels:
            near = difflib.get_close_matches(name, labels, n=1)
            hint = (
                f"did you mean {near[0]!r}?" if near else f"it has {', '.join(labels[:5])}{', …' * (len(labels) > 5)}"
            )
            raise CardError(f"{option}: the model has no label {name!r}; {hint}")
        found.append(labels.index(name))
    return found


def _rank(label: NDArray[np.int32]) -> NDArray[np.intp]:
    """How many rows of the same label stand before each row."""
    order = np.argsort(label, kind="stable")
    ordered = label[order]
    first = np.searchsorted(ordered, ordered)
    rank = np.empty(len(label), np.intp)
    rank[order] = np.arange(len(label)) - first
    return rank
