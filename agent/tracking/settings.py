"""`track:` of a camera."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from agent.durations import Seconds
from agent.tracking import Tracker
from agent.values import Score, Section


class TrackSection(Section):
    """`track: {use: people, labels: [person]}`."""

    use: str
    labels: tuple[str, ...] | None = None
    """Only these are followed; default: all."""
    strong: Score | None = None
    """Detections from this score on are matched first; default: the use's threshold."""
    weak: Score | None = None
    """Weaker ones down to this score continue a track, and begin none; default: half of the use's threshold."""
    new: Score | None = None
    """A track begins with this score or more; default: as `strong`."""
    confirm: Seconds = 0.2
    """An object gets its id when it has been seen for so long, twice at least."""
    lost: Seconds = 2.0
    """An object that is not seen for so long is gone."""
    predict: bool = False
    """Published boxes are where the object will be when the message leaves."""

    def floors(self, labels: Sequence[str], thresholds: NDArray[np.float32]) -> NDArray[np.float32]:
        """(C,) least score of each label that the tracker must be given, where a use reports from `thresholds` on."""
        floors = np.minimum(thresholds, self._weak(thresholds))
        return np.where(self._followed(labels), floors, thresholds).astype(np.float32)

    def build(self, labels: Sequence[str], thresholds: NDArray[np.float32]) -> Tracker:
        """A tracker for a model of those labels; `thresholds`: (C,) least score that is reported without a track."""
        from agent.tracking.two_stage import Thresholds, TwoStage

        strong = thresholds if self.strong is None else np.full_like(thresholds, self.strong)
        return TwoStage(
            Thresholds(
                reported=thresholds,
                strong=strong,
                weak=self._weak(thresholds),
                new=strong if self.new is None else np.full_like(thresholds, self.new),
            ),
            self._followed(labels),
            confirm_s=self.confirm,
            lost_s=self.lost,
        )

    def _weak(self, thresholds: NDArray[np.float32]) -> NDArray[np.float32]:
        return thresholds * np.float32(0.5) if self.weak is None else np.full_like(thresholds, self.weak)

    def _followed(self, labels: Sequence[str]) -> NDArray[np.bool_]:
        return np.array([self.labels is None or label in self.labels for label in labels])
