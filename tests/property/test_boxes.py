"""Boxes: suppression against the textbook's loop, and the joining of what tiles found."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from engines.results import Detections
from engines.tasks.boxes import merge, suppress

WHOLE = (0, 0, 1000, 600)
#: a grid of 2 x 2 that overlaps by a fifth
TILES = [(0, 0, 600, 360), (400, 0, 1000, 360), (0, 240, 600, 600), (400, 240, 1000, 600)]


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


def detections(*rows: tuple[tuple[float, float, float, float], float, int]) -> Detections:
    boxes, scores, labels = zip(*rows, strict=True) if rows else ((), (), ())
    return Detections(xyxy=np.reshape(boxes, (-1, 4)), score=scores, label=labels)


def seen_in(tile: tuple[int, int, int, int], objects: Detections) -> Detections:
    """What a perfect detector finds in a tile: every object that it shows any of, cut at its edges."""
    low, high = np.array(tile[:2] * 2), np.array(tile[2:] * 2)
    xyxy = np.clip(objects.xyxy, low, high)
    shown = ((xyxy[:, 2:] - xyxy[:, :2]) > 0).all(axis=1)
    return Detections(xyxy=xyxy[shown], score=objects.score[shown], label=objects.label[shown])


@given(st.integers(0, 2**32 - 1))
def test_objects_smaller_than_the_overlap_are_found_exactly_once(seed) -> None:
    """Each lies whole in some tile; apart from each other, so that none hides another."""
    rng = np.random.default_rng(seed)
    cell = rng.permutation(50)[:20]
    corner = np.stack([cell % 10 * 100, cell // 10 * 120], axis=1) + rng.uniform(0, 10, (20, 2))
    objects = Detections(
        xyxy=np.concatenate([corner, corner + rng.uniform(20, 85, (20, 2))], axis=1),
        score=np.sort(rng.uniform(0.3, 1, 20))[::-1],
        label=rng.integers(0, 3, 20),
    )
    found = merge([seen_in(tile, objects) for tile in TILES], TILES, 0.5, 0.7)
    assert found.xyxy.tolist() == objects.xyxy.tolist()
    assert found.label.tolist() == objects.label.tolist()
    assert found.score.tolist() == objects.score.tolist()


@given(st.lists(st.tuples(st.integers(0, 15), st.integers(0, 2**32 - 1)), min_size=4, max_size=4))
def test_merging_invents_nothing_and_leaves_no_duplicates(parts) -> None:
    """Any boxes: those that stay are some of those given, best first, and no two of different tiles are alike."""
    given_parts = [shifted(crowd(count, seed), tile) for (count, seed), tile in zip(parts, TILES, strict=True)]
    found = merge(given_parts, TILES, 0.5, 0.7)
    origin: dict[tuple[float, ...], set[int]] = {}
    for index, part in enumerate(given_parts):
        for box in part.xyxy.tolist():
            origin.setdefault(tuple(box), set()).add(index)
    boxes = [tuple(box) for box in found.xyxy.tolist()]
    assert set(boxes) <= set(origin)
    assert (np.diff(found.score) <= 0).all()
    assert len(found) > 0 or not any(map(len, given_parts))
    for i in range(len(found)):
        for j in range(i):
            if not origin[boxes[i]] & origin[boxes[j]] and found.label[i] == found.label[j]:
                assert exact_iou(found.xyxy[i], found.xyxy[j]) <= 0.5 + 1e-6


def shifted(found: Detections, tile: tuple[int, int, int, int]) -> Detections:
    """Into the middle of all tiles, where they overlap, cut at the tile's edges."""
    moved = Detections(xyxy=found.xyxy * 3 + [370, 170] * 2, score=found.score, label=found.label)
    return seen_in(tile, moved)


@given(st.integers(0, 40), st.integers(0, 2**32 - 1))
def test_one_tile_that_is_the_picture_is_left_as_it_is(count, seed) -> None:
    found = crowd(count, seed)
    merged = merge([found], [WHOLE], 0.1, 0.1)
    assert merged.xyxy.tolist() == found.xyxy.tolist()
    assert merged.score.tolist() == found.score.tolist()


def test_a_whole_box_replaces_a_better_scored_part_of_it_and_takes_its_score() -> None:
    half = ((400, 100, 480, 200), 0.9, 0)  # the left of it lies in the first tile only
    whole = ((380, 100, 480, 200), 0.6, 0)
    found = merge([detections(whole), detections(half), detections(), detections()], TILES, 0.9, 0.7)
    assert found.xyxy.tolist() == [[380, 100, 480, 200]]
    assert found.score.tolist() == pytest.approx([0.9])


def test_a_small_object_before_a_large_one_stays() -> None:
    """A child before an adult, both seen whole by two tiles: cover alone sends away only what is cut."""
    adult, child = ((420, 60, 560, 220), 0.9, 0), ((450, 120, 500, 215), 0.8, 0)
    both = detections(adult, child)
    found = merge([both, both, detections(), detections()], TILES, 0.5, 0.7)
    assert found.xyxy.tolist() == [list(adult[0]), list(child[0])]


def test_a_part_inside_an_object_of_another_label_stays() -> None:
    wheel, car = ((400, 100, 480, 200), 0.9, 1), ((300, 80, 590, 220), 0.8, 0)
    found = merge([detections(car), detections(wheel), detections(), detections()], TILES, 0.5, 0.7)
    assert sorted(found.label.tolist()) == [0, 1]


def test_nothing_found_anywhere_is_an_empty_result() -> None:
    assert len(merge([Detections.empty()] * 4, TILES, 0.5, 0.7)) == 0
    assert len(merge([], [], 0.5, 0.7)) == 0
