"""Detectors that give boxes and class scores of each query apart: DETR, RT-DETR, RF-DETR (Carion et al. 2020).

Their boxes need no suppression. Others of that form do (`iou: 0.6`): YOLO-NAS and PP-YOLOE, boxes `xyxy` in pixels.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Literal

import numpy as np
from pydantic import Field

from engines.tasks import ANY, Options
from engines.tasks.activation import logit, sigmoid, softmax
from engines.tasks.boxes import Order, Scale, to_xyxy
from engines.tasks.detect import Candidates, Detector, DetectorConfig, Floats, Row, best


class Config(DetectorConfig):
    """`{type: detr, boxes: dets, scores: labels, activation: sigmoid}`."""

    type: Literal["detr"] = "detr"
    boxes: str
    """(N, Q, 4)."""
    scores: str
    """(N, Q, C), one more where the background has a column."""
    activation: Literal["sigmoid", "softmax", "none"]
    """That the graph left out: softmax (DETR), sigmoid (RT-DETR, RF-DETR)."""
    background: Literal["first", "last"] | None = None
    """The column that says "nothing": last in DETR."""
    order: Order = "cxcywh"
    scale: Scale = "unit"
    iou: float = Field(default=1.0, gt=0, le=1)

    @property
    def reading(self) -> str:
        """See TaskConfig."""
        return f"type: detr, background: {self.background or 'null'}"

    def outputs(self, labels: int, size: tuple[int, int]) -> dict[str, tuple[int, ...]]:  # noqa: ARG002  # any queries
        """See TaskConfig."""
        return {self.boxes: (ANY, 4), self.scores: (ANY, labels + (self.background is not None))}

    def alternatives(self) -> Iterator[Config]:
        """See TaskConfig."""
        # With sigmoids the background is a number that no label has; with softmax it is what is left.
        background = "last" if self.activation == "softmax" else "first"
        for other in (None, background):
            yield self.model_copy(update={"background": other})

    def open(self, labels: Sequence[str], options: Options) -> DETR:
        """See TaskConfig."""
        return DETR(self, labels, options)


class DETR(Detector):
    """Score: the best class's, the background left out."""

    def __init__(self, config: Config, labels: Sequence[str], options: Options) -> None:
        super().__init__(config, labels, options)
        self._config, self._labels = config, len(labels)
        self._first = int(config.background == "first")
        self._least = logit(self.least) if config.activation == "sigmoid" else self.least

    def candidates(self, row: Row, size: tuple[int, int]) -> Candidates:
        """See Detector."""
        scores: Floats = row[self._config.scores].astype(np.float32, copy=False)
        if self._config.activation == "softmax":
            scores = softmax(scores)
        rows, score, label = best(scores, self._least, self._first, self._labels)
        boxes: Floats = row[self._config.boxes][rows].astype(np.float32, copy=False)
        xyxy = to_xyxy(boxes, self._config.order, self._config.scale, size)
        return Candidates(xyxy, sigmoid(score) if self._config.activation == "sigmoid" else score, label)
