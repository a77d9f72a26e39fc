"""Looking in tiles: they cover everything, and each object is one object again."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engines.pixels import Box
from engines.results import Detections
from engines.tiles import Tiles, merge

PICTURE: Box = (0, 0, 1920, 1080)
MANY = settings(max_examples=150, deadline=None)
tilings = st.builds(
    Tiles,
    grid=st.tuples(st.integers(1, 4), st.integers(1, 4)),
    overlap=st.sampled_from([0.1, 0.2, 0.35, 0.5]),
    whole=st.booleans(),
)


def boxes(most: int = 8) -> st.SearchStrategy[list[Box]]:
    """Objects that lie apart, so that nobody could take two of them for one."""
    cell = st.tuples(st.integers(0, 9), st.integers(0, 5))
    size = st.tuples(st.integers(12, 150), st.integers(12, 150))
    return st.dictionaries(cell, size, min_size=1, max_size=most).map(
        lambda found: [(192 * x, 180 * y, 192 * x + w, 180 * y + h) for (x, y), (w, h) in found.items()]
    )


def seen(objects: list[Box], tile: Box, label: int = 0, least: float = 0.0) -> Detections:
    """What a perfect detector finds in a tile, cut at its edges: objects of which it sees six pixels, and `least`."""
    rows = []
    for left, top, right, bottom in objects:
        box = (max(left, tile[0]), max(top, tile[1]), min(right, tile[2]), min(bottom, tile[3]))
        width, height = box[2] - box[0], box[3] - box[1]
        if min(width, height) >= 6 and width * height >= least * (right - left) * (bottom - top):
            rows.append(box)
    score = np.linspace(0.9, 0.5, len(rows))
    return Detections(xyxy=np.array(rows, np.float32).reshape(-1, 4), score=score, label=np.full(len(rows), label))


@MANY
@given(tilings, st.integers(32, 3000), st.integers(32, 3000))
def test_tiles_cover_every_pixel_lie_inside_and_are_of_one_size(tiles: Tiles, width: int, height: int) -> None:
    regions = tiles.regions((10, 20, 10 + width, 20 + height))
    covered = np.zeros((height, width), bool)
    parts = regions[: tiles.grid[0] * tiles.grid[1]]
    for left, top, right, bottom in parts:
        assert 10 <= left < right <= 10 + width
        assert 20 <= top < bottom <= 20 + height
        covered[top - 20 : bottom - 20, left - 10 : right - 10] = True
    assert covered.all()
    assert max(r - x for x, _, r, _ in parts) - min(r - x for x, _, r, _ in parts) <= 1
    assert len(regions) - len(parts) == (tiles.whole and len(parts) > 1)


@MANY
@given(tilings, boxes())
def test_each_object_is_found_once_whole_and_where_it_is(tiles: Tiles, objects: list[Box]) -> None:
    regions = tiles.regions(PICTURE)
    found = merge([seen(objects, region) for region in regions], regions)
    assert sorted(map(tuple, found.xyxy.tolist())) == sorted(tuple(map(float, box)) for box in objects)
    assert (np.diff(found.score) <= 0).all()


@MANY
@given(boxes(most=4), st.integers(0, 2**32 - 1))
def test_badly_measured_findings_are_still_one_object_each(objects: list[Box], seed: int) -> None:
    """Each edge of each finding is off by up to four per cent; slivers, which no network finds, are left out."""
    rng = np.random.default_rng(seed)
    objects = [box for box in objects if min(box[2] - box[0], box[3] - box[1]) >= 40]
    tiles = Tiles(grid=(2, 2))
    regions = tiles.regions(PICTURE)
    parts = []
    for region in regions:
        exact = seen(objects, region, least=0.25)
        sides = np.tile(exact.xyxy[:, 2:] - exact.xyxy[:, :2], 2)
        noisy = exact.xyxy + rng.uniform(-0.04, 0.04, exact.xyxy.shape).astype(np.float32) * sides
        low, high = np.array(region[:2] * 2, np.float32), np.array(region[2:] * 2, np.float32)
        parts.append(Detections(xyxy=np.clip(noisy, low, high), score=exact.score, label=exact.label))
    assert len(merge(parts, regions)) == len(objects)


def test_an_object_larger_than_a_tile_is_put_together_from_its_pieces() -> None:
    """Without the look at the whole picture, over four tiles."""
    lorry = (300, 200, 1700, 900)
    regions = Tiles(grid=(2, 2), whole=False).regions(PICTURE)
    assert merge([seen([lorry], region) for region in regions], regions).xyxy.tolist() == [list(map(float, lorry))]


def test_a_child_in_front_of_an_adult_stays_and_so_does_what_has_another_label() -> None:
    adult, child = (860, 300, 1060, 900), (900, 600, 980, 900)
    regions = Tiles(grid=(2, 2)).regions(PICTURE)
    people = merge([seen([adult, child], region) for region in regions], regions)
    assert sorted(map(tuple, people.xyxy.tolist())) == [adult, child]
    labels = [seen([adult], region, label=i % 2) for i, region in enumerate(regions)]
    assert set(merge(labels, regions).label.tolist()) == {0, 1}


def test_two_beside_each_other_are_not_joined_by_a_piece_that_touches_both() -> None:
    regions = ((0, 0, 1100, 1080), (900, 0, 1920, 1080))
    left, right = (700, 400, 1000, 600), (1000, 400, 1300, 600)
    assert len(merge([seen([left, right], region) for region in regions], regions)) == 2


def test_nothing_found_is_an_empty_result() -> None:
    regions = Tiles(grid=(2, 1)).regions(PICTURE)
    assert len(merge([Detections.empty()] * 3, regions)) == 0


@pytest.mark.parametrize("wrong", [{"grid": [0, 2]}, {"grid": [2, 2], "overlap": 0.6}, {"grid": [2]}, {}])
def test_impossible_tilings_are_refused(wrong: dict) -> None:
    with pytest.raises(ValueError, match="validation error"):
        Tiles.model_validate(wrong)
