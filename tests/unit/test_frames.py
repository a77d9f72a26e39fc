"""Frames of videos and cameras for calibration: the same ones of a video each time, and cameras that say nothing."""

from __future__ import annotations

import threading
import time
from datetime import datetime, timedelta
from itertools import islice, pairwise
from pathlib import Path

import numpy as np
import pytest

from agent.commands._pictures import camera_frames, camera_source, video_frames
from agent.errors import SourceError
from agent.sources import Intake, file, synthetic
from agent.sources.synthetic import read_barcode
from calibration.pictures import from_frames
from engines.pixels import Image
from tests.support.clips import SHORT
from tests.support.http_camera import HttpCamera


def number(image: Image) -> int | None:
    return read_barcode(image.planes[0])


@pytest.mark.parametrize(
    ("count", "expected"), [(5, [8, 17, 26, 35, 44]), (SHORT.frames, list(range(SHORT.frames))), (900, None)]
)
def test_frames_of_a_video_are_spread_evenly_over_it_and_named_by_their_number(count, expected) -> None:
    with video_frames(SHORT.path(), count) as frames:
        found = [(name, number(image)) for name, image in frames]
    expected = list(range(SHORT.frames)) if expected is None else expected
    assert found == [(f"{SHORT.path().stem}-{n:06}", n) for n in expected]


def test_frames_of_a_video_are_stored_as_the_agent_gets_them(tmp_path: Path) -> None:
    with file.Config(path=SHORT.path()).open(threading.Event(), Intake()) as pictures:
        live = [image for _, image in pictures]
    for _ in range(2):
        with video_frames(SHORT.path(), 3) as frames:
            samples = from_frames(frames, tmp_path, "i420", 3)
    assert [number(sample.read()) for sample in samples] == [14, 29, 44]
    for sample in samples:
        stored = sample.read()
        same = live[number(stored)]
        assert (stored.format, stored.matrix, stored.range) == (same.format, same.matrix, same.range)
        assert all(np.array_equal(a, b) for a, b in zip(stored.planes, same.planes, strict=True))


def test_a_video_of_any_name_gives_frames_that_can_be_stored(tmp_path: Path) -> None:
    """Hidden ones would not be found again, and names of files end at 255 bytes."""
    video = tmp_path / f".{'x' * 240}.mp4"
    video.symlink_to(SHORT.path())
    with video_frames(video, 2) as frames:
        assert len(from_frames(frames, tmp_path / "frames", "i420", 2)) == 2


def test_a_video_that_is_none_says_so_in_a_line(tmp_path: Path) -> None:
    (tmp_path / "notes.mp4").write_text("no video")
    for name, said in (("notes.mp4", "cannot be opened"), ("gone.mp4", "cannot be opened: No such file")):
        with pytest.raises(SourceError, match=f"{name}: {said}") as caught, video_frames(tmp_path / name, 3):
            pass
        assert "\n" not in str(caught.value)


def test_a_video_that_is_cut_off_gives_what_there_is(tmp_path: Path) -> None:
    """Raw H.264, which has no table of contents at its end."""
    import av

    with av.open(str(SHORT.path())) as whole, av.open(str(tmp_path / "raw.h264"), "w") as raw:
        stream = raw.add_stream_from_template(whole.streams.video[0])
        for packet in whole.demux(video=0):
            if packet.size:
                packet.stream = stream
                raw.mux(packet)
    data = (tmp_path / "raw.h264").read_bytes()
    (tmp_path / "cut.h264").write_bytes(data[: len(data) // 2])
    with video_frames(tmp_path / "cut.h264", 5) as frames:
        numbers = [number(image) for _, image in frames]
    assert 4 <= len(numbers) <= 5
    assert numbers == sorted(numbers)
    assert 15 < numbers[-1] < 30


def test_frames_of_a_camera_keep_their_distance(tmp_path: Path) -> None:
    """30 a second come, 10 a second at most are taken, each named after the time when it was taken."""
    with HttpCamera() as camera, camera_frames(camera_source(camera.stream), every_s=0.1) as frames:
        found = [(name, number(image)) for name, image in islice(frames, 4)]
    names, numbers = zip(*found, strict=True)
    taken = [datetime.strptime(name, "%Y%m%dT%H%M%S.%fZ") for name in names]
    # Each is the first one of its tenth of a second; by its own clock, for a camera may send late.
    assert all(moment - taken[0] > timedelta(seconds=0.1 * n - 0.005) for n, moment in enumerate(taken))
    assert all(earlier < later for earlier, later in pairwise(numbers))


def test_a_camera_that_goes_silent_is_given_up(tmp_path: Path) -> None:
    """Its source would wait for it: the second picture comes after 100 s."""
    quiet = synthetic.Config(rate=0.01)
    begun_s = time.monotonic()
    with camera_frames(quiet, every_s=0, silent_s=0.3) as frames:
        assert number(next(frames)[1]) == 0
        with pytest.raises(SourceError, match=r"synthetic 640x360: the camera has sent no picture for 0\.3 s"):
            next(frames)
    assert 0.3 <= time.monotonic() - begun_s < 10


def test_a_slow_reader_is_not_a_silent_camera() -> None:
    with camera_frames(synthetic.Config(rate=100), every_s=0, silent_s=0.1) as frames:
        next(frames)
        assert not threading.Event().wait(0.3)
        assert number(next(frames)[1]) > 0


def test_ctrl_c_leaves_nothing_behind(tmp_path: Path) -> None:
    def interrupt(done: int, total: int) -> None:
        if done == 2:
            raise KeyboardInterrupt

    with (
        pytest.raises(KeyboardInterrupt),
        camera_frames(synthetic.Config(), every_s=0) as frames,
    ):
        from_frames(frames, tmp_path, "i420", 9, interrupt)
    assert len(list(tmp_path.iterdir())) == 2


def test_a_camera_that_nobody_reaches_is_told_without_its_password() -> None:
    with HttpCamera() as camera:
        gone = f"http://admin:hunter2@127.0.0.1:{camera.port}/stream.mjpg"
    with pytest.raises(SourceError) as caught, camera_frames(camera_source(gone), every_s=1):
        pass
    assert "hunter2" not in str(caught.value)
    assert f"http://***@127.0.0.1:{camera.port}/stream.mjpg: " in str(caught.value)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("ftp://admin:hunter2@cam/1", r"ftp://\*\*\*@cam/1: unknown kind of URL"),
        ("rtsp://", "rtsp://: "),
        ("rtspsrc location=rtsp://admin:hunter2@cam/1 ! nothing else", None),
    ],
)
def test_what_names_no_camera_is_an_error_without_credentials(text, said) -> None:
    if said is None:
        assert "hunter2" not in camera_source(text).label
        return
    with pytest.raises(SourceError, match=said) as caught:
        camera_source(text)
    assert "hunter2" not in str(caught.value)
    assert "\n" not in str(caught.value)
