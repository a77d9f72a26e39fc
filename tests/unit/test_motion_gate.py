"""`motion: gate`: which pictures a model needs to look at."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import pytest

from agent.frame import Frame, Timestamp
from agent.sight.motion import Gate
from agent.sight.settings import MotionSection
from engines.pixels import Image
from tests.support import views
from tests.support.views import Place, Shot, only

SIZE = (320, 180)
QUIET = Shot(Place(4, SIZE), 30, changes=[])


def passes(luma: views.Luma, t: float) -> views.Luma:
    """Somebody walks from the left to the right."""
    out, x = luma.copy(), round(t * 40) % 300
    out[80:130, x : x + 16] = 20
    return out


WALK = QUIET.but(changes=[only(passes, 12, 16)])


def frame(seq: int, at_s: float, image: Image) -> Frame:
    at_ns = round(at_s * 1e9)
    return Frame("dock", seq, Timestamp(at_ns, at_ns, "file", None), image)


def looked_at(gate: Gate, frames: Iterable[tuple[float, Image]], use: str = "people") -> list[float]:
    """Times of the pictures that were not passed over."""
    return [t for n, (t, image) in enumerate(frames) if not gate.still(use, frame(n, t, image))]


def test_a_still_noisy_picture_is_looked_at_first_and_at_each_heartbeat() -> None:
    for shot in (QUIET, QUIET.but(noise=0), QUIET.but(encoder={"crf": 28, "gop": 8})):
        times = looked_at(Gate(MotionSection(heartbeat=10, hold=1)), shot.pictures())
        assert [t for t in times if t > 1] == [11, 21]


def test_from_the_first_change_on_every_picture_is_looked_at_and_for_a_while_after_the_last() -> None:
    times = looked_at(Gate(MotionSection(heartbeat=10, hold=3)), WALK.pictures())
    assert {n / 4 for n in range(48, 76)} <= set(times)
    assert not [t for t in times if 19.5 < t < 28]


def test_somebody_far_away_is_seen() -> None:
    def far(luma: views.Luma, t: float) -> views.Luma:
        out = luma.copy()
        x = 40 + int(3 * t)
        out[90:98, x : x + 4] = 20
        return out

    times = looked_at(Gate(MotionSection(heartbeat=100, hold=1)), QUIET.but(changes=[far]).pictures())
    assert len(times) > 100


def test_what_moves_too_slowly_to_be_seen_from_frame_to_frame_is_seen_when_it_has_added_up() -> None:
    dusk = QUIET.but(light=lambda t: 200 - 0.4 * t, noise=0.5)
    times = looked_at(Gate(MotionSection(heartbeat=100, hold=0.1)), dusk.pictures())
    assert 2 <= len([t for t in times if t > 1]) <= 20


def test_a_lamp_is_a_change() -> None:
    times = looked_at(Gate(MotionSection(heartbeat=100, hold=1)), QUIET.but(changes=[views.lamp([15], 4)]).pictures())
    assert 15.0 in times


def test_uses_with_rates_of_their_own_each_see_what_changed_since_they_looked() -> None:
    gate, slow = Gate(MotionSection(heartbeat=100, hold=1)), []
    for n, (t, image) in enumerate(WALK.pictures()):
        gate.still("people", frame(n, t, image))
        if n % 20 == 0 and not gate.still("scene", frame(n, t, image)):
            slow.append(t)
    assert slow == [0.0, 15.0, 20.0], "first, while somebody is there, and when nobody is there any more"
    assert gate.counts("scene") == 3


def test_what_is_masked_does_not_move() -> None:
    masked = Gate(MotionSection(heartbeat=100, hold=1), masks=[[(0, 0.3), (1, 0.3), (1, 1), (0, 1)]])
    assert not [t for t in looked_at(masked, WALK.pictures()) if t > 1]


def test_after_a_lost_connection_the_next_picture_is_looked_at() -> None:
    gate = Gate(MotionSection(heartbeat=100, hold=1))
    pictures = list(QUIET.pictures())
    looked_at(gate, pictures[:40])
    gate.away()
    assert looked_at(gate, pictures[40:42])[:1] == [10.0]


def test_for_a_tracker_a_still_time_is_a_glimpse() -> None:
    """Who stood still for a minute has not been unseen for longer than a tracker waits."""
    gate = Gate(MotionSection(heartbeat=10, hold=1))
    seen = []
    for n, (t, image) in enumerate(QUIET.but(seconds=60).pictures()):
        if not gate.still("people", frame(n, t, image)):
            seen.append(t - gate.paused_ns("people") / 1e9)
    steps = np.diff(seen)
    assert (steps > 0).all()
    assert steps.max() == pytest.approx(0.75, abs=0.01)


def test_the_same_recording_is_passed_over_in_the_same_places() -> None:
    first, second = (looked_at(Gate(MotionSection()), WALK.pictures()) for _ in range(2))
    assert first == second
