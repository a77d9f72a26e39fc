"""The loss with its interval against the budget, on one line."""

from __future__ import annotations

import math

from calibration.report.svg import Axis, Drawn, chart, line, rect, span, tag, text, tick_text, ticks
from calibration.report.verdict import Scores
from calibration.report.words import interval, points

_LEFT, _RIGHT = 14.0, 14.0
_MIDDLE = 40.0


def draw(scores: Scores, width: float) -> Drawn | None:
    """Return the drawing; None where a figure is none."""
    if not all(math.isfinite(value) for value in (scores.loss, *scores.interval)):
        return None
    low, high = span([scores.loss, *scores.interval], 0.0, *([] if scores.budget is None else [scores.budget * 1.15]))
    pad = (high - low) * 0.08
    axis = Axis(low - pad, high + pad, _LEFT, width - _RIGHT)
    parts: list[Drawn] = []
    if scores.budget is not None:
        edge = axis(scores.budget)
        parts.append(rect(_LEFT, 24, edge - _LEFT, 32, "within"))
        parts.append(rect(edge, 24, width - _RIGHT - edge, 32, "outside"))
        parts.append(line(edge, 18, edge, 62, "budget"))
        anchor = "end" if edge > width * 0.6 else "start"
        parts.append(text(edge, 13, f"budget {points(scores.budget)}", "budget-name", anchor))
    parts.append(line(_LEFT, _MIDDLE, width - _RIGHT, _MIDDLE, "grid"))
    parts.append(line(axis(0), 24, axis(0), 56, "zero"))
    start, stop = (axis(end) for end in scores.interval)
    parts.append(line(start, _MIDDLE, stop, _MIDDLE, "range"))
    parts += [line(x, _MIDDLE - 7, x, _MIDDLE + 7, "range-end") for x in (start, stop)]
    parts.append(tag("circle", cx=axis(scores.loss), cy=_MIDDLE, r=6.0, class_="loss"))
    for tick in ticks(axis.low, axis.high, 5 if width < 500 else 8):
        parts.append(text(axis(tick), 74, tick_text(tick, axis.low, axis.high), "tick", "middle"))
    parts.append(text(width - _RIGHT, 91, "points lost: dot, and its 95 % interval", "axis", "end"))
    said = f"{points(scores.loss)} points lost, 95 % interval {interval(scores.interval)}"
    said += "." if scores.budget is None else f", budget {points(scores.budget)}."
    return chart(width, 96, "Loss against the budget" if scores.budget is not None else "Loss", said, parts)
