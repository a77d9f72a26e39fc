"""Who is who from frame to frame: one tracker a camera, on the results of one use."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from engines.results import Detections


@dataclass(frozen=True, eq=False)
class Tracked:
    """A frame's detections with their tracks."""

    found: Detections
    """(N) rows that are told: those over the use's threshold, and weaker ones that continue a track."""
    track: NDArray[np.int64]
    """(N,) the object each row is; 0: none (yet). Ids are never used again, nor by another camera of the agent."""
    velocity: NDArray[np.float32]
    """(N, 4) how fast each edge of the box moves, pixels a second; 0 without a track."""
    present: tuple[int, ...]
    """All confirmed tracks that are followed now, also those hidden in this frame."""
    rows: NDArray[np.intp]
    """(N,) which row of the detections that `update` was given each is: in their order."""


class Tracker(ABC):
    """Follows the objects of one camera."""

    @abstractmethod
    def update(self, found: Detections, at_ns: int) -> Tracked:
        """Take the next frame's detections, strong and weak ones; `at_ns` on the camera's own clock."""

    def report_from(self, thresholds: NDArray[np.float32]) -> None:  # noqa: B027 - a tracker may have no thresholds
        """From now on tell what has no track from these scores on, (C,). May be called before each update."""

    @abstractmethod
    def forget(self) -> None:
        """The camera was lost: all tracks end. Their ids are not used again."""
