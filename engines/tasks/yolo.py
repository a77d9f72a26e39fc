"""YOLO as its exporters decode it: boxes in pixels beside class scores, with objectness (v5, v7) or without (v8, v11).

Also RT-DETR as Ultralytics exports it (`boxes: unit, iou: 1`) and YOLOX that decodes in the graph (`objectness: true`).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Literal

import numpy as np

from engines.tasks import ANY, Options
from engines.tasks.boxes import corners
from engines.tasks.detect import Candidates, Detector, DetectorConfig, Floats, Row, best, best_class


class Config(DetectorConfig):
    """`{type: yolo, output: output0, layout: columns, objectness: false, boxes: pixels}`."""

    type: Literal["yolo"] = "yolo"
    output: str
    """(N, A, 4 + C) in rows, (N, 4 + C, A) in columns: centre x, centre y, width, height, [objectness], classes."""
    layout: Literal["rows", "columns"]
    """rows: each box is a row (v5, v7); columns: each box is a column (v8 and later)."""
    objectness: bool
    """Whether a fifth number says how likely any object is there (v5, v7), by which class scores are multiplied."""
    boxes: Literal["pixels", "unit"] = "pixels"
    """Of the tensor, or shares of its sides."""

    @property
    def reading(self) -> str:
        """See TaskConfig."""
        return f"type: yolo, layout: {self.layout}, objectness: {str(self.objectness).lower()}"

    def outputs(self, labels: int, size: tuple[int, int]) -> dict[str, tuple[int, ...]]:  # noqa: ARG002  # any grids
        """See TaskConfig."""
        numbers = 4 + self.objectness + labels
        return {self.output: (ANY, numbers) if self.layout == "rows" else (numbers, ANY)}

    def alternatives(self) -> Iterator[Config]:
        """See TaskConfig."""
        for layout in ("rows", "columns"):
            for objectness in (False, True):
                yield self.model_copy(update={"layout": layout, "objectness": objectness})

    def open(self, labels: Sequence[str], options: Options) -> YOLO:
        """See TaskConfig."""
        return YOLO(self, labels, options)


class YOLO(Detector):
    """Score: the best class's, times objectness where there is one."""

    def __init__(self, config: Config, labels: Sequence[str], options: Options) -> None:
        super().__init__(config, labels, options)
        self._config, self._labels = config, len(labels)

    def candidates(self, row: Row, size: tuple[int, int]) -> Candidates:
        """See Detector."""
        values: Floats = row[self._config.output].astype(np.float32, copy=False)
        if self._config.layout == "columns":
            values = values.T
        if self._config.objectness:
            rows = np.flatnonzero(values[:, 4] >= self.least)  # no class is over 1
            score, label = best_class(values[rows, 5:])
            score *= values[rows, 4]
        else:
            rows, score, label = best(values, self.least, 4, self._labels)
        boxes = values[rows, :4]
        if self._config.boxes == "unit":
            boxes *= np.array([*size, *size], np.float32)
        return Candidates(corners(boxes[:, :2], boxes[:, 2:]), score, label)
