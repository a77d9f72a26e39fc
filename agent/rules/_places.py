"""Where tracked objects are: what zones and lines have in common."""

from __future__ import annotations

from collections.abc import Container
from dataclasses import dataclass
from typing import Annotated, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import AfterValidator, Field

from agent.rules import RuleConfig, Seen
from agent.values import Point, Polygon

Anchor = Literal["foot", "centre", "top"]
_SHARE_OF_HEIGHT = {"top": 0.0, "centre": 0.5, "foot": 1.0}
LEAST_AREA = 1e-6
"""Of a zone, as a share of the picture: a pixel of a camera with a million."""


class PlaceConfig(RuleConfig):
    """Base of the rules about where tracked objects are."""

    anchor: Anchor = "foot"
    """The point of the box that counts: the middle of its lower edge, of the box, or of its upper edge."""
    margin: Annotated[float, Field(ge=0, le=1)] = 0.05
    """How far beyond an edge an object must be to have crossed it back, as a share of its box's height."""

    @property
    def needs_tracks(self) -> bool:
        """Always: one object enters or crosses once."""
        return True


@dataclass(frozen=True, eq=False)
class Standing:
    """The objects of a frame that a rule looks at: M rows of it."""

    row: list[int]
    track: list[int]
    label: list[int]
    point: NDArray[np.float64]
    """(M, 2) where they are: x and y, 0 to 1 of the picture."""
    height: NDArray[np.float64]
    """(M,) of their boxes, pixels."""


def standing(seen: Seen, config: PlaceConfig, known: Container[int]) -> Standing:
    """The tracked objects of the wanted labels, and those `known` already whatever they are called in this frame."""
    them, wanted = seen.followed, config.labels
    if wanted is not None:
        at = [
            at
            for at, (track, label) in enumerate(zip(them.track, them.label, strict=True))
            if seen.labels[label] in wanted or track in known
        ]
        them = them.only(at)
    left, top, right, bottom = them.xyxy.T
    height = bottom - top
    point = np.empty((len(height), 2))
    point[:, 0] = (left + right) * 0.5
    point[:, 1] = top + height * _SHARE_OF_HEIGHT[config.anchor]
    point /= seen.size
    np.minimum(np.maximum(point, 0.0, out=point), 1.0, out=point)
    return Standing(them.row, them.track, them.label, point, np.maximum(height, 1.0))


class Edges:
    """A polygon, (E, 2) in pixels, ready to be asked about many points."""

    def __init__(self, polygon: NDArray[np.float64]) -> None:
        self._x, self._y = polygon.T[..., None].copy()  # (E, 1) each, against (M,) points
        after = np.roll(polygon, -1, axis=0)
        self._y_after = after[:, 1:]
        self._along_x, self._along_y = (after - polygon).T[..., None]
        length2 = self._along_x**2 + self._along_y**2
        self._share_x, self._share_y = self._along_x / length2, self._along_y / length2
        with np.errstate(divide="ignore", invalid="ignore"):
            self._slope = self._along_x / self._along_y  # of level edges never looked at

    def depth(self, points: NDArray[np.float64]) -> NDArray[np.float64]:
        """How far (M, 2) points are inside: (M,) distances to the edge, negative outside."""
        y = points[:, 1]
        to_x, to_y = points[:, 0] - self._x, y - self._y  # (E, M)
        share = to_x * self._share_x
        share += to_y * self._share_y
        np.minimum(np.maximum(share, 0.0, out=share), 1.0, out=share)
        far = np.hypot(to_x - share * self._along_x, to_y - share * self._along_y)
        distance: NDArray[np.float64] = far.min(axis=0)
        # Even-odd rule: how many edges lie to the right of the point, at its height.
        across = (self._y > y) != (self._y_after > y)
        with np.errstate(invalid="ignore"):
            across &= to_x < self._slope * to_y
        inside = np.logical_xor.reduce(across)
        return np.where(inside | (distance < 1e-9), distance, -distance)


def _area(polygon: list[Point]) -> list[Point]:
    """A polygon that encloses something, once; a last point that repeats the first is left out."""
    points = [point for point, after in zip(polygon, polygon[1:] + polygon[:1], strict=True) if point != after]
    edges = list(zip(points, points[1:] + points[:1], strict=True))
    twice_the_area = sum(a[0] * b[1] - a[1] * b[0] for a, b in edges)
    for one, first in enumerate(edges):
        for other in range(one + 2, len(edges) - (one == 0)):
            if _cross(*first, *edges[other]):
                raise ValueError(
                    f"crosses itself: the edge from {_said(first[0])} to {_said(first[1])} meets the one "
                    f"from {_said(edges[other][0])} to {_said(edges[other][1])}"
                )
    if len(points) < 3 or abs(twice_the_area) / 2 < LEAST_AREA:
        raise ValueError("has no area: its points lie on one line")
    return points


def _cross(a: Point, b: Point, c: Point, d: Point) -> bool:
    """Whether the segments a-b and c-d have a point in common."""

    def turn(p: Point, q: Point, r: Point) -> float:
        return (q[0] - p[0]) * (r[1] - p[1]) - (q[1] - p[1]) * (r[0] - p[0])

    def within(p: Point, q: Point, r: Point) -> bool:
        return min(p[0], q[0]) <= r[0] <= max(p[0], q[0]) and min(p[1], q[1]) <= r[1] <= max(p[1], q[1])

    one, two, three, four = turn(a, b, c), turn(a, b, d), turn(c, d, a), turn(c, d, b)
    if one * two < 0 and three * four < 0:
        return True
    return any(
        side == 0 and within(*on)
        for side, on in ((one, (a, b, c)), (two, (a, b, d)), (three, (c, d, a)), (four, (c, d, b)))
    )


def _said(point: Point) -> str:
    return f"[{point[0]:g}, {point[1]:g}]"


Area = Annotated[Polygon, AfterValidator(_area)]
