"""What a camera is used for: one model, how often, on which part of the picture, and what looks at its objects."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from agent.every import Every
from agent.flow import EQUAL, Account, Mailbox, Share
from agent.frame import Timestamp
from agent.view import Region, pixels
from engines.pixels import Box
from engines.results import Detections, Result
from engines.tiles import Tiles, merge


@dataclass(eq=False)
class Use:
    """One model on one camera."""

    name: str
    labels: tuple[str, ...]
    mailbox: Mailbox
    every: Every = field(default_factory=Every)
    roi: Region | None = None
    """Of the camera's picture."""
    tiles: Tiles | None = None
    thresholds: NDArray[np.float32] | None = None
    """(C,) least score of each label that is reported; None: whatever the model reports."""
    floor: NDArray[np.float32] | None = None
    """(C,) what the model reports at all; infinite for labels that it does not report."""
    weak: NDArray[np.float32] | None = None
    """(C,) least score of each label that the camera's tracker wants to see; None: this use is not tracked."""
    max_age_ns: int = 1_000_000_000
    share: Share = EQUAL
    """Its camera's, of the engine; of a cascade too."""
    retain: bool = False
    predict: bool = False
    """Tracked, and published boxes are where the objects will be when the message leaves."""
    cascades: list[Cascade] = field(default_factory=list)
    account: Account = field(default_factory=Account)

    def due(self, captured: Timestamp) -> bool:
        """Whether this frame is wanted."""
        return self.every.due(captured)

    def regions(self, size: tuple[int, int]) -> tuple[Box | None, ...]:
        """What an engine is asked to look at in a picture of that size; None: all of it."""
        region = None if self.roi is None else pixels(self.roi, size)
        return (region,) if self.tiles is None else self.tiles.regions(region or (0, 0, *size))

    def result(self, regions: tuple[Box | None, ...], results: list[Result | None]) -> Result | None:
        """The one result for a picture, from those of its `regions`."""
        if self.tiles is None:
            return self.over(results[0])
        found = [(part, tile) for part, tile in zip(results, regions, strict=True) if isinstance(part, Detections)]
        return self.over(merge([part for part, _ in found], [tile for _, tile in found if tile is not None]))

    def report_from(self, label: str | None, score: float) -> NDArray[np.float32]:
        """From now on report one label, or all, from that score on; (C,) what holds: never less than `floor`."""
        wanted = np.zeros(len(self.labels), np.float32) if self.thresholds is None else self.thresholds.copy()
        wanted[slice(None) if label is None else self.labels.index(label)] = score
        self.thresholds = wanted if self.floor is None else np.maximum(wanted, self.floor)
        return self.thresholds

    def over(self, result: Result | None) -> Result | None:
        """The rows that are over their label's threshold, and of a tracked use weaker ones for its tracker."""
        if result is None or self.thresholds is None:
            return result
        least = self.thresholds if self.weak is None else np.minimum(self.thresholds, self.weak)
        return result[result.score >= least[result.label]]

    def reported(self, result: Result) -> NDArray[np.intp]:
        """Which rows are over their label's threshold."""
        if self.thresholds is None:
            return np.arange(len(result))
        return (result.score >= self.thresholds[result.label]).nonzero()[0]


@dataclass(eq=False)
class Cascade:
    """A use that looks at the objects another one found."""

    use: Use
    labels: frozenset[int] | None
    """The parent's labels it wants; None: all."""
    pad: float
    """Added on each side, as a share of the box."""
    most: int
    """Objects of one frame, best first."""
