"""The trade-off between accuracy and float operations: every candidate of the search, and the one that was taken."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from calibration.proof import Point
from calibration.report.svg import (
    Axis,
    Drawn,
    chart,
    hint,
    line,
    mark,
    rect,
    rows,
    span,
    tag,
    text,
    tick_text,
    ticks,
    told,
)
from calibration.report.words import count, decibels, interval, number, points, share, shortened

_SHAPES: tuple[tuple[tuple[float, float], ...], ...] = (
    (),  # a circle
    ((-4.2, -4.2), (4.2, -4.2), (4.2, 4.2), (-4.2, 4.2)),
    ((0, -5.6), (5, 4), (-5, 4)),
    ((0, -6), (6, 0), (0, 6), (-6, 0)),
    ((0, 5.6), (5, -4), (-5, -4)),
    ((-6, -2), (-2, -2), (-2, -6), (2, -6), (2, -2), (6, -2), (6, 2), (2, 2), (2, 6), (-2, 6), (-2, 2), (-6, 2)),
)
"""Corners round the middle; methods beyond these share a circle of their own colour."""
_LEFT, _RIGHT = 52.0, 14.0
_PHONE = 500.0
"""Drawings below this width are for phones: what a mark says takes three lines there, from the left."""
_HIGH, _GAP = 170.0, 40.0
_OFF_SCALE = 3
"""Losses above so many budgets are drawn at the edge: beside a loss of 28 a budget of .5 cannot be seen."""


@dataclass(frozen=True)
class Legend:
    """A method and how its points look."""

    method: str
    swatch: Drawn


def draw(candidates: Sequence[Point], total_macs: int, budget: float, width: float) -> Drawn | None:
    """Losses and noise of the candidates over their share of float operations; None without a candidate."""
    if not candidates:
        return None
    return _Chart(candidates, total_macs, budget, width).drawn()


def legend(candidates: Sequence[Point]) -> list[Legend]:
    """One entry for each way of marking points, in order of appearance."""
    styles = _styles(candidates)
    found: dict[int, Legend] = {}
    for method, style in styles.items():
        name = "other methods" if style == len(_SHAPES) else method
        swatch = tag("svg", _shape(style, 7, 7), viewBox="0 0 14 14", class_="swatch", aria_hidden="true")
        found.setdefault(style, Legend(name, swatch))
    return list(found.values())


def _styles(candidates: Sequence[Point]) -> dict[str, int]:
    """Method -> number of its shape; those beyond the last shape share one more."""
    methods = dict.fromkeys(point.method for point in candidates)
    return {method: min(index, len(_SHAPES)) for index, method in enumerate(methods)}


class _Chart:
    def __init__(self, candidates: Sequence[Point], total_macs: int, budget: float, width: float) -> None:
        self._points, self._total, self._budget = candidates, total_macs, budget
        self._width, self._right = width, width - _RIGHT
        self._narrow = width < _PHONE
        self._top = 72.0 if self._narrow else 56.0
        self._styles = _styles(candidates)
        most = max((self._share(point) for point in candidates), default=0.0)
        self._x = Axis(0.0, max(most * 1.06, 1e-6) if most else 1.0, _LEFT + 8, self._right)
        self._loss = self._loss_axis()
        top = self._top if self._loss is None else self._top + _HIGH + _GAP
        low, high = span([point.output_db for point in candidates])
        pad = (high - low) * 0.1
        self._db = Axis(low - pad, high + pad, top + _HIGH, top)

    def _share(self, point: Point) -> float:
        """Percent of all operations; of a network whose operations nobody counted, millions."""
        return 100 * point.float_macs / self._total if self._total > 0 else point.float_macs / 1e6

    def _loss_axis(self) -> Axis | None:
        measured = [point for point in self._points if _loss(point) is not None]
        if not measured:
            return None
        ends = [end for point in measured for end in _ends(point)]
        chosen = [end for point in measured if point.chosen for end in _ends(point)]
        limit = max(_OFF_SCALE * self._budget, *chosen, 0.0) or max(ends)
        low, high = span([min(0.0, max(min(ends), -limit)), min(max(ends), limit)], self._budget)
        pad = (high - low) * 0.08
        return Axis(low - pad, high + pad, self._top + _HIGH, self._top)

    def drawn(self) -> Drawn:
        parts = [hint(_LEFT), *self._frame()]
        order = sorted(self._points, key=lambda point: point.chosen)  # the chosen one on top
        parts += [self._mark(point) for point in order]
        bottom = self._db.start
        for tick in ticks(self._x.low, self._x.high, 5 if self._narrow else 8):
            parts.append(text(self._x(tick), bottom + 17, tick_text(tick, self._x.low, self._x.high), "tick", "middle"))
        unit = "% of multiplications left in float" if self._total > 0 else "million multiplications left in float"
        parts.append(text(self._right, bottom + 35, unit, "axis", "end"))
        return chart(self._width, bottom + 42, "Accuracy against float operations", self._said(), parts)

    def _frame(self) -> list[Drawn]:
        drawn: list[Drawn] = []
        if self._loss is not None:
            line_y = self._loss(self._budget)
            drawn.append(rect(_LEFT, self._loss.stop, self._right - _LEFT, line_y - self._loss.stop, "outside"))
            drawn += rows(self._loss, _LEFT, self._right)
            drawn.append(line(_LEFT, line_y, self._right, line_y, "budget"))
            drawn.append(text(self._right, line_y - 5, f"budget {points(self._budget)}", "budget-name", "end"))
            drawn.append(text(_LEFT, self._loss.stop - 8, "loss on held-out pictures, points", "axis"))
        drawn += rows(self._db, _LEFT, self._right)
        drawn.append(text(_LEFT, self._db.stop - 8, "signal-to-noise of the outputs, dB", "axis"))
        drawn.append(self._front())
        return drawn

    def _front(self) -> Drawn:
        """The best that can be had for each number of float operations."""
        best = -math.inf
        corners: list[str] = []
        for point in sorted(self._points, key=lambda point: (point.float_macs, -point.output_db)):
            if point.output_db > best:
                x = self._x(self._share(point))
                if corners:
                    corners.append(f"{x:.1f},{self._db(best):.1f}")
                best = point.output_db
                corners.append(f"{x:.1f},{self._db(best):.1f}")
        if corners:
            corners.append(f"{self._right:.1f},{self._db(best):.1f}")
        return tag("polyline", points=" ".join(corners), class_="front")

    def _mark(self, point: Point) -> Drawn:
        x, style = self._x(self._share(point)), self._styles[point.method]
        parts: list[Drawn] = []
        places = []
        loss = _loss(point)
        if self._loss is not None and loss is not None:
            y, ends = self._loss(loss), _ends(point)
            parts.append(line(x, self._loss(min(ends)), x, self._loss(max(ends)), "whisker"))
            places.append(y)
            if loss > self._loss.high:
                parts.append(text(x + 7, y + 5, "↑", "off"))
        if not math.isnan(point.output_db):
            places.append(self._db(point.output_db))
        for y in places:
            parts.append(tag("circle", cx=x, cy=y, r=11.0, class_="hit"))
            if point.chosen:
                parts.append(tag("circle", cx=x, cy=y, r=9.0, class_="chosen"))
            parts.append(_shape(style, x, y))
        if point.chosen and places:
            side = "end" if x > self._width * 0.7 else "start"
            parts.append(text(x - 14 if side == "end" else x + 14, places[0] + 4, "chosen", "chosen-name", side))
        parts.append(told(8.0 if self._narrow else x, self._width, self._words(point)))
        return mark(*parts)

    def _words(self, point: Point) -> list[str]:
        room = 50 if self._narrow else 100
        loss = "loss not measured"
        if point.loss is not None:
            loss = f"loss {number(point.loss, 3)}"
            if point.interval is not None:
                loss += f" ({interval(point.interval)})"
        said = [
            shortened(point.method, room),
            f"{count(len(point.kept_float), 'layer')} in float, {self._told_share(point)} · "
            f"{decibels(point.output_db)} · {loss}",
        ]
        return [said[0], *said[1].split(" · ", 1)] if self._narrow else said

    def _told_share(self, point: Point) -> str:
        if self._total <= 0:
            return f"{point.float_macs:,} MACs"
        return f"{share(point.float_macs, self._total)} of MACs"

    def _said(self) -> str:
        said = f"{count(len(self._points), 'candidate')} of the search."
        for point in self._points:
            if point.chosen:
                said += f" Chosen: {point.method}, {self._told_share(point)} in float, {decibels(point.output_db)}"
                said += f", loss {points(point.loss)} points." if point.loss is not None else "."
        if not any(point.chosen for point in self._points):
            said += " None was chosen."
        return said


def _loss(point: Point) -> float | None:
    """The loss where it was measured and is a number."""
    return point.loss if point.loss is not None and math.isfinite(point.loss) else None


def _ends(point: Point) -> list[float]:
    """The loss and the ends of its interval: those that are numbers."""
    return [value for value in (point.loss, *(point.interval or ())) if value is not None and math.isfinite(value)]


def _shape(style: int, x: float, y: float) -> Drawn:
    """The mark of a method: told apart by shape as well as by colour."""
    kind = f"method m{style}"
    corners = _SHAPES[style] if style < len(_SHAPES) else ()
    if not corners:
        return tag("circle", cx=x, cy=y, r=4.6, class_=kind)
    return tag("polygon", points=" ".join(f"{x + dx:.1f},{y + dy:.1f}" for dx, dy in corners), class_=kind)
