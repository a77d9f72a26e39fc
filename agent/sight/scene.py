"""A picture that does not show what this camera shows: out of focus, covered, or of somewhere else.

What it shows is a mean of the last minute. Compared are edges, cell by cell, and by their direction rather than their
strength, because light comes and goes: a dusk, a lamp, or infrared instead of daylight leave most of them where they
are. Who walks through takes a few cells; a lorry takes many, but for a moment only (`sight` waits for that).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import cast

import cv2
import numpy as np
from numpy.typing import NDArray

from agent.sight.glance import CELL, Glance, Grid, Means, cell_means
from agent.sight.settings import Reason

REMEMBERED_S = 60.0
"""Time constant of the mean."""
SLOWER = 4.0
"""A picture that has kept little of it is taken in so many times more slowly."""
KNOWN_S = 60.0
"""So long the picture must have been the same before anything is said of it."""
SMOOTH = 1.5
"""Standard deviation of the blur before edges are taken, pixels of `small`: so much a camera on a mast may sway."""
SHADE = 15
"""What is larger is no edge, pixels of `small`."""
EDGE = 1.0
"""A cell with a mean gradient of so much (levels a pixel, root of the mean square) has something to compare."""
ENOUGH = 0.15
"""Of the cells must have that, or nothing can be said."""
KEPT_LITTLE, KEPT_ENOUGH = 0.2, 0.5
"""Mean correlation of the cells' gradients with those that are known: of a camera that shows something else it is about
0; of one that sees what it should, in whatever light, more than the second. Between them nothing is said."""
AGREES, LEFT = 0.7, 0.1
"""A cell with that correlation agrees, and of a camera that has been turned no more than that share of them does by
chance: if more do, something stands before the rest."""
GONE = 0.35
"""A cell with so much of its mean gradient left, or less, is without its edges..."""
COVERED = 0.75
"""... and with so many of those the camera is covered."""
COARSE = 0.7
"""Correlation of the cells' levels with the mean's, from which on it is the same scene without its edges."""
BLURRED = 0.25
"""Out of focus: what the cells have left of the power of their finest gradients, times what that is against what they
have left of that of coarser ones (medians)."""
STILL_BLURRED = 0.3
"""Instead of it after a look that was out of focus: a key frame does not bring the edges back."""
STEADY_NS = 1_000_000_000
"""A camera that has been moved stands still again for so long."""


FLATTEST = 0.1
"""Share of the cells that have noise alone."""
TINY = 1e-6


@dataclass(frozen=True, eq=False)
class Edges:
    """Gradients of one picture."""

    x: NDArray[np.float32]
    y: NDArray[np.float32]
    power: Means
    """Mean square in each cell."""

    @classmethod
    def of(cls, base: NDArray[np.float32]) -> Edges:
        """Of a smoothed picture."""
        x, y = cv2.Sobel(base, cv2.CV_32F, 1, 0, scale=1 / 8), cv2.Sobel(base, cv2.CV_32F, 0, 1, scale=1 / 8)
        return cls(x, y, cell_means(x * x + y * y))

    def same(self, other: Edges, where: Grid) -> NDArray[np.float32]:
        """How much they agree in each of those cells: their correlation."""
        both = cell_means(self.x * other.x + self.y * other.y)[where]
        return cast(NDArray[np.float32], both / np.sqrt(self.power[where] * other.power[where] + TINY))


def finest(glance: Glance) -> Means:
    """Mean square of the gradients of `fine` as it is, in each cell, without that of noise: what the flattest have."""
    x, y = (cv2.Sobel(glance.fine, cv2.CV_32F, *by, ksize=1, scale=1 / 2) for by in ((1, 0), (0, 1)))
    power = cell_means(x * x + y * y, 2 * CELL)
    return np.maximum(power - np.quantile(power[glance.frame.seen], FLATTEST), 0)


def details(glance: Glance) -> NDArray[np.float32]:
    """`small` without its noise, and without what a shadow, a lamp or a cloth lays over it."""
    smooth = cv2.GaussianBlur(glance.small, (0, 0), SMOOTH).astype(np.float32)
    return cast(NDArray[np.float32], smooth - cv2.blur(smooth, (SHADE, SHADE)))


class Known:
    """What a camera shows: the mean of all looks until it is a minute old, then of the last minute."""

    def __init__(self, base: NDArray[np.float32], cells: Means, fine: Means) -> None:
        self._base, self.cells, self.fine = base.copy(), cells.copy(), fine.copy()
        self.edges = Edges.of(base)
        self._looks = 1

    def take(self, base: NDArray[np.float32], cells: Means, fine: Means, step_s: float) -> None:
        """The next look."""
        self._looks += 1
        share = max(1 / self._looks, min(1.0, step_s / REMEMBERED_S))
        cv2.accumulateWeighted(base, self._base, share)
        self.edges = Edges.of(self._base)
        self.cells += (cells - self.cells) * np.float32(share)
        # Somebody in stripes who stands there for a while is no measure of how sharp the rest is.
        self.fine += (np.minimum(fine, 2 * self.fine + 1) - self.fine) * np.float32(share)


class Scene:
    """Whether one camera shows what it showed."""

    def __init__(self) -> None:
        self.begin_anew()

    def begin_anew(self) -> None:
        """What is seen from now on is what shall be seen."""
        self._known: Known | None = None
        self._known_s = 0.0
        self._before: tuple[int, Edges] | None = None
        self._blurred = False
        """Whether the last look was out of focus."""
        self.steady = False
        """Whether the picture shows what it showed a moment ago."""
        self.textured = False
        """Whether it shows anything that has edges."""

    def sees(self, glance: Glance, step_s: float, *, learn: bool, watches: Callable[[Reason], bool]) -> Reason | None:
        """What is wrong with the picture, of that which is to be watched.

        `learn`: whether what it shows is to be known, if nothing is wrong.
        """
        base = details(glance)
        edges, fine, seen = Edges.of(base), finest(glance), glance.frame.seen
        if self._known is None or self._known.edges.x.shape != base.shape:
            self.begin_anew()
            self._known = Known(base, glance.cells, fine)
            return None
        self._steady(glance, edges)
        self.textured = _share(_has_edges(edges, seen), seen) >= ENOUGH
        where = _has_edges(self._known.edges, seen)
        wrong: Reason | None = None
        kept = 1.0
        if _share(where, seen) >= ENOUGH:
            same = edges.same(self._known.edges, where)
            kept = float(same.mean())
            wrong = _wrong(self._known, glance, edges, where, same, fine, blurred=self._blurred)
            self._blurred = wrong == "defocused"
            if wrong and not watches(wrong):
                wrong = None
            if self._known_s < KNOWN_S and kept < KEPT_LITTLE:
                self.begin_anew()
                return None
            if kept >= KEPT_ENOUGH and not wrong:
                self._known_s += step_s
        if learn and not wrong:
            self._known.take(base, glance.cells, fine, step_s if kept >= KEPT_ENOUGH else step_s / SLOWER)
        return wrong if self._known_s >= KNOWN_S else None

    def _steady(self, glance: Glance, edges: Edges) -> None:
        if self._before is None or self._before[1].x.shape != edges.x.shape:
            self._before, self.steady = (glance.at_ns, edges), False
        elif abs(glance.at_ns - self._before[0]) >= STEADY_NS:
            where = _has_edges(edges, glance.frame.seen)
            self.steady = bool(where.any()) and float(edges.same(self._before[1], where).mean()) > KEPT_ENOUGH
            self._before = glance.at_ns, edges


def _wrong(
    known: Known,
    glance: Glance,
    edges: Edges,
    where: Grid,
    same: NDArray[np.float32],
    fine: Means,
    *,
    blurred: bool,
) -> Reason | None:
    """What is wrong with a picture whose cells `where` agree `same` with the edges that they should have.

    `blurred`: it was out of focus a moment ago.
    """
    seen = glance.frame.seen
    alike = _correlation(glance.cells[seen], known.cells[seen])
    # In less light edges are weaker, and the picture is darker; behind a cloth or in fog only edges are.
    light = min(1.0, glance.level / max(1.0, float(known.cells[seen].mean())))
    gone = edges.power < (GONE * light) ** 2 * known.edges.power
    if _share(gone & where, where) >= COVERED:
        return "defocused" if alike >= COARSE else "covered"
    if float(same.mean()) < KEPT_LITTLE:
        return "moved" if float((same > AGREES).mean()) <= LEFT else None
    if alike < COARSE:
        return None
    # What light and haze take from edges they take from large shapes too, and from coarse edges as much.
    contrast = min(1.0, float(glance.cells[seen].std()) / max(TINY, float(known.cells[seen].std())))
    sharp = fine[where] / (known.fine[where] + TINY)
    coarse = np.minimum(1, edges.power[where] / known.edges.power[where]) + TINY
    weak, soft = float(np.median(sharp)) / (contrast * contrast + TINY), float(np.median(sharp / coarse))
    return "defocused" if weak * soft <= (STILL_BLURRED if blurred else BLURRED) else None


def _has_edges(edges: Edges, seen: Grid) -> Grid:
    return seen & (edges.power > EDGE * EDGE)


def _share(some: Grid, of: Grid) -> float:
    return float(some.sum()) / max(1.0, float(of.sum()))


def _correlation(one: NDArray[np.float32], other: NDArray[np.float32]) -> float:
    one, other = one - one.mean(), other - other.mean()
    norm = float(np.sqrt((one * one).sum() * (other * other).sum()))
    return float((one * other).sum()) / norm if norm else 0.0
