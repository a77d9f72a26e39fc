"""A picture that is black, or white, all over."""

from __future__ import annotations

from typing import Literal

import numpy as np

from agent.sight.glance import Glance

DARK, BRIGHT = 14.0, 241.0
"""Means of cells, 0 to 255 between black and white: noise is gone from them."""
FLAT = 3.0
"""Standard deviation over the cells: a dark yard has more, and a lens cap less."""
ALL_BUT = 0.02
"""Of the cells: a dead pixel, or a clock."""


def extreme(glance: Glance) -> Literal["black", "white"] | None:
    """Which of them the picture is."""
    cells = np.sort(glance.cells[glance.frame.seen])
    spare = int(len(cells) * ALL_BUT)
    if cells[-1 - spare] < DARK and cells[: len(cells) - spare].std() < FLAT:
        return "black"
    return "white" if cells[spare] > BRIGHT and cells[spare:].std() < FLAT else None
