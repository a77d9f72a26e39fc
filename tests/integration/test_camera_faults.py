"""Every kind of network source with every fault that its camera and the way to it can have, in one agent.

All cameras break at the same moment and are mended at the same moment, so that what one suffers could delay another.
The full table, with its figures: `scripts/prove supervision`.
"""

from __future__ import annotations

from pathlib import Path

from tests.support.cable import Fault
from tests.support.faulty import FPS, KEY_FRAME_S, KINDS, LIMIT_S, OVER_UDP, Lag, Site, faults_of
from tests.support.gstreamer import need_gstreamer
from tests.support.reopening import Reopening

FOUND: tuple[Fault, ...] = ("refused", "silent", "stalled", "cut", "garbage")
"""After these nothing can come; what else costs pictures shows or not, as decoders conceal."""
BUSY_S = 2.0
"""What a busy machine may add."""


def test_a_loss_is_told_in_time_and_a_camera_that_is_back_streams_in_time(tmp_path: Path) -> None:
    """Within five seconds each, plus a key frame's distance for the way back; the other cameras never notice."""
    need_gstreamer()
    # Each kind has some of the faults here, each fault some of the kinds; all of all: scripts/prove supervision.
    cells = [(kind, fault) for i, kind in enumerate(KINDS) for fault in faults_of(kind)[i % 3 :: 3]]
    assert {fault for _, fault in cells} == {fault for kind in KINDS for fault in faults_of(kind)}
    with Lag() as lag, Site(tmp_path, cells) as site:
        assert site.await_all(60) == []
        assert site.over_udp() == set(OVER_UDP)
        began = site.spoil_all(LIMIT_S + 4)  # decoders make pictures of noise, for a while
        ended = site.mend_all(LIMIT_S + KEY_FRAME_S + 10)
        slack = BUSY_S + 3 * lag.worst_s
        site.note_reasons()
        counts = {name: camera.counts() for name, camera in site.service.cameras.items()}
    late = [one for one in site.fared if one.fault in FOUND and not (one.found_s or 99) <= LIMIT_S + slack]
    assert not late
    assert not [one for one in site.fared if one.fault == "clock" and one.found_s]
    assert not [one for one in site.fared if not (one.back_s or 99) <= LIMIT_S + KEY_FRAME_S + slack]
    assert all(gaps.worst_s(began, ended) < 1 / FPS + slack for gaps in site.gaps.values())
    assert all(counts[name]["reconnects"] == 0 for name in site.gaps)
    assert {count["abandoned"] for count in counts.values()} == {0}
    for camera in site.service.cameras.values():
        for account in camera.counts()["uses"].values():
            assert account["offered"] == sum(n for name, n in account.items() if name != "offered")


def test_opening_again_and_again_leaves_nothing_behind() -> None:
    """Threads and descriptors are what they were; memory is what it was, but for what allocators keep."""
    need_gstreamer()
    with Reopening() as reopening:
        reopening.round(2)
        before = reopening.settled()
        reopening.round(3)
        after = reopening.settled(before)
    assert after.threads <= before.threads
    assert after.descriptors <= before.descriptors
    assert after.rss_mb < before.rss_mb + 40
