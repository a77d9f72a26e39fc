"""Detection heads read back the boxes that their networks were made to say."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engines.card import Input
from engines.pixels import fit
from engines.results import Detections
from engines.tasks import Options
from tests.support.heads import HEADS, apart

LABELS = ("person", "bicycle", "car", "dog", "chair")
SIZE = (320, 256)
WHOLE = fit(SIZE, None, Input(width=SIZE[0], height=SIZE[1], fit="stretch"))


@pytest.mark.parametrize("name", HEADS)
@settings(max_examples=25)
@given(seed=st.integers(0, 2**32 - 1), count=st.integers(0, 12))
def test_boxes_come_back_as_they_were_said(name: str, seed: int, count: int) -> None:
    """In pixels, with their labels and scores, best first; nothing else."""
    head, objects = HEADS[name], apart(count, len(LABELS), SIZE, seed)
    row = head.row(objects, len(LABELS), SIZE)
    (found,) = head.config.open(LABELS, Options(threshold=0.25)).read({n: v[None] for n, v in row.items()}, [WHOLE])
    assert isinstance(found, Detections)
    assert found.label.tolist() == objects.label.tolist()
    assert found.score == pytest.approx(objects.score, abs=1e-4)
    assert np.allclose(found.xyxy, objects.xyxy, atol=0.05)


@pytest.mark.parametrize("name", HEADS)
@settings(max_examples=25)
@given(seed=st.integers(0, 2**32 - 1), bits=st.integers(1, 100))
def test_whatever_a_network_says_the_result_is_sound(name: str, seed: int, bits: int) -> None:
    """Numbers of any size, some of them not numbers: finite boxes of some area in the picture, scores 0 to 1."""
    head, rng = HEADS[name], np.random.default_rng(seed)
    row = head.blank(len(LABELS), SIZE)
    for values in row.values():
        values[:] = rng.normal(0, bits, values.shape)
        values[rng.random(values.shape) < 0.1] = rng.choice([np.nan, np.inf, -np.inf, 3e38, -3e38, 0, 1])
    (found,) = head.config.open(LABELS, Options(threshold=0.01)).read({n: v[None] for n, v in row.items()}, [WHOLE])
    assert isinstance(found, Detections)
    assert np.isfinite(found.xyxy).all()
    assert (found.xyxy[:, 2:] > found.xyxy[:, :2]).all()
    assert (found.xyxy >= 0).all()
    assert (found.xyxy <= SIZE * 2).all()
    assert ((found.score > 0) & (found.score <= 1)).all()
    assert ((found.label >= 0) & (found.label < len(LABELS))).all()
