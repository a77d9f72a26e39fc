"""A camera that is set up anew while it is looked at, and goes on in the same RTSP session."""

from __future__ import annotations

import pytest

from tests.support.changing import CHANGES, Changed, changed
from tests.support.faulty import LIMIT_S, OVER_RTSP
from tests.support.gstreamer import need_gstreamer

TIMEOUT_S = 1.0
BUSY_S = 5.0


@pytest.fixture(scope="module")
def fared() -> list[Changed]:
    """What has become of all of them. With the default for timeout_s: scripts/prove supervision."""
    need_gstreamer()
    return changed(timeout_s=TIMEOUT_S)


def test_another_size_is_read_on_in_the_same_session(fared: list[Changed]) -> None:
    """In pixels of that size; only OpenCV scales it to the size that it has begun with."""
    size = {one.kind: one.size for one in fared if one.change == "another size"}
    assert size == dict.fromkeys(OVER_RTSP, CHANGES["another size"].size) | {"opencv-rtsp": (320, 192)}
    assert not [one for one in fared if one.change == "another size" and one.lost]


def test_another_codec_in_the_same_session_is_a_loss_and_then_read(fared: list[Changed]) -> None:
    """Packets go on, but nothing comes of them; nobody is shown pictures that some decoder makes of them."""
    cameras = [one for one in fared if one.change == "another codec"]
    assert [one.kind for one in cameras] == list(OVER_RTSP)
    assert all(one.codec == "hevc" for one in cameras)
    assert all(one.found_s is not None and one.found_s < TIMEOUT_S + BUSY_S for one in cameras)
    assert all(one.away_s < TIMEOUT_S + LIMIT_S + BUSY_S for one in cameras)
