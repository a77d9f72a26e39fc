"""NVIDIA TAO's DetectNet_v2: per class a grid of coverage and one of boxes (TAO's `nvdsinfer` reference parser)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import numpy as np
from pydantic import Field

from engines.tasks import Options
from engines.tasks.boxes import cells
from engines.tasks.detect import Candidates, Detector, DetectorConfig, Floats, Row


class Config(DetectorConfig):
    """`{type: detectnet, coverage: output_cov/Sigmoid:0, boxes: output_bbox/BiasAdd:0}`."""

    type: Literal["detectnet"] = "detectnet"
    coverage: str
    """(N, C, H, W) 0 to 1."""
    boxes: str
    """(N, 4 * C, H, W): distances to left, top, right, bottom in `norm` pixels."""
    stride: int = 16
    norm: float = 35.0
    iou: float = Field(default=0.5, gt=0, le=1)

    def outputs(self, labels: int, size: tuple[int, int]) -> dict[str, tuple[int, ...]]:
        """See TaskConfig."""
        ((width, height),) = cells(size, [self.stride])
        return {self.coverage: (labels, height, width), self.boxes: (4 * labels, height, width)}

    def open(self, labels: Sequence[str], options: Options) -> DetectNet:
        """See TaskConfig."""
        return DetectNet(self, labels, options)


class DetectNet(Detector):
    """Every cell may be in an object of each class: score is its coverage."""

    def __init__(self, config: Config, labels: Sequence[str], options: Options) -> None:
        super().__init__(config, labels, options)
        self._config = config

    def candidates(self, row: Row, size: tuple[int, int]) -> Candidates:  # noqa: ARG002  # boxes are in pixels
        """See Detector."""
        config = self._config
        coverage: Floats = row[config.coverage].astype(np.float32, copy=False)
        label, y, x = np.unravel_index(np.flatnonzero(coverage >= self.least), coverage.shape)
        distances = row[config.boxes].reshape(-1, 4, *coverage.shape[1:])[label, :, y, x].astype(np.float32)
        centre = np.stack([x, y], axis=1).astype(np.float32) * config.stride + 0.5
        low, high = centre - distances[:, :2] * config.norm, centre + distances[:, 2:] * config.norm
        return Candidates(np.concatenate([low, high], axis=1), coverage[label, y, x], label)
