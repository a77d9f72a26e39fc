"""How good tracks are: MOTA and IDF1 by `motmetrics`, a box being right where it overlaps the truth by half."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

Boxes = NDArray[np.float64]
Rows = NDArray[np.float64]
"""(N, 6) frame, id, left, top, right, bottom."""


@dataclass(frozen=True)
class Scores:
    mota: float
    idf1: float
    switches: int
    invented: int
    missed: int

    def __str__(self) -> str:
        return f"{self.mota:.3f} / {self.idf1:.3f}"


def read_truth(path: Path) -> Rows:
    """A file of the MOT challenge: frame, id, left, top, width, height, ...; its frame 1 is our 0."""
    with path.open(newline="", encoding="utf-8") as file:
        rows = np.array([[float(value) for value in row[:6]] for row in csv.reader(file)])
    rows[:, 0] -= 1
    rows[:, 4:6] += rows[:, 2:4]
    return rows


def score(truth: Rows, found: Rows, frames: Sequence[int]) -> Scores:
    """Of the tracks that were found in those frames."""
    import motmetrics

    account = motmetrics.MOTAccumulator(auto_id=True)
    for frame in frames:
        real, said = truth[truth[:, 0] == frame], found[found[:, 0] == frame]
        account.update(real[:, 1].astype(int), said[:, 1].astype(int), _distance(real[:, 2:], said[:, 2:]))
    names = ["mota", "idf1", "num_switches", "num_false_positives", "num_misses"]
    values = motmetrics.metrics.create().compute(account, metrics=names).iloc[0]
    return Scores(values.mota, values.idf1, *(int(values[name]) for name in names[2:]))


def _distance(a: Boxes, b: Boxes) -> Boxes:
    """1 - IoU, NaN where it is over a half (`motmetrics.distances` does not run with NumPy 2)."""
    low, high = np.maximum(a[:, None, :2], b[None, :, :2]), np.minimum(a[:, None, 2:], b[None, :, 2:])
    both = np.clip(high - low, 0, None).prod(axis=-1)
    area = [(boxes[:, 2:] - boxes[:, :2]).prod(axis=-1) for boxes in (a, b)]
    distance: Boxes = 1 - both / (area[0][:, None] + area[1][None] - both)
    distance[distance > 0.5] = np.nan
    return distance
