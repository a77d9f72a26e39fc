"""Objects that walk through a picture, and what a detector says of them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from agent.tracking import Tracker
from agent.tracking.settings import TrackSection
from engines.results import Detections

LABELS = ("person", "bicycle", "car", "truck")
THRESHOLD = 0.4


@dataclass(frozen=True)
class Walker:
    """Walks on a straight line, at a constant speed; sizes and places in pixels."""

    start: tuple[float, float]
    """Of the centre, at second 0."""
    speed: tuple[float, float]
    """Pixels a second."""
    size: tuple[float, float] = (40.0, 100.0)
    label: int = 0
    score: Callable[[float], float] = lambda _: 0.9
    """At a second; 0: not seen."""

    def box(self, at_s: float) -> tuple[float, float, float, float]:
        x, y = (p + v * at_s for p, v in zip(self.start, self.speed, strict=True))
        return x - self.size[0] / 2, y - self.size[1] / 2, x + self.size[0] / 2, y + self.size[1] / 2


def detections(*rows: tuple[tuple[float, float, float, float], float, int]) -> Detections:
    """Of (box, score, label), best first."""
    ordered = sorted(rows, key=lambda row: -row[1])
    return Detections(
        xyxy=np.array([box for box, _, _ in ordered], np.float32).reshape(-1, 4),
        score=np.array([score for _, score, _ in ordered], np.float32),
        label=np.array([label for _, _, label in ordered], np.int32),
    )


def seen(walkers: Sequence[Walker], at_s: float, rng: np.random.Generator | None = None, wobble: float = 0.03) -> tuple:
    """Detections of one moment, and the number of the walker that each row is. `wobble`: of the edges, box sizes."""
    rows = []
    for number, walker in enumerate(walkers):
        score = walker.score(at_s)
        if score:
            box = np.array(walker.box(at_s))
            if rng is not None:
                box += rng.normal(0, wobble * np.sqrt(np.prod(walker.size)), 4)
            rows.append((tuple(box.tolist()), score, walker.label, number))
    rows.sort(key=lambda row: -row[1])
    return detections(*(row[:3] for row in rows)), [row[3] for row in rows]


def tracker(**settings) -> Tracker:
    """With those settings of `track:`."""
    return TrackSection(use="people", **settings).build(LABELS, np.full(len(LABELS), THRESHOLD, np.float32))


def ids_of(
    walkers: Sequence[Walker], times_s: Sequence[float], rng=None, *, but: tuple[float, float] = (0, 0), **settings
) -> list[set[int]]:
    """The ids that each walker had; between the two seconds of `but` nobody looks."""
    following, ids = tracker(**settings), [set() for _ in walkers]
    for at_s in times_s:
        found, whose = seen(walkers, at_s, rng)
        tracked = following.update(found, round(at_s * 1e9))
        for track, row in zip(tracked.track.tolist(), tracked.rows.tolist(), strict=True):
            if track and not but[0] < at_s < but[1]:
                ids[whose[row]].add(track)
    return ids
