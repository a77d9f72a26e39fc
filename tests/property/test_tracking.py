"""Tracks: one id for one object for as long as it is there, whatever the frame rate; and never the same id twice."""

from __future__ import annotations

import itertools
from collections import defaultdict

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agent.tracking import Tracked
from agent.tracking.ids import TrackIds
from agent.tracking.matching import overlap, pair
from agent.tracking.motion import Motion
from agent.tracking.settings import TrackSection
from engines.results import Detections
from tests.support.walks import LABELS, THRESHOLD, Walker, detections, ids_of, seen, tracker

SECOND = 1_000_000_000
MANY = settings(max_examples=25, deadline=None)
side = st.integers(1, 300)
box = st.tuples(st.integers(0, 500), st.integers(0, 500), side, side).map(
    lambda b: (b[0], b[1], b[0] + b[2], b[1] + b[3])
)
row = st.tuples(box, st.integers(1, 99).map(lambda score: score / 100), st.integers(0, len(LABELS) - 1))
frame = st.tuples(
    st.lists(row, max_size=6).map(lambda rows: detections(*rows)),
    st.sampled_from([0, SECOND // 30, SECOND // 10, SECOND // 3, 3 * SECOND, -SECOND]),
    st.booleans(),
)
films = st.lists(frame, max_size=20)
"""Detections, time since the frame before, and whether the camera is lost after it."""


def tracks(tracked: Tracked) -> list[int]:
    return tracked.track.tolist()


def both_ways() -> list[Walker]:
    """Two who meet in the middle of the picture after 3 s and pass each other, and a third one who stands aside."""
    return [
        Walker((100, 300), (100, 0)),
        Walker((700, 310), (-100, 0), size=(44, 110)),
        Walker((400, 80), (0, 0), size=(30, 70)),
    ]


@MANY
@given(films)
def test_no_two_rows_share_an_id_and_no_id_comes_again_once_it_is_gone(film) -> None:
    following, at_ns, gone, before = tracker(confirm=0), 0, set(), set()
    for found, step_ns, lost in film:
        at_ns += step_ns
        tracked = following.update(found, at_ns)
        ids = [track for track in tracks(tracked) if track]
        assert len(ids) == len(set(ids))
        assert set(ids) <= set(tracked.present)
        gone |= before - set(tracked.present)
        assert not gone & set(tracked.present)
        before = set(tracked.present)
        if lost:
            following.forget()
            gone |= before
            before = set()


@MANY
@given(films)
def test_rows_that_are_told_are_those_found_over_the_threshold_or_tracked_in_their_order(film) -> None:
    following, at_ns = tracker(confirm=0), 0
    for found, step_ns, _ in film:
        at_ns += step_ns
        tracked = following.update(found, at_ns)
        assert len(tracked.found) == len(tracked.track) == len(tracked.velocity) == len(tracked.rows)
        assert (np.diff(tracked.rows) > 0).all()
        np.testing.assert_array_equal(tracked.found.xyxy, found.xyxy[tracked.rows])
        np.testing.assert_array_equal(tracked.found.score, found.score[tracked.rows])
        untracked = tracked.track == 0
        assert (tracked.found.score[untracked] >= np.float32(THRESHOLD)).all()
        assert not tracked.velocity[untracked].any()
        assert set((found.score >= np.float32(THRESHOLD)).nonzero()[0]) <= set(tracked.rows)


@MANY
@given(films, st.randoms(use_true_random=False))
def test_the_order_of_the_rows_changes_nothing(film, random) -> None:
    one, other, at_ns = tracker(confirm=0), tracker(confirm=0), 0
    for found, step_ns, lost in film:
        at_ns += step_ns
        order = list(range(len(found)))
        random.shuffle(order)
        first, second = one.update(found, at_ns), other.update(found[np.array(order, np.intp)], at_ns)
        assert first.present == second.present

        def said(tracked) -> list[tuple]:
            rows = zip(tracked.found.xyxy.tolist(), tracked.found.label.tolist(), tracks(tracked), strict=True)
            return sorted((tuple(box), label, track) for box, label, track in rows)

        assert said(first) == said(second)
        if lost:
            one.forget()
            other.forget()


@pytest.mark.parametrize("rate", [3, 5, 10, 30])
def test_those_who_pass_each_other_keep_their_ids_at_any_frame_rate(rate) -> None:
    """Where one is behind the other, nobody could tell their boxes apart."""
    for seed in range(3):
        ids = ids_of(both_ways(), np.arange(0, 6, 1 / rate), np.random.default_rng(seed), but=(2.7, 3.3))
        assert sorted(ids, key=min) == [{1}, {2}, {3}]


def test_irregular_frames_and_holes_of_a_second_do_not_cost_an_id() -> None:
    rng = np.random.default_rng(7)
    times = np.cumsum(rng.choice([0.03, 0.1, 0.3, 1.0], 40))
    walkers = [Walker((100, 200 + 150 * n), (60 - 40 * n, 5)) for n in range(4)]
    assert all(len(ids) == 1 for ids in ids_of(walkers, times.tolist(), rng))


@pytest.mark.parametrize("rate", [3, 30])
@pytest.mark.parametrize(("hidden_s", "ids"), [(1.2, 1), (4.0, 2)])
def test_who_is_hidden_for_less_than_lost_comes_back_as_the_same(rate, hidden_s, ids) -> None:
    walker = Walker((100, 300), (50, 0), score=lambda at_s: 0 if 3 < at_s < 3 + hidden_s else 0.9)
    assert len(ids_of([walker], np.arange(0, 10, 1 / rate), lost=2.0)[0]) == ids


def test_who_is_hidden_is_still_present_until_lost() -> None:
    following = tracker(lost=1.0)
    walker = Walker((100, 300), (0, 0))
    for frame in range(10):
        following.update(seen([walker], frame / 10)[0], frame * SECOND // 10)
    assert following.update(Detections.empty(), round(1.5 * SECOND)).present == (1,)
    assert following.update(Detections.empty(), round(2.5 * SECOND)).present == ()


@pytest.mark.parametrize("rate", [3, 30])
def test_an_object_has_its_id_after_the_same_time_at_any_rate(rate) -> None:
    following, walker = tracker(confirm=1.0), Walker((100, 300), (30, 0))
    for at_s in np.arange(0, 3, 1 / rate):
        track = tracks(following.update(seen([walker], at_s)[0], round(at_s * 1e9)))
        assert track == [int(at_s >= 1.0 - 1e-6)]


def test_a_weak_detection_continues_a_track_and_is_told_but_begins_none() -> None:
    fading = Walker((100, 300), (40, 0), score=lambda at_s: 0.9 if at_s < 1 else 0.25)
    shadow = Walker((500, 300), (0, 0), score=lambda _: 0.25)
    following = tracker()
    for frame in range(40):
        found, whose = seen([fading, shadow], frame / 10)
        tracked = following.update(found, frame * SECOND // 10)
        assert [whose[row] for row in tracked.rows] == [0], "the shadow is never told"
    assert tracks(tracked) == [1]
    assert tracked.found.score[0] == np.float32(0.25)


def test_what_looks_a_little_like_an_object_for_ever_is_told_and_never_gets_an_id() -> None:
    sign = Walker((500, 300), (0, 0), score=lambda _: 0.6)
    following = tracker()
    said = [following.update(seen([sign], frame / 10)[0], frame * SECOND // 10) for frame in range(100)]
    assert all(tracks(tracked) == [0] for tracked in said)


def test_who_walks_past_a_sign_that_looks_like_somebody_does_not_stay_there() -> None:
    sign = Walker((400, 300), (0, 0), score=lambda _: 0.62)
    walker = Walker((100, 310), (80, 0))
    ids = ids_of([sign, walker], np.arange(0, 8, 0.1))
    assert ids == [set(), {1}]


def test_frames_without_anything_are_no_trouble() -> None:
    following = tracker()
    for at_ns in (0, 0, SECOND, 5, 100 * SECOND):
        tracked = following.update(Detections.empty(), at_ns)
        assert not len(tracked.found)
        assert tracked.present == ()


@pytest.mark.parametrize("period", [2, 5])
def test_an_object_keeps_the_label_that_it_has_most_of_the_time(period) -> None:
    """A car that is taken for a truck now and then; it starts with the right one."""
    following = tracker()
    for frame in range(60):
        label = 3 if frame % period == 1 and frame > 3 else 2
        one = detections(((100 + 4 * frame, 100, 260 + 4 * frame, 200), 0.9, label))
        tracked = following.update(one, frame * SECOND // 10)
        assert frame < 3 or (tracks(tracked), tracked.found.label.tolist()) == ([1], [2])


def test_a_rider_and_the_bicycle_are_two_objects() -> None:
    rider = Walker((100, 200), (120, 0), size=(50, 120), label=0)
    bicycle = Walker(
        (100, 240), (120, 0), size=(110, 80), label=1, score=lambda at_s: 0.8 if round(at_s * 10) % 3 else 0
    )
    ids = ids_of([rider, bicycle], np.arange(0, 5, 0.1), np.random.default_rng(3))
    assert sorted(map(len, ids)) == [1, 1]
    assert not ids[0] & ids[1]


def test_one_object_with_two_names_in_a_frame_is_one_track() -> None:
    following = tracker()
    for frame in range(30):
        car = (100 + 3 * frame, 100, 260 + 3 * frame, 200)
        tracked = following.update(detections((car, 0.9, 2), (car, 0.85, 3)), frame * SECOND // 10)
    assert tracks(tracked) == [1, 0]


def test_only_the_labels_that_are_asked_for_are_followed_and_the_others_are_told() -> None:
    following = tracker(labels=("person",))
    for frame in range(10):
        found, whose = seen([Walker((100, 300), (9, 0)), Walker((500, 300), (9, 0), label=2)], frame / 10)
        tracked = following.update(found, frame * SECOND // 10)
    assert dict(zip([whose[row] for row in tracked.rows], tracks(tracked), strict=True)) == {0: 1, 1: 0}


def test_a_threshold_that_is_changed_holds_from_the_next_frame_on() -> None:
    following, walker = tracker(), Walker((100, 300), (0, 0), score=lambda _: 0.5)
    found = seen([walker], 0)[0]
    assert len(following.update(found, 0).found) == 1
    following.report_from(np.full(len(LABELS), 0.6, np.float32))
    assert len(following.update(found, SECOND).found) == 0


@pytest.mark.parametrize("rate", [3, 30])
def test_the_velocity_is_that_of_the_object_in_pixels_a_second(rate) -> None:
    following, walker = tracker(), Walker((100, 300), (60, -20))
    for at_s in np.arange(0, 6, 1 / rate):
        tracked = following.update(seen([walker], at_s)[0], round(at_s * 1e9))
    np.testing.assert_allclose(tracked.velocity[0], [60, -20, 60, -20], atol=8)


@given(st.floats(0.01, 3), st.floats(0.01, 3))
def test_a_place_is_predicted_the_same_in_one_step_and_in_two(first_s, second_s) -> None:
    def moving() -> Motion:
        motion = Motion()
        motion.add(np.array([[100.0, 100, 140, 200], [10, 10, 30, 50]]))
        motion.predict(0.1)
        motion.correct(np.array([0, 1]), np.array([[105.0, 100, 145, 200], [8, 12, 28, 53]]))
        return motion

    one, two = moving(), moving()
    one.predict(first_s + second_s)
    two.predict(first_s)
    two.predict(second_s)
    np.testing.assert_allclose(one.xyxy, two.xyxy, atol=1e-6)
    np.testing.assert_allclose(one.velocity(np.array([0, 1])), two.velocity(np.array([0, 1])), atol=1e-6)
    np.testing.assert_allclose(one.doubt, two.doubt, rtol=0.2)


@MANY
@given(st.integers(0, 6), st.integers(0, 6), st.integers(0, 10_000))
def test_in_pairs_each_row_and_column_is_once_and_no_two_would_gain_by_a_swap(rows, columns, seed) -> None:
    gain = np.random.default_rng(seed).uniform(-0.5, 1, (rows, columns))
    of_column = pair(gain, np.arange(columns, dtype=float))
    pairs = [(row, column) for column, row in enumerate(of_column.tolist()) if row >= 0]
    assert len({row for row, _ in pairs}) == len(pairs)
    assert all(gain[row, column] > 0 for row, column in pairs)
    for (a, b), (c, d) in itertools.combinations(pairs, 2):
        assert min(gain[a, d], gain[c, b]) <= 0 or gain[a, b] + gain[c, d] >= gain[a, d] + gain[c, b] - 1e-6
    left = gain[np.ix_(sorted(set(range(rows)) - {row for row, _ in pairs}), (of_column < 0).nonzero()[0])]
    assert not (left > 0).any(), "nobody is left who could be paired"


@given(st.lists(box, min_size=1, max_size=4), st.lists(box, min_size=1, max_size=4))
def test_overlap_is_intersection_over_union_and_grows_with_the_margin(first, second) -> None:
    a, b = np.array(first, float), np.array(second, float)
    plain = overlap(a, b, np.zeros(len(a)))
    for (i, one), (j, other) in itertools.product(enumerate(first), enumerate(second)):
        sides = [max(0, min(one[k + 2], other[k + 2]) - max(one[k], other[k])) for k in (0, 1)]
        both = sides[0] * sides[1]
        area = sum((box[2] - box[0]) * (box[3] - box[1]) for box in (one, other))
        assert plain[i, j] == pytest.approx(both / (area - both))
    assert ((overlap(a, b, np.full(len(a), 5.0)) >= plain - 1e-9) | (plain > 0)).all()


def test_no_two_cameras_of_an_agent_share_an_id() -> None:
    thresholds = np.full(len(LABELS), THRESHOLD, np.float32)
    found = detections(((10, 10, 50, 90), 0.9, 0), ((200, 10, 240, 90), 0.9, 0))
    numbers = TrackIds()
    numbers.share("abc")
    given = []
    for camera in "abc":
        following = TrackSection(use="people", confirm=0).build(LABELS, thresholds, numbers.of(camera))
        ids = []
        for n in range(5):
            ids += tracks(following.update(found, n * SECOND))
            following.forget()
        given.append(ids)
    assert given[0] == [*range(1, 31, 3)]
    assert len({track for ids in given for track in ids}) == 30


@given(st.lists(st.tuples(st.sets(st.sampled_from("abcde")), st.lists(st.integers(0, 4), min_size=5, max_size=5))))
def test_ids_stay_unique_whatever_cameras_come_and_go(steps: list[tuple[set[str], list[int]]]) -> None:
    """And each camera's rise."""
    numbers, given = TrackIds(), defaultdict(list)
    for cameras, counts in steps:
        numbers.share(sorted(cameras))
        for camera, count in zip(sorted(cameras), counts, strict=False):
            given[camera] += numbers.of(camera)(count).tolist()
    everything = [number for ids in given.values() for number in ids]
    assert len(set(everything)) == len(everything)
    assert all(ids == sorted(ids) and ids[0] >= 1 for ids in given.values() if ids)
