"""Reading outputs: top-k, thresholds, SSD boxes, suppression, and the columns they come in."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from engines.card import Input
from engines.pixels import fit
from engines.results import Classification, Detections
from engines.tasks import Options, classify, ssd

SQUARE = fit((300, 300), None, Input(width=300, height=300, fit="stretch"))
SSD = ssd.Config(boxes="boxes", scores="scores", grids=(19, 10, 5, 3, 2, 1))


def test_the_best_classes_come_first_and_only_over_the_threshold() -> None:
    task = classify.Config(scores="logits").open(tuple("abcd"), Options(top=3, threshold=0.05))
    (found,) = task.read({"logits": np.array([[1.0, 4.0, -9.0, 3.0]], np.float32)}, [SQUARE])
    assert found.label.tolist() == [1, 3]
    assert found.score == pytest.approx([0.705, 0.259], abs=2e-3)


@given(hnp.arrays(np.float32, (2, 10), elements=st.floats(-100, 100, width=32)), st.integers(1, 20))
def test_classification_agrees_with_sorting_everything(logits, top) -> None:
    task = classify.Config(scores="logits").open(tuple("abcdefghij"), Options(top=top))
    for row, found in zip(logits, task.read({"logits": logits}, [SQUARE] * 2), strict=True):
        exact = np.exp(row.astype(np.float64) - row.max())
        exact /= exact.sum()
        assert len(found) == min(top, 10)
        assert found.score == pytest.approx(np.sort(exact)[::-1][:top], abs=1e-5)


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("activation", ["softmax", "sigmoid", "none"])
def test_what_is_no_number_is_no_class(activation) -> None:
    """Nor is it warned of for each picture; sigmoids of large numbers are none either."""
    task = classify.Config(scores="logits", activation=activation).open(tuple("abc"), Options())
    logits = np.array([[np.nan, np.nan, np.nan], [-200.0, 0.5, -np.inf]], np.float32)
    nothing, found = task.read({"logits": logits}, [SQUARE] * 2)
    assert len(nothing) == 0
    assert found.label[0] == 1


def test_anchors_are_those_of_the_known_network() -> None:
    found = ssd.anchors(SSD)
    assert found.shape == (1917, 4)
    assert found[0] == pytest.approx([0.5 / 19, 0.5 / 19, 0.1, 0.1])
    assert found[-1] == pytest.approx([0.5, 0.5, np.sqrt(0.95), np.sqrt(0.95)])


@given(st.integers(0, 1916), st.tuples(*[st.floats(0.05, 0.95)] * 2), st.tuples(*[st.floats(0.02, 0.9)] * 2))
def test_decoding_undoes_the_encoding_of_a_box(anchor, centre, size) -> None:
    cy, cx, height, width = ssd.anchors(SSD)[anchor]
    deltas = [(centre[1] - cy) / height, (centre[0] - cx) / width, np.log(size[1] / height), np.log(size[0] / width)]
    scaled = np.array([deltas], np.float32) * np.array(SSD.scales, np.float32)
    (xyxy,) = ssd.decode(scaled, ssd.anchors(SSD)[[anchor]], 1 / np.array(SSD.scales, np.float32))
    expected = [centre[0] - size[0] / 2, centre[1] - size[1] / 2, centre[0] + size[0] / 2, centre[1] + size[1] / 2]
    assert xyxy == pytest.approx(expected, abs=1e-4)


def test_ssd_finds_one_person_where_two_anchors_say_so() -> None:
    scores = np.full((1, 1917, 2), -9.0, np.float32)
    deltas = np.zeros((1, 1917, 4), np.float32)
    scores[0, 1916, 1], scores[0, 1911, 1] = 3.0, 2.0  # two large squares in the middle
    (found,) = SSD.open(["person"], Options()).read({"boxes": deltas, "scores": scores}, [SQUARE])
    assert found.score.tolist() == pytest.approx([1 / (1 + np.exp(-3))])
    assert found.xyxy[0] == pytest.approx([3.8, 3.8, 296.2, 296.2], abs=0.1)


def test_ssd_without_anything_over_the_threshold_is_empty() -> None:
    raw = {"boxes": np.zeros((1, 1917, 4), np.float32), "scores": np.full((1, 1917, 2), -9.0, np.float32)}
    (found,) = SSD.open(["person"], Options()).read(raw, [SQUARE])
    assert len(found) == 0


def test_columns_are_checked_frozen_and_sliceable() -> None:
    found = Detections(xyxy=[[0, 0, 1, 1], [1, 1, 2, 2]], score=[0.9, 0.1], label=[0, 1])
    assert found[found.score > 0.5].label.tolist() == [0]
    assert found[np.array([1, 0])].score == pytest.approx([0.1, 0.9])
    with pytest.raises(ValueError, match="read-only"):
        found.score[0] = 1
    with pytest.raises(ValueError, match=r"xyxy: expected shape \(N, 4\), got \(1, 3\)"):
        Detections(xyxy=[[0, 0, 1]], score=[1], label=[0])
    with pytest.raises(ValueError, match="score: expected 2 rows, got 1"):
        Classification(label=[0, 1], score=[0.5])
    assert len(Detections.empty()) == 0
