"""YOLOX: one box a grid cell, offsets and log sizes in strides (Ge et al. 2021; `demo_utils.demo_postprocess`)."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import Literal

import numpy as np

from engines.tasks import Options, Strides
from engines.tasks.activation import logit, sigmoid
from engines.tasks.boxes import cells, corners, grid
from engines.tasks.detect import Candidates, Detector, DetectorConfig, Floats, Row, best_class


class Config(DetectorConfig):
    """`{type: yolox, output: output, strides: [8, 16, 32]}`; for exports that decode in the graph, see `yolo`."""

    type: Literal["yolox"] = "yolox"
    output: str
    """(N, A, 5 + C): x, y, log width, log height in strides from the cell's corner, objectness, classes."""
    strides: Strides = (8, 16, 32)
    """Of the grids, in the order of their rows."""
    activated: bool = True
    """Whether the graph ends in the sigmoids of objectness and classes."""

    def outputs(self, labels: int, size: tuple[int, int]) -> dict[str, tuple[int, ...]]:
        """See TaskConfig."""
        return {self.output: (sum(w * h for w, h in cells(size, self.strides)), 5 + labels)}

    def open(self, labels: Sequence[str], options: Options) -> YOLOX:
        """See TaskConfig."""
        return YOLOX(self, labels, options)


class YOLOX(Detector):
    """Score: objectness times class."""

    def __init__(self, config: Config, labels: Sequence[str], options: Options) -> None:
        super().__init__(config, labels, options)
        self._config = config
        self._grid = lru_cache(1)(lambda size: grid(size, config.strides))

    def candidates(self, row: Row, size: tuple[int, int]) -> Candidates:
        """See Detector."""
        values: Floats = row[self._config.output].astype(np.float32, copy=False)
        activated = self._config.activated
        # No class is over 1, so what has too little objectness need not be looked at.
        rows = np.flatnonzero(values[:, 4] >= (self.least if activated else logit(self.least)))
        chosen = values[rows]
        score, label = best_class(chosen[:, 5:])
        score = chosen[:, 4] * score if activated else sigmoid(chosen[:, 4]) * sigmoid(score)
        corner, stride = (part[rows] for part in self._grid(size))
        centre = (chosen[:, :2] + corner) * stride
        return Candidates(corners(centre, np.exp(chosen[:, 2:4]) * stride), score, label)
