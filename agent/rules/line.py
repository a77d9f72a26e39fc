"""A line across the picture: what crosses it, and in which direction."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Annotated, Literal

import numpy as np
from pydantic import AfterValidator, Field

from agent.durations import Seconds
from agent.rules import Finding, Rule, Seen
from agent.rules._places import PlaceConfig, standing
from agent.values import Point

Direction = Literal["in", "out"]


def _line(points: tuple[Point, Point]) -> tuple[Point, Point]:
    if points[0] == points[1]:
        raise ValueError("has no length: its two points are the same")
    return points


class Config(PlaceConfig):
    """`door: {points: [[0.2, 0.5], [0.8, 0.5]]}`."""

    type: Literal["line"] = "line"
    points: Annotated[tuple[Point, Point], AfterValidator(_line)]
    """Looking from the first to the second, `in` is from the left to the right."""
    events: Annotated[tuple[Direction, ...], Field(min_length=1)] = ("in", "out")
    """What is told; both are counted."""
    after: Seconds = 0.3
    """An object has crossed when it has been clear of the line for so long: one bad frame is no crossing."""

    def build(self, name: str, tracked: str | None) -> Rule:
        """See RuleConfig."""
        return Line(self, name, tracked or "")


@dataclass(eq=False)
class _Side:
    """Where one object is."""

    point: tuple[float, float]
    """x and y, 0 to 1 of the picture."""
    right: bool
    """Which side of the line, prolonged at both ends, it was seen on last."""
    settled: bool | None = None
    """The side on which it was further away than the margin last; None: on none yet."""
    through: bool = False
    """Whether it came to `right` through the line, not past its ends."""
    clear_ns: int | None = None
    """Since when it is clear of the line on the side where it was not settled."""


class Line(Rule):
    """Knows on which side each track is."""

    kind = "line"

    def __init__(self, config: Config, name: str, use: str) -> None:
        self.name, self.use, self._config = name, use, config
        self._ends = np.array(config.points, np.float64)
        self._after_ns = round(config.after * 1e9)
        self._sides: dict[int, _Side] = {}
        self._crossed: dict[Direction, int] = {"in": 0, "out": 0}

    def see(self, seen: Seen) -> Iterator[Finding]:
        """A moment for each object that went through the line and stayed on the other side, or was last seen there."""
        here = standing(seen, self._config, self._sides)
        if here.row:
            start, end = self._ends * seen.size
            along = (end - start) / np.hypot(*(end - start))
            to = here.point * seen.size - start
            # Distance to the right of the line, in heights of the box: y points down.
            right = ((along[0] * to[:, 1] - along[1] * to[:, 0]) / here.height).tolist()
            for at, (x, y) in enumerate(here.point.tolist()):
                side = self._move(here.track[at], (x, y), right[at], seen.size)
                if self._is_clear(side, right[at], seen.at_ns):
                    yield from self._settle(side, here.track[at], here.row[at])
        for track in sorted(self._sides.keys() - {*seen.present, *here.track}):
            side = self._sides.pop(track)
            if side.clear_ns is not None:
                yield from self._settle(side, track, None)

    def forget(self) -> None:
        """Nobody has a side; what was counted stays."""
        self._sides.clear()

    def counts(self) -> dict[str, int]:
        """Crossings since the start."""
        return {"in": self._crossed["in"], "out": self._crossed["out"]}

    def _move(self, track: int, point: tuple[float, float], right: float, size: tuple[int, int]) -> _Side:
        """An object is seen at a point so far to the right of the line; which side that is."""
        side = self._sides.get(track)
        if side is None:
            side = self._sides[track] = _Side(point, right > 0)
        elif right and (right > 0) != side.right:
            side.right, side.through = not side.right, self._meets(side.point, point, size)
        side.point = point
        return side

    def _is_clear(self, side: _Side, right: float, at_ns: int) -> bool:
        """Whether an object has been on its new side for long enough. Within the margin time goes on."""
        if side.right == side.settled:
            side.clear_ns = None
            return False
        if right and abs(right) >= self._config.margin and side.clear_ns is None:
            side.clear_ns = at_ns
        return side.clear_ns is not None and (side.settled is None or at_ns - side.clear_ns >= self._after_ns)

    def _settle(self, side: _Side, track: int, row: int | None) -> Iterator[Finding]:
        """An object is on its new side; it has crossed if it had another before and came through the line."""
        crossed = side.settled is not None and side.through
        side.settled, side.clear_ns = side.right, None
        if crossed:
            direction: Direction = "in" if side.right else "out"
            self._crossed[direction] += 1
            if direction in self._config.events:
                yield Finding("moment", track, row, data={"direction": direction, **self.counts()})

    def _meets(self, before: tuple[float, float], now: tuple[float, float], size: tuple[int, int]) -> bool:
        """Whether a way that changes sides does it between the line's ends."""
        width, height = size
        (x0, y0), (x1, y1) = ((x * width, y * height) for x, y in self._config.points)
        along_x, along_y = x1 - x0, y1 - y0
        (xa, ya), (xb, yb) = ((x * width - x0, y * height - y0) for x, y in (before, now))
        before_right, now_right = along_x * ya - along_y * xa, along_x * yb - along_y * xb
        share = before_right / (before_right - now_right)
        along = along_x * (xa + (xb - xa) * share) + along_y * (ya + (yb - ya) * share)
        return 0 <= along <= along_x**2 + along_y**2
