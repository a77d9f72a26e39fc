"""Pictures full of boxes, and what a detector says of them: some right, some doubtful, some wrong."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from calibration.truth import Boxes
from engines.results import Detections

LABELS = ("person", "bicycle", "car")


@dataclass(frozen=True)
class Scenes:
    objects: list[Boxes]
    found: list[Detections]
    """What one detector says."""
    other: list[Detections]
    """What another one says."""


def boxes(xyxy: np.ndarray, label: np.ndarray, crowd: np.ndarray | None = None) -> Boxes:
    xyxy = np.asarray(xyxy, np.float64).reshape(-1, 4)
    crowd = np.zeros(len(xyxy), np.bool_) if crowd is None else crowd
    sides = xyxy[:, 2:] - xyxy[:, :2]
    return Boxes(xyxy, np.asarray(label, np.int32), crowd, sides.prod(axis=1))


def scenes(
    pictures: int,
    objects: int,
    guesses: int,
    crowds: float = 0.0,
    ties: bool = False,
    seed: int = 0,
    shake: float = 0.1,
    kinds: int = len(LABELS),
) -> Scenes:
    """Up to `objects` objects a picture, found but for a `shake` of their size, and up to `guesses` wrong detections.

    `ties`: scores and sides are round numbers, so that many are equal and IoU lies right on limits.
    """
    rng = np.random.default_rng(seed)
    made = Scenes([], [], [])
    for _ in range(pictures):
        count = rng.integers(objects + 1)
        truth = _some(rng, count)
        label = rng.integers(kinds, size=count)
        if ties:
            truth = truth.round(-1)
        made.objects.append(boxes(truth, label, rng.uniform(size=count) < crowds))
        for said in (made.found, made.other):
            near = truth + rng.normal(0, shake, truth.shape) * np.tile(truth[:, 2:] - truth[:, :2], 2)
            wrong = rng.integers(guesses + 1)
            xyxy = np.concatenate([near, _some(rng, wrong)])
            labels = np.concatenate([label, rng.integers(kinds, size=wrong)])
            score = rng.uniform(0.02, 1, count + wrong)
            if ties:
                xyxy, score = xyxy.round(-1), score.round(1)
            xyxy[:, 2:] = np.maximum(xyxy[:, 2:], xyxy[:, :2] + 1)
            order = np.argsort(-score, kind="stable")
            said.append(Detections(xyxy=xyxy[order], score=score[order], label=labels[order]))
    return made


def _some(rng: np.random.Generator, count: int) -> np.ndarray:
    corner = rng.uniform(0, 200, (count, 2))
    return np.concatenate(
        [corner, corner + rng.choice([20, 60, 150], (count, 1)) * rng.uniform(0.7, 1.3, (count, 2))], axis=1
    )
