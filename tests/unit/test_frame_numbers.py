"""Lost H.264 pictures are noticed by their numbers."""

from __future__ import annotations

from pathlib import Path

import av
import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.sources._h264 import FrameNumbers
from tests.support.clips import Clip
from tests.unit.test_file_source import annex_b


def access_units(clip: Clip, folder: Path) -> list[bytes]:
    with av.open(str(annex_b(clip, folder))) as container:
        return [bytes(packet) for packet in container.demux(video=0) if packet.size]


@pytest.mark.parametrize(
    "clip", [Clip(frames=60), Clip(frames=60, profile="high", b_frames=2), Clip(frames=60, gop=60)]
)
def test_a_whole_stream_has_no_gap_and_a_holed_one_has(clip: Clip, tmp_path: Path) -> None:
    """Of reference pictures: nothing is predicted from others, so their loss spoils nothing."""
    units = access_units(clip, tmp_path)
    numbers = FrameNumbers(None)
    assert [unit for unit in units if numbers.is_gap(unit)] == []
    if clip.b_frames:
        return
    for lost in (1, 17, 58):
        numbers = FrameNumbers(None)
        kept = units[:lost] + units[lost + 1 :]
        gaps = [index for index, unit in enumerate(kept) if numbers.is_gap(unit)]
        starts_anew = (lost + 1) % clip.gop == 0
        assert gaps == ([] if starts_anew else [lost])


@given(st.binary(max_size=200))
def test_rubbish_is_no_error(data: bytes) -> None:
    """Whatever the network makes of a packet."""
    numbers = FrameNumbers(b"\0\0\1\x67" + data)
    numbers.is_gap(b"\0\0\1\x61" + data)
    numbers.is_gap(data)
