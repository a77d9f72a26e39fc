"""What a text in place of a source's mapping stands for."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.sources._shorthand import from_text, glob_of


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("rtsp://10.0.0.7/stream1", {"type": "rtsp", "url": "rtsp://10.0.0.7/stream1"}),
        ("HTTPS://cam/video.mjpg", {"type": "rtsp", "url": "HTTPS://cam/video.mjpg"}),
        ("/dev/video2", {"type": "opencv", "device": "/dev/video2"}),
        ("/dev/v4l/by-id/usb-C920", {"type": "opencv", "device": "/dev/v4l/by-id/usb-C920"}),
        ("rtspsrc location=rtsp://cam/1 ! decodebin", {"type": "gstreamer"}),
        ("shots/shot_%04d.png", {"type": "opencv", "path": "shots/shot_%04d.png"}),
        ("pictures/", {"type": "images", "path": "pictures/"}),
        ("street.mp4", {"type": "file", "path": "street.mp4"}),
        ("file:///srv/street.mp4", {"type": "file", "path": "/srv/street.mp4"}),
        ("a 100% good clip.mp4", {"type": "file"}),
        ("10:30:00.mp4", {"type": "file"}),
    ],
)
def test_a_text_is_taken_for_what_it_looks_like(text: str, expected: dict[str, object]) -> None:
    assert from_text(text).items() >= expected.items()


def test_a_folder_that_is_there_needs_no_slash(tmp_path: Path) -> None:
    assert from_text(str(tmp_path)) == {"type": "images", "path": str(tmp_path)}


def test_a_number_in_a_name_is_a_pattern() -> None:
    assert glob_of("shot_%03d.png") == "shot_[0-9][0-9][0-9].png"
    assert glob_of("[x]%d.png") == "[[]x][0-9]*.png"


@pytest.mark.parametrize("url", ["gopher://me:geheim@x", "srt://me:geheim@cam:9000", "rtps://me:geheim@cam"])
def test_a_url_that_nothing_reads_is_an_error_without_its_credentials(url: str) -> None:
    with pytest.raises(
        ValueError, match=r"unknown kind of URL, \w+://: expected one of rtsp, .*type: opencv"
    ) as caught:
        from_text(url)
    assert "geheim" not in str(caught.value)


@given(st.text() | st.just("x" * 5000))
def test_every_text_is_some_source_or_a_value_error(text: str) -> None:
    with suppress(ValueError):
        assert set(from_text(text)) > {"type"}
