"""Pictures of results: legible at any size, nothing outside, nothing changed underneath."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agent.drawing import Tag, _placed, colour_of, draw
from engines.results import Classification, Detections

LABELS = ("person", "bicycle", "a very long name of something that was seen")


def seen(*rows: tuple[float, float, float, float, float, int]) -> Detections:
    columns = np.array(rows, np.float32).reshape(-1, 6)
    return Detections(xyxy=columns[:, :4], score=columns[:, 4], label=columns[:, 5].astype(np.int32))


def test_a_box_is_drawn_in_its_labels_colour_on_a_copy() -> None:
    picture = np.full((480, 640, 3), 100, np.uint8)
    drawn = draw(picture, seen((100, 100, 300, 400, 0.9, 0)), LABELS)
    assert (picture == 100).all()
    assert tuple(drawn[250, 100]) == colour_of(0)
    assert tuple(drawn[250, 300]) == colour_of(0)
    assert (drawn[200:300, 150:250] == 100).all()  # what is in the box stays as it was


def test_lines_grow_with_the_picture() -> None:
    widths = []
    for scale in (1, 4):
        picture = np.zeros((480 * scale, 640 * scale, 3), np.uint8)
        edge = draw(picture, seen((200 * scale, 200 * scale, 400 * scale, 400 * scale, 1, 0)), LABELS)[300 * scale]
        widths.append(int((edge == colour_of(0)).all(axis=1).sum()))
    assert widths[1] >= 3 * widths[0]


def test_nothing_seen_draws_nothing() -> None:
    picture = np.random.default_rng(0).integers(0, 256, (60, 80, 3), np.uint8)
    assert (draw(picture, Detections.empty(), LABELS) == picture).all()
    assert (draw(picture, Classification.empty(), LABELS) == picture).all()


def test_neighbouring_labels_have_colours_far_apart() -> None:
    colours = np.array([colour_of(label) for label in range(100)], int)
    for label in range(96):
        near = np.abs(colours[label + 1 : label + 5] - colours[label]).sum(axis=1)
        assert near.min() > 60
    assert len({tuple(colour) for colour in colours[:60]}) == 60


@settings(max_examples=60, deadline=None)
@given(
    st.tuples(st.integers(16, 900), st.integers(16, 900)),
    st.lists(
        st.tuples(*[st.floats(-500, 1500)] * 4, st.floats(0, 1), st.integers(0, 2)),
        max_size=6,
    ),
)
def test_any_result_can_be_drawn_on_any_picture(size, rows) -> None:
    picture = np.zeros((size[1], size[0], 3), np.uint8)
    assert draw(picture, seen(*rows), LABELS).shape == picture.shape
    best = Classification(
        label=np.array([row[5] for row in rows], np.int32), score=np.array([row[4] for row in rows], np.float32)
    )
    assert draw(picture, best, LABELS).shape == picture.shape


@pytest.mark.parametrize("box", [(10, 2, 60, 40), (600, 300, 639, 479), (0, 0, 640, 480), (300, 200, 310, 210)])
def test_names_stay_in_the_picture_and_off_each_other(box) -> None:
    canvas = np.zeros((480, 640, 3), np.uint8)
    tags: list[Tag] = []
    for _ in range(3):
        tags.append(_placed(canvas, "person 0.90", box, tags, 1.0))
    for index, tag in enumerate(tags):
        assert 0 <= tag.left < tag.right <= 640
        assert 0 <= tag.top < tag.bottom <= 480
        assert not any(tag.over(other) for other in tags[:index])


def test_the_best_class_stands_on_a_darkened_panel_and_the_rest_stays() -> None:
    picture = np.full((480, 640, 3), 200, np.uint8)
    best = Classification(label=np.array([0, 1], np.int32), score=np.array([0.7, 0.2], np.float32))
    drawn = draw(picture, best, LABELS)
    assert (drawn[:300] == 200).all()
    assert drawn[470, 5].max() < 120
