"""Detectors whose graph ends in its own suppression: rows of finished boxes.

| export | config |
|---|---|
| Ultralytics `end2end`, (N, 300, 6) | `output: output0` |
| YOLOX, mmdeploy: boxes with scores, and labels | `boxes: dets, labels: labels` |
| torchvision | `boxes: boxes, scores: scores, labels: labels, first_label: 1` |
| TensorRT EfficientNMS | `boxes: det_boxes, scores: det_scores, labels: det_classes, count: num_dets` |
| TensorFlow | as above, `order: yxyx, scale: unit, first_label: 1` |
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import numpy as np
from pydantic import Field, model_validator

from engines.tasks import ANY, Options
from engines.tasks.boxes import Order, Scale, to_xyxy
from engines.tasks.detect import Candidates, Detector, DetectorConfig, Row


class Config(DetectorConfig):
    """`{type: nms, output: output0}` or `{type: nms, boxes: …, scores: …, labels: …}`."""

    type: Literal["nms"] = "nms"
    output: str | None = None
    """(N, K, 6): box, score, label."""
    boxes: str | None = None
    """(N, K, 4), or (N, K, 5) where `scores` is not given: the fifth is the score."""
    scores: str | None = None
    """(N, K)"""
    labels: str | None = None
    """(N, K)"""
    count: str | None = None
    """(N, 1) or (N,): how many of the K rows mean something; without it, rows of score 0 mean nothing."""
    order: Order = "xyxy"
    scale: Scale = "pixels"
    first_label: int = 0
    """Number that the graph gives the first label: 1 where 0 is the background."""
    iou: float = Field(default=1.0, gt=0, le=1)

    @model_validator(mode="after")
    def _one_arrangement(self) -> Config:
        apart = self.boxes is not None and self.labels is not None
        if (self.output is not None) == (apart or self.scores is not None) or (self.output is None and not apart):
            raise ValueError("give either 'output', or 'boxes' and 'labels' (and 'scores' if boxes have none)")
        return self

    def outputs(self, labels: int, size: tuple[int, int]) -> dict[str, tuple[int, ...]]:  # noqa: ARG002  # any rows
        """See TaskConfig."""
        if self.output is not None:
            return {self.output: (ANY, 6)}
        shapes: dict[str, tuple[int, ...]] = {
            str(self.boxes): (ANY, 4 + (self.scores is None)),
            str(self.labels): (ANY,),
        }
        if self.scores is not None:
            shapes[self.scores] = (ANY,)
        if self.count is not None:
            shapes[self.count] = (1,)
        return shapes

    def open(self, labels: Sequence[str], options: Options) -> NMS:
        """See TaskConfig."""
        return NMS(self, labels, options)


class NMS(Detector):
    """Finished boxes: thresholds and limits are all that is left to do."""

    def __init__(self, config: Config, labels: Sequence[str], options: Options) -> None:
        super().__init__(config, labels, options)
        self._config, self._labels = config, len(labels)

    def candidates(self, row: Row, size: tuple[int, int]) -> Candidates:
        """See Detector."""
        config = self._config
        boxes = row[config.output or str(config.boxes)]
        score = boxes[:, 4] if config.scores is None else row[config.scores]
        label = boxes[:, 5] if config.labels is None else row[config.labels]
        label = label - config.first_label
        # A number that is no label (-1 in rows of padding, another list of labels, NaN) means nothing.
        rows = np.flatnonzero((score >= self.least) & (label >= 0) & (label < self._labels))
        if config.count is not None:
            rows = rows[rows < row[config.count].reshape(-1)[0]]
        xyxy = to_xyxy(boxes[rows, :4].astype(np.float32), config.order, config.scale, size)
        return Candidates(xyxy, score[rows].astype(np.float32), label[rows].astype(np.int32))
