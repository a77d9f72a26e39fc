"""`track:` of a camera."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from pydantic import model_validator

from agent.durations import Seconds
from agent.tracking import Tracker
from agent.values import Score, Section

if TYPE_CHECKING:
    from agent.tracking.ids import NextIds
    from agent.tracking.two_stage import Thresholds

_SURE = 0.75
"""Score that detectors give to what is plainly to be seen."""
_WEAK, _STRONG, _NEW = 0.4, 0.5, 0.8
"""Defaults: weak as a share of the use's threshold, the others as shares of the way from there to what is sure."""


class TrackSection(Section):
    """`track: {use: people, labels: [person]}`."""

    use: str
    labels: tuple[str, ...] | None = None
    """Only these are followed; default: all."""
    weak: Score | None = None
    """Detections down to this score continue a track; default: 0.4 of the use's threshold."""
    strong: Score | None = None
    """Those from this score on are matched first, and begin tracks."""
    new: Score | None = None
    """Mean score from which on a track is an object, and gets its id."""
    confirm: Seconds = 0.2
    """An object gets its id when it has been seen for so long, twice at least; 0: at once."""
    lost: Seconds = 2.0
    """An object that is not seen for so long is gone."""
    predict: bool = False
    """Published boxes are where the object will be when the message leaves."""

    @model_validator(mode="after")
    def _in_order(self) -> TrackSection:
        given = [(name, score) for name in ("weak", "strong", "new") if (score := getattr(self, name)) is not None]
        for (low, less), (high, more) in pairwise(given):
            if less > more:
                raise ValueError(f"{low} ({less:g}) must not be more than {high} ({more:g})")
        return self

    def weakest(self, labels: Sequence[str], thresholds: NDArray[np.float32]) -> NDArray[np.float32]:
        """(C,) least score of each label that the tracker must be given, where a use reports from `thresholds` on."""
        weakest = np.minimum(thresholds, self._thresholds(thresholds).weak)
        return np.where(self._followed(labels), weakest, thresholds)

    def build(self, labels: Sequence[str], thresholds: NDArray[np.float32], ids: NextIds | None = None) -> Tracker:
        """A tracker for a model of those labels; `thresholds`: (C,) least score that is reported without a track.

        `ids`: where those of new objects come from; default: 1, 2, 3, ...
        """
        from agent.tracking.two_stage import TwoStage

        followed = self._followed(labels)
        return TwoStage(self._thresholds, thresholds, followed, confirm_s=self.confirm, lost_s=self.lost, ids=ids)

    def _thresholds(self, reported: NDArray[np.float32]) -> Thresholds:
        from agent.tracking.two_stage import Thresholds

        def of(given: float | None, default: NDArray[np.float32]) -> NDArray[np.float32]:
            return default if given is None else np.full_like(reported, given)

        room = np.maximum(np.float32(_SURE) - reported, 0)
        strong = of(self.strong, reported + np.float32(_STRONG) * room)
        weak = np.minimum(of(self.weak, np.float32(_WEAK) * reported), strong)
        new = np.maximum(of(self.new, reported + np.float32(_NEW) * room), strong)
        return Thresholds(strong, weak, new)

    def _followed(self, labels: Sequence[str]) -> NDArray[np.bool_]:
        return np.array([self.labels is None or label in self.labels for label in labels])
