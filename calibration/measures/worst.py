"""The classes that lose most."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

_SHOWN = 10

Row = tuple[str, float, float, int]
"""Label, points of a, points of b, number of what was counted."""


def worst(rows: Sequence[Row], counted: str, key: Callable[[Row], float]) -> list[dict[str, Any]]:
    """Classes that lose something, those with the largest `key` first: JSON values, in points."""
    losing = sorted((row for row in rows if row[1] > row[2]), key=lambda row: (-key(row), row[0]))
    return [
        {"label": label, "a": round(a, 3), "b": round(b, 3), "loss": round(a - b, 3), counted: count}
        for label, a, b, count in losing[:_SHOWN]
    ]
