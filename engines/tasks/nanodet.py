"""NanoDet and NanoDet-plus: distances to the four sides as distributions over bins (DFL; Li et al. 2020)."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, model_validator

from engines.tasks import Options, Strides
from engines.tasks.activation import logit, sigmoid
from engines.tasks.boxes import cells, grid
from engines.tasks.detect import Candidates, Detector, DetectorConfig, Floats, Row, best


class Config(DetectorConfig):
    """`{type: nanodet, output: output, strides: [8, 16, 32, 64], cell: corner}` for plus, which has one output.

    `{type: nanodet, scores: [a, b, c], boxes: [d, e, f], cell: middle}` for NanoDet-m, which has two a stride.
    """

    type: Literal["nanodet"] = "nanodet"
    output: str | None = None
    """(N, A, C + 4 * bins): classes, then for left, top, right and bottom the logits of each bin."""
    scores: tuple[str, ...] = ()
    """Per stride (N, cells, C), where boxes are apart."""
    boxes: tuple[str, ...] = ()
    """Per stride (N, cells, 4 * bins)."""
    strides: Strides = (8, 16, 32)
    bins: int = Field(default=8, gt=1)
    """A side is 0 to bins - 1 strides away."""
    cell: Literal["middle", "corner"]
    """Where in its cell distances start: the middle (NanoDet-m) or the upper left corner (plus)."""
    activated: bool = True
    """Whether the graph ends in the sigmoid of the classes."""

    @model_validator(mode="after")
    def _one_arrangement(self) -> Config:
        apart = len(self.scores) == len(self.boxes) == len(self.strides)
        if (self.output is not None) == bool(self.scores or self.boxes) or (self.output is None and not apart):
            raise ValueError("give either 'output', or 'scores' and 'boxes' with one name for each of 'strides'")
        return self

    def outputs(self, labels: int, size: tuple[int, int]) -> dict[str, tuple[int, ...]]:
        """See TaskConfig."""
        counts = [w * h for w, h in cells(size, self.strides)]
        if self.output is not None:
            return {self.output: (sum(counts), labels + 4 * self.bins)}
        shapes: dict[str, tuple[int, ...]] = {
            name: (count, labels) for name, count in zip(self.scores, counts, strict=True)
        }
        return shapes | {name: (count, 4 * self.bins) for name, count in zip(self.boxes, counts, strict=True)}

    def open(self, labels: Sequence[str], options: Options) -> NanoDet:
        """See TaskConfig."""
        return NanoDet(self, labels, options)


class NanoDet(Detector):
    """Score: the best class's."""

    def __init__(self, config: Config, labels: Sequence[str], options: Options) -> None:
        super().__init__(config, labels, options)
        self._config, self._labels = config, len(labels)
        self._least = self.least if config.activated else logit(self.least)
        self._grid = lru_cache(1)(lambda size: grid(size, config.strides))

    def candidates(self, row: Row, size: tuple[int, int]) -> Candidates:
        """See Detector."""
        config = self._config
        rows, score, label, logits = self._best(row)
        corner, stride = (part[rows] for part in self._grid(size))
        distance = _mean_bin(logits.reshape(-1, config.bins)).reshape(-1, 4)
        start = corner + np.float32(0.5 if config.cell == "middle" else 0)
        xyxy = np.concatenate([start - distance[:, :2], start + distance[:, 2:]], axis=1) * stride
        return Candidates(xyxy, score if config.activated else sigmoid(score), label)

    def _best(self, row: Row) -> tuple[NDArray[np.intp], Floats, NDArray[np.intp], Floats]:
        """Rows over the threshold, their scores, labels and (K, 4 * bins) logits."""
        if self._config.output is not None:
            values: Floats = row[self._config.output].astype(np.float32, copy=False)
            rows, score, label = best(values, self._least, 0, self._labels)
            return rows, score, label, values[rows, self._labels :]
        found, first = [], 0
        for scores, boxes in zip(self._config.scores, self._config.boxes, strict=True):
            level = row[scores].astype(np.float32, copy=False)
            rows, score, label = best(level, self._least, 0, self._labels)
            found.append((rows + first, score, label, row[boxes][rows].astype(np.float32, copy=False)))
            first += len(level)
        rows, score, label, logits = (np.concatenate(parts) for parts in zip(*found, strict=True))
        return rows, score, label, logits


def _mean_bin(logits: Floats) -> Floats:
    """Mean of each distribution, (K, bins) -> (K,): bin by bin, which is how numpy is quick with few of them."""
    powers = np.ascontiguousarray(logits.T)
    powers = np.exp(powers - powers.max(axis=0))
    mean: Floats = np.arange(len(powers), dtype=np.float32) @ powers / powers.sum(axis=0)
    return mean
