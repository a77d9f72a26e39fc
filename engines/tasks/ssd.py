"""SSD detection: box deltas against anchors (Liu et al. 2016, as in TensorFlow's object detection library)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from engines.tasks import Options
from engines.tasks.activation import logit, sigmoid
from engines.tasks.detect import Candidates, Detector, DetectorConfig, Floats, Row, best


class Config(DetectorConfig):
    """`{type: ssd, boxes: box_deltas, scores: class_logits, grids: [19, 10, 5, 3, 2, 1]}`."""

    type: Literal["ssd"] = "ssd"
    boxes: str
    """Output (N, A, 4): centre y, centre x, log height, log width against the anchor, times `scales`."""
    scores: str
    """Output (N, A, 1 + C) logits; the first column is the background."""
    grids: Annotated[tuple[Annotated[int, Field(gt=0)], ...], Field(min_length=1)]
    """Cells along a side of each feature map."""
    scale_min: float = 0.2
    scale_max: float = 0.95
    scales: tuple[float, float, float, float] = (10.0, 10.0, 5.0, 5.0)
    threshold: float = Field(default=0.4, ge=0, lt=1)

    def outputs(self, labels: int, size: tuple[int, int]) -> dict[str, tuple[int, ...]]:  # noqa: ARG002  # `grids` says
        """See TaskConfig."""
        count = len(anchors(self))
        return {self.boxes: (count, 4), self.scores: (count, labels + 1)}

    def open(self, labels: Sequence[str], options: Options) -> SSD:
        """See TaskConfig."""
        return SSD(self, labels, options)


class SSD(Detector):
    """Score: the best class's sigmoid."""

    def __init__(self, config: Config, labels: Sequence[str], options: Options) -> None:
        super().__init__(config, labels, options)
        self._config, self._labels = config, len(labels)
        self._least = logit(self.least)
        self._anchors = anchors(config)
        self._scales: Floats = np.reciprocal(np.array(config.scales, np.float32))

    def candidates(self, row: Row, size: tuple[int, int]) -> Candidates:
        """See Detector."""
        logits: Floats = row[self._config.scores].astype(np.float32, copy=False)
        rows, chosen, label = best(logits, self._least, 1, self._labels)
        deltas: Floats = row[self._config.boxes][rows].astype(np.float32, copy=False)
        xyxy = decode(deltas, self._anchors[rows], self._scales) * np.array([*size, *size], np.float32)
        return Candidates(xyxy, sigmoid(chosen), label)


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
