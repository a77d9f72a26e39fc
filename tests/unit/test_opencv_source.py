"""The opencv source apart from cameras: its keys, its files, and what it keeps to itself."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from agent.errors import SourceError
from agent.sources import Intake, opencv
from agent.sources.synthetic import read_barcode
from tests.support.clips import SHORT
from tests.support.http_camera import jpeg


def numbers(intake: Intake | None = None, **keys: Any) -> list[int | None]:
    config = opencv.Config.model_validate(keys)
    with config.open(threading.Event(), intake or Intake()) as pictures:
        return [read_barcode(image.planes[0][:, :, 1]) for _, image in pictures]


@pytest.mark.parametrize(
    ("keys", "says"),
    [
        ({}, "exactly one of device, path, url"),
        ({"device": 0, "url": "http://cam/x"}, "exactly one of"),
        ({"path": "x.mp4", "pixel_format": "MJPG"}, "pixel_format: only with device"),
        ({"url": "http://cam/x", "rate": 5}, "rate: only with device or path"),
        ({"device": 0, "pace": "live"}, "pace: only with path"),
        ({"device": 0, "username": "me"}, "username: only with url"),
        ({"device": 0, "width": 640}, "width and height go together"),
        ({"device": 0, "pixel_format": "MJPEG"}, "String should match pattern"),
        ({"device": -1}, "greater than or equal to 0"),
        ({"device": ""}, "at least 1 character"),
        ({"device": True}, "valid"),
        ({"url": "camera"}, "expected SCHEME://HOST"),
        ({"url": "http://cam/x", "password": "geheim"}, "a password needs a username"),
    ],
)
def test_keys_that_do_not_fit_together_are_named(keys: dict[str, Any], says: str) -> None:
    with pytest.raises(ValidationError, match=says) as caught:
        opencv.Config.model_validate(keys)
    assert "geheim" not in str(caught.value)


@pytest.mark.parametrize(
    ("keys", "label", "lossless"),
    [
        ({"device": "2"}, "/dev/video2", False),
        ({"device": "HD Pro Webcam"}, "HD Pro Webcam", False),
        ({"path": "shot_%04d.png"}, "shot_%04d.png", True),
        ({"path": "x.mp4", "pace": "live"}, "x.mp4", False),
        ({"url": "udp://@:5000"}, "udp://***@:5000", False),
        ({"url": "srt://me:geheim@cam:9000"}, "srt://***@cam:9000", False),
    ],
)
def test_recordings_are_lossless_and_labels_say_what_it_is(keys: dict[str, Any], label: str, lossless: bool) -> None:
    config = opencv.Config.model_validate(keys)
    assert (config.label, config.lossless) == (label, lossless)
    assert "geheim" not in repr(config)


def test_a_file_ends_at_its_last_frame() -> None:
    intake = Intake()
    assert numbers(intake, path=SHORT.path()) == list(range(SHORT.frames))
    assert (intake.facts["codec"], intake.facts["rate"], intake.facts["size"]) == ("h264", "30", "640x360")
    assert intake.unreadable == 0


def test_a_frame_has_the_position_that_the_file_gives_it() -> None:
    with opencv.Config(path=SHORT.path()).open(threading.Event(), Intake()) as pictures:
        positions_ms = [round(captured.monotonic_ns / 1e6) for captured, _ in pictures]
    assert positions_ms == [round(index * 1000 / SHORT.fps) for index in range(SHORT.frames)]


def test_numbered_pictures_may_differ_in_size_and_have_a_rate(tmp_path: Path) -> None:
    """One that cannot be read is counted and skipped."""
    for n in range(1, 6):
        (tmp_path / f"shot_{n:04d}.jpg").write_bytes(jpeg(n, (640, 360) if n % 2 else (800, 480)))
    (tmp_path / "shot_0003.jpg").write_bytes(b"no image")
    intake, taken = Intake(), []
    config = opencv.Config(path=tmp_path / "shot_%04d.jpg", rate=5)
    with config.open(threading.Event(), intake) as pictures:
        for captured, image in pictures:
            taken.append((read_barcode(image.planes[0][:, :, 1]), image.size, captured.monotonic_ns // 1_000_000))
    assert taken == [(1, (640, 360), 0), (2, (800, 480), 200), (4, (800, 480), 400), (5, (640, 360), 600)]
    assert intake.unreadable == 1


@pytest.mark.parametrize(
    ("name", "content", "says"),
    [
        ("absent.mp4", None, "cannot be opened: No such file or directory"),
        ("text.mp4", b"no video at all", "has no video in it that can be decoded"),
        ("cut.mp4", b"\0\0\0\x20ftypisom", "has no video in it that can be decoded"),
        ("shot_%04d.jpg", None, "no such pictures"),
        ("a:b.mp4", None, "No such file"),
        ("a\0b.mp4", None, "embedded null byte"),
    ],
)
def test_what_cannot_be_played_is_an_error_and_nothing_on_stderr(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], name: str, content: bytes | None, says: str
) -> None:
    if content is not None:
        (tmp_path / name).write_bytes(content)
    with pytest.raises(SourceError, match=says):
        numbers(path=tmp_path / name)
    assert capfd.readouterr().err == ""


@pytest.mark.parametrize("device", [63, "/dev/video63", "No Such Cam"])
def test_a_camera_that_is_not_there_is_an_error_and_nothing_on_stderr(
    capfd: pytest.CaptureFixture[str], device: int | str
) -> None:
    with pytest.raises(SourceError, match=r"is not there; |no such camera"):
        numbers(device=device)
    assert capfd.readouterr().err == ""


def test_a_device_that_is_no_camera_is_an_error_that_says_so(capfd: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SourceError, match="/dev/null: cannot be opened: it does not capture video"):
        numbers(device="/dev/null")
    assert capfd.readouterr().err == ""
