"""SSD detection: box deltas against anchors (Liu et al. 2016, as in TensorFlow's object detection library)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from engines.base import Raw
from engines.pixels import Geometry
from engines.results import Detections, Result
from engines.tasks import Options, Task, TaskConfig
from engines.tasks.boxes import suppress


class Config(TaskConfig):
    """`{type: ssd, boxes: box_deltas, scores: class_logits, grids: [19, 10, 5, 3, 2, 1]}`."""

    type: Literal["ssd"] = "ssd"
    boxes: str
    """Output (N, A, 4): centre y, centre x, log height, log width against the anchor, times `scales`."""
    scores: str
    """Output (N, A, 1 + C) logits; the first column is the background."""
    grids: tuple[int, ...]
    """Cells along a side of each feature map."""
    scale_min: float = 0.2
    scale_max: float = 0.95
    scales: tuple[float, float, float, float] = (10.0, 10.0, 5.0, 5.0)
    threshold: float = Field(default=0.4, ge=0, lt=1)
    iou: float = Field(default=0.6, gt=0, le=1)
    """Overlap over which the weaker of two boxes goes."""

    @property
    def finds_boxes(self) -> bool:
        """See TaskConfig."""
        return True

    def outputs(self, labels: int) -> dict[str, tuple[int, ...]]:
        """See TaskConfig."""
        count = len(anchors(self))
        return {self.boxes: (count, 4), self.scores: (count, labels + 1)}

    def open(self, labels: int, options: Options) -> SSD:  # noqa: ARG002  # the graph's shape says how many
        """See TaskConfig."""
        return SSD(self, self.threshold if options.threshold is None else options.threshold, options.top or self.top)


class SSD(Task):
    """Sigmoid scores over a threshold, decoded, suppressed."""

    def __init__(self, config: Config, threshold: float, top: int) -> None:
        self._config, self._top = config, top
        # Compared with logits, so that only what passes needs a sigmoid.
        self._logit = float(np.log(threshold / (1 - threshold))) if 0 < threshold < 1 else -np.inf
        self._anchors = anchors(config)
        self._scales: NDArray[np.float32] = np.reciprocal(np.array(config.scales, np.float32))

    def read(self, raw: Raw, geometries: Sequence[Geometry]) -> list[Result]:
        """See Task."""
        boxes, logits = raw[self._config.boxes], raw[self._config.scores]
        return [self._one(boxes[i], logits[i], geometry) for i, geometry in enumerate(geometries)]

    def _one(self, deltas: NDArray[np.float32], logits: NDArray[np.float32], geometry: Geometry) -> Detections:
        rows, classes = np.nonzero(logits[:, 1:] >= self._logit)
        if not len(rows):
            return Detections.empty()
        label = classes.astype(np.int32)
        score = (1 / (1 + np.exp(-logits[rows, classes + 1]))).astype(np.float32)
        xyxy = decode(deltas[rows], self._anchors[rows], self._scales)
        keep = suppress(xyxy, score, label, self._config.iou)[: self._top]
        width, height = geometry.tensor
        pixels = xyxy[keep] * np.array([width, height, width, height], np.float32)
        return Detections(xyxy=geometry.to_source(pixels), score=score[keep], label=label[keep])


def decode(deltas: NDArray[np.float32], anchor: NDArray[np.float32], scale: NDArray[np.float32]) -> NDArray[np.float32]:
    """Deltas (K, 4) against anchors (K, 4: centre y, x, height, width) -> left, top, right, bottom, all 0 to 1."""
    deltas = deltas * scale
    centre = deltas[:, :2] * anchor[:, 2:] + anchor[:, :2]
    half = np.exp(np.minimum(deltas[:, 2:], 10)) * anchor[:, 2:] / 2  # e^10: far past any picture, short of overflow
    return np.concatenate([(centre - half)[:, ::-1], (centre + half)[:, ::-1]], axis=1)


def anchors(config: Config) -> NDArray[np.float32]:
    """(A, 4) centre y, centre x, height, width, 0 to 1: section 2.2 of the paper, TensorFlow's reduced lowest layer."""
    layers = len(config.grids)
    scales = [config.scale_min + (config.scale_max - config.scale_min) * i / max(1, layers - 1) for i in range(layers)]
    scales.append(1.0)
    found = []
    for layer, cells in enumerate(config.grids):
        scale = scales[layer]
        if layer == 0:
            shapes = [(0.1, 1.0), (scale, 2.0), (scale, 0.5)]
        else:
            shapes = [(scale, ratio) for ratio in (1.0, 2.0, 0.5, 3.0, 0.3333)]
            shapes.append((float(np.sqrt(scale * scales[layer + 1])), 1.0))
        sides = np.array([(s / np.sqrt(ratio), s * np.sqrt(ratio)) for s, ratio in shapes], np.float32)
        centre = (np.arange(cells, dtype=np.float32) + 0.5) / cells
        y, x = np.meshgrid(centre, centre, indexing="ij")
        centres = np.stack([y.ravel(), x.ravel()], axis=1).repeat(len(shapes), axis=0)
        found.append(np.concatenate([centres, np.tile(sides, (cells * cells, 1))], axis=1))
    return np.concatenate(found)
