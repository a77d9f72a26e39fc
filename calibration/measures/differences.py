"""How far two results of one picture are apart: 0 for equal ones, always finite."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from engines.results import Classification, Detections

_SAME = 0.5
"""IoU from which two boxes are taken for one object."""


def best(result: Classification) -> int:
    """The class that a model takes a picture for; -1 if it reports none."""
    return int(result.label[0]) if len(result) else -1


def classes_differ(a: Classification, b: Classification) -> float:
    """Total variation distance of the scores, 0 to 1 where they are shares, and 1 more if the best class differs."""
    labels = np.union1d(a.label, b.label)
    scores = np.zeros((2, len(labels)))
    for row, result in zip(scores, (a, b), strict=True):
        row[np.searchsorted(labels, result.label)] = np.nan_to_num(result.score.astype(np.float64))
    return float(np.abs(scores[0] - scores[1]).sum() / 2) + (best(a) != best(b))


def boxes_differ(a: Detections, b: Detections, threshold: float) -> float:
    """Sum over the objects that at least one of them reports with a score of at least `threshold`.

    One that the other has not counts its score; one that both have, the difference of their scores and, times the
    lower score, what their IoU lacks of 1.
    """
    ious = _ious(a, b)
    free = np.ones(len(b), np.bool_)
    total = 0.0
    for row in np.argsort(-a.score, kind="stable"):
        near = np.where(free & (b.label == a.label[row]), ious[row], 0.0)
        mate = int(near.argmax()) if len(near) else -1
        if mate < 0 or near[mate] < _SAME:
            total += _counts(float(a.score[row]), threshold)
            continue
        free[mate] = False
        low, high = sorted((float(a.score[row]), float(b.score[mate])))
        if _counts(high, threshold):
            total += high - low + low * (1 - near[mate])
    return total + sum(_counts(float(score), threshold) for score in b.score[free])


def _counts(score: float, threshold: float) -> float:
    return score if score >= threshold else 0.0


def _ious(a: Detections, b: Detections) -> NDArray[np.float64]:
    """(len(a), len(b))"""
    x, y = a.xyxy.astype(np.float64)[:, None], b.xyxy.astype(np.float64)[None]
    inner = np.prod(np.clip(np.minimum(x[..., 2:], y[..., 2:]) - np.maximum(x[..., :2], y[..., :2]), 0, None), axis=2)
    union = np.prod(x[..., 2:] - x[..., :2], axis=2) + np.prod(y[..., 2:] - y[..., :2], axis=2) - inner
    return np.asarray(np.divide(inner, union, out=np.zeros_like(inner), where=union > 0), np.float64)
