"""A camera's owner: rates, regions and crops."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.camera import _crop, _wanted
from agent.every import Every
from agent.flow import Mailbox
from agent.frame import Timestamp
from agent.uses import Cascade, Use
from agent.view import pixels
from engines.results import Detections


def due(use: Use, at_ns: int) -> bool:
    return use.due(Timestamp(at_ns, at_ns, "file", None))


def use(every_s: float) -> Use:
    return Use("u", ("x",), Mailbox(), every=Every(round(every_s * 1e9)))


@pytest.mark.parametrize(("rate", "every_s"), [(30, 0.2), (30, 1.0), (25, 0.5), (10, 0.1), (29.97, 1.0)])
def test_a_rate_is_kept_over_time_whatever_the_jitter_of_single_frames(rate, every_s) -> None:
    one = use(every_s)
    frames = int(rate * 60)
    taken = sum(due(one, round(n / rate * 1e9) + (n * 7919 % 5) * 1_000_000) for n in range(frames))
    assert taken == pytest.approx(min(frames, 60 / every_s), rel=0.02)


def test_without_a_rate_every_frame_is_wanted() -> None:
    one = use(0)
    assert all(due(one, n) for n in range(5))


def test_after_a_long_silence_or_a_jump_back_the_next_frame_is_wanted_and_no_burst_follows() -> None:
    one = use(1.0)
    assert [due(one, round(t * 1e9)) for t in (0, 0.5, 1.0, 60.0, 60.5, 61.0)] == [True, False, True, True, False, True]
    assert due(one, round(5e9)), "the clock went back"


@given(
    st.tuples(*[st.floats(-50, 2000)] * 4),
    st.floats(0, 2),
    st.tuples(st.integers(2, 1920), st.integers(2, 1080)),
)
def test_a_crop_is_inside_the_picture_and_has_pixels(box, pad, size) -> None:
    left, top, right, bottom = min(box[0], box[2]), min(box[1], box[3]), max(box[0], box[2]), max(box[1], box[3])
    x0, y0, x1, y1 = _crop((left, top, right, bottom), pad, size)
    assert 0 <= x0 < x1 <= size[0]
    assert 0 <= y0 < y1 <= size[1]


def test_cascades_look_at_what_is_told_and_not_at_what_only_a_tracker_wants_to_see() -> None:
    tracked = Use("u", ("x",), Mailbox(), thresholds=np.array([0.5], np.float32), weak=np.array([0.2], np.float32))
    every = Detections(xyxy=np.tile([0, 0, 9, 9], (3, 1)), score=np.array([0.9, 0.3, 0.1]), label=np.zeros(3))
    found = tracked.over(every)
    assert len(found) == 2
    assert _wanted(found, tracked, Cascade(use(0), None, 0.1, 8)) == [0]


def test_a_region_is_given_in_shares_of_the_picture() -> None:
    assert pixels((0, 0.4, 1, 1), (1280, 720)) == (0, 288, 1280, 720)
    assert pixels((0.999, 0, 1, 0.001), (64, 48)) == (63, 0, 64, 1), "at least a pixel"
