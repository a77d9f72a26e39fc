"""What is known of one object: since when, where it went, which zones it came through, and its best row."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

MOST_POINTS = 50
"""Of a path in an event: with these its payload stays under 2 kB."""
LEAST_STEP = 0.02
"""A path's next point is at least this share of the picture's diagonal away from the last one."""


class Path:
    """Where something stood and when, in at most `MOST_POINTS` points however long it lasts.

    Every second point goes when there are too many, and the following ones are taken half as often.
    """

    def __init__(self) -> None:
        self._points: list[tuple[int, float, float]] = []
        self._newest: tuple[int, float, float] | None = None
        self._every_ns = 0

    def add(self, at_ns: int, x: float, y: float, diagonal: float) -> None:
        """It stood at (x, y), source pixels, in a picture with that diagonal."""
        self._newest = at_ns, x, y
        if self._points:
            last_ns, last_x, last_y = self._points[-1]
            if at_ns - last_ns < self._every_ns or math.hypot(x - last_x, y - last_y) < LEAST_STEP * diagonal:
                return
        self._points.append(self._newest)
        if len(self._points) >= MOST_POINTS:
            del self._points[1::2]
            self._every_ns = 2 * (self._points[-1][0] - self._points[0][0]) // MOST_POINTS

    def points(self) -> list[tuple[float, float, float]]:
        """(seconds since the first, x, y), oldest first; the newest place is always the last point."""
        if self._newest is None:
            return []
        first_ns = self._points[0][0]
        kept = self._points if self._points[-1] == self._newest else [*self._points, self._newest]
        return [(round((at_ns - first_ns) / 1e9, 2), round(x, 1), round(y, 1)) for at_ns, x, y in kept]


@dataclass(eq=False)
class Trail:
    """One object, from the first frame that showed it; or what the rows of an incident without an object showed."""

    track: int | None
    first_ns: int
    """Wall time of the frame that showed it first."""
    last_ns: int = 0
    label: str = ""
    """Of the newest row: a tracker has weighed the earlier ones."""
    score: float = 0.0
    """Of an object's best row so far; without an object, of the newest row."""
    box: tuple[float, ...] = ()
    """Of the newest row: left, top, right, bottom in source pixels."""
    zones: list[str] = field(default_factory=list)
    """Where it is or has been, in the order it came there."""
    path: Path = field(default_factory=Path)

    def saw(self, wall_ns: int, label: str, score: float, box: tuple[float, ...], diagonal: float) -> None:
        """The next row that shows it."""
        self.last_ns, self.label = wall_ns, label
        self.score = score if self.track is None else max(score, self.score)
        if box:
            self.box = box
            if self.track is not None:
                self.path.add(wall_ns, (box[0] + box[2]) / 2, box[3], diagonal)

    def entered(self, zone: str) -> None:
        """It came into a zone."""
        if zone not in self.zones:
            self.zones.append(zone)
