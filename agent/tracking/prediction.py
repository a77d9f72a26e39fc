"""Boxes as they will be when their message leaves (`predict: true`): for robots, and to draw on live video."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from agent.messages import Detection


@dataclass(frozen=True, eq=False)
class Ahead:
    """Moves the boxes of one frame on. Asked by each sink for itself, when it sends."""

    detections: list[Detection]
    """Of the payload, (N)."""
    xyxy: NDArray[np.float32]
    """(N, 4) their boxes, pixels."""
    velocity: NDArray[np.float32]
    """(N, 4) how fast each edge moves, pixels a second; 0 without a track."""
    size: tuple[int, int]
    """(width, height) of the picture, pixels: no box leaves it, and none gets a size of less than 0."""

    def __call__(self, age_ms: float) -> dict[str, Any]:
        """Fields of the payload as they are when its pixels are that old."""
        width, height = self.size
        moved = self.xyxy + self.velocity * np.float32(age_ms / 1e3)
        moved[:, 2:] = np.maximum(moved[:, 2:], moved[:, :2])
        boxes = np.clip(moved, 0, np.array([width, height, width, height], np.float32)).round(1).tolist()
        moves: list[bool] = (self.velocity != 0).any(axis=1).tolist()
        return {
            "predicted_ms": age_ms,
            "detections": [
                found.model_copy(update={"box": [round(edge, 1) for edge in box]}) if moved else found
                for found, box, moved in zip(self.detections, boxes, moves, strict=True)
            ],
        }
