"""Boxes: suppression against the textbook's loop."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from engines.results import Detections
from engines.tasks.boxes import suppress


def crowd(count: int, seed: int, labels: int = 3) -> Detections:
    """Boxes on a small field, so that many overlap; best first, no two scores alike."""
    rng = np.random.default_rng(seed)
    corner = rng.uniform(0, 50, (count, 2))
    xyxy = np.concatenate([corner, corner + rng.uniform(1, 40, (count, 2))], axis=1)
    score = np.sort(rng.permutation(count) + 1)[::-1] / (count + 1)
    return Detections(xyxy=xyxy, score=score, label=rng.integers(0, labels, count))


def exact_iou(a: np.ndarray, b: np.ndarray) -> float:
    a, b = a.astype(np.float64), b.astype(np.float64)
    inner = np.prod(np.clip(np.minimum(a[2:], b[2:]) - np.maximum(a[:2], b[:2]), 0, None))
    union = np.prod(a[2:] - a[:2]) + np.prod(b[2:] - b[:2]) - inner
    return float(inner / union) if union else 0.0


def textbook(found: Detections, limit: float, agnostic: bool) -> list[int]:
    kept: list[int] = []
    for row in range(len(found)):
        rivals = [k for k in kept if agnostic or found.label[k] == found.label[row]]
        if all(exact_iou(found.xyxy[row], found.xyxy[k]) <= limit for k in rivals):
            kept.append(row)
    return kept


@given(st.integers(0, 60), st.integers(0, 2**32 - 1), st.sampled_from([0.3, 0.5, 0.73]), st.booleans())
def test_suppression_agrees_with_the_textbook_loop(count, seed, limit, agnostic) -> None:
    found = crowd(count, seed)
    kept = suppress(found.xyxy, found.score, None if agnostic else found.label, limit)
    assert kept.tolist() == textbook(found, limit, agnostic)


def test_a_box_from_far_outside_does_not_disturb_the_others() -> None:
    """A log size of 80, say, of a network that overflows in one cell."""
    near = np.array([[10, 10, 20, 20], [40, 10, 50, 20], [11, 10, 21, 20], [-1e38, -1e38, 1e38, 1e38]], np.float32)
    score, label = np.array([0.9, 0.8, 0.7, 0.6], np.float32), np.array([79, 79, 79, 3], np.int32)
    assert suppress(near, score, label, 0.5).tolist() == [0, 1, 3]


@pytest.mark.parametrize("label", [None, np.zeros(0, np.int32)])
def test_nothing_to_suppress(label: np.ndarray | None) -> None:
    assert suppress(np.zeros((0, 4), np.float32), np.zeros(0, np.float32), label, 0.5).tolist() == []
