"""FastestDet: one grid, one box a cell (github.com/dog-qiuqiu/FastestDet, `utils/tool.py`: handle_preds)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import numpy as np

from engines.tasks import Options, Stride
from engines.tasks.activation import sigmoid
from engines.tasks.boxes import cells, corners
from engines.tasks.detect import Candidates, Detector, DetectorConfig, Floats, Row, best_class


class Config(DetectorConfig):
    """`{type: fastestdet, output: "758"}`."""

    type: Literal["fastestdet"] = "fastestdet"
    output: str
    """(N, 5 + C, H, W): objectness, x, y, width, height, classes; objectness and classes activated by the graph."""
    stride: Stride = 16

    def outputs(self, labels: int, size: tuple[int, int]) -> dict[str, tuple[int, ...]]:
        """See TaskConfig."""
        ((width, height),) = cells(size, [self.stride])
        return {self.output: (5 + labels, height, width)}

    def open(self, labels: Sequence[str], options: Options) -> FastestDet:
        """See TaskConfig."""
        return FastestDet(self, labels, options)


class FastestDet(Detector):
    """Score: objectness ^ .6 times class ^ .4, as later versions of the project weigh them."""

    def __init__(self, config: Config, labels: Sequence[str], options: Options) -> None:
        super().__init__(config, labels, options)
        self._config = config

    def candidates(self, row: Row, size: tuple[int, int]) -> Candidates:
        """See Detector."""
        values: Floats = row[self._config.output].astype(np.float32, copy=False)
        _, height, width = values.shape
        columns = values.reshape(len(values), -1)
        rows = np.flatnonzero(columns[0] >= self.least ** (1 / 0.6))  # no class is over 1
        chosen = columns[:, rows].T
        score, label = best_class(chosen[:, 5:])
        score = chosen[:, 0] ** np.float32(0.6) * score ** np.float32(0.4)
        cell = np.stack([rows % width, rows // width], axis=1)
        shares = np.array([width, height], np.float32)
        centre = (cell + np.tanh(chosen[:, 1:3])) / shares
        scale = np.array(size, np.float32)
        return Candidates(corners(centre * scale, sigmoid(chosen[:, 3:5]) * scale), score, label)
