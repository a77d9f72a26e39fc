"""Video files: lossless or live, looped, cut off, damaged, and things that are no video."""

from __future__ import annotations

import random
import subprocess
import threading
import time
from itertools import pairwise
from pathlib import Path

import pytest

from agent.errors import SourceError
from agent.frame import Timestamp
from agent.sources import Intake, file
from agent.sources.synthetic import read_barcode
from engines.pixels import Image
from tests.support.clips import SHORT, Clip

Taken = list[tuple[Timestamp, int | None]]
FRAME_NS = 1e9 / 30


def number(image: Image) -> int | None:
    return read_barcode(image.planes[0])


def read(config: file.Config, most: int | None = None, intake: Intake | None = None) -> Taken:
    """The stamps and numbers of its pictures, of the first `most` if it does not end."""
    taken: Taken = []
    with config.open(threading.Event(), intake or Intake()) as pictures:
        for captured, image in pictures:
            taken.append((captured, number(image)))
            if len(taken) == most:
                break
    return taken


def test_lossless_is_every_frame_with_its_place_in_the_recording() -> None:
    """In order, none twice; the facts say what it is."""
    intake = Intake()
    taken = read(file.Config(path=SHORT.path()), intake=intake)
    assert [n for _, n in taken] == list(range(SHORT.frames))
    for captured, n in taken:
        assert captured.monotonic_ns == pytest.approx((n or 0) * FRAME_NS, abs=1e6)
        assert (captured.clock, captured.live, captured.received_ns) == ("file", False, None)
    assert intake == Intake(facts={"codec": "h264", "rate": "30", "size": "640x360"})


def test_pictures_that_are_decoded_in_another_order_come_in_theirs() -> None:
    """Predicted from both sides, the last ones flushed out at the end."""
    clip = Clip(frames=40, profile="high", b_frames=2)
    assert [n for _, n in read(file.Config(path=clip.path()))] == list(range(40))


def test_a_loop_starts_again_and_time_goes_on() -> None:
    """By a frame's length at the seam."""
    taken = read(file.Config(path=SHORT.path(), loop=True), most=2 * SHORT.frames + 5)
    assert [n for _, n in taken] == [i % SHORT.frames for i in range(len(taken))]
    steps = [b.monotonic_ns - a.monotonic_ns for (a, _), (b, _) in pairwise(taken)]
    assert min(steps) > 0.9 * FRAME_NS
    assert max(steps) < 1.1 * FRAME_NS


def test_a_start_leaves_out_what_comes_before_it_in_every_loop() -> None:
    """The first picture that is left is the recording's new beginning."""
    config = file.Config(path=SHORT.path(), loop=True, start="1s")
    taken = read(config, most=2 * (SHORT.frames - 30))
    assert [n for _, n in taken] == [*range(30, SHORT.frames)] * 2
    assert taken[0][0].monotonic_ns == pytest.approx(0, abs=1e6)
    assert taken[0][0].wall_ns == pytest.approx(SHORT.path().stat().st_mtime_ns + 10**9, abs=2e6)


def test_live_pace_is_real_time() -> None:
    """No frame before its time, stamped as a camera's."""
    started_ns = time.monotonic_ns()
    taken = read(file.Config(path=SHORT.path(), pace="live"))
    assert [n for _, n in taken] == list(range(SHORT.frames))
    assert time.monotonic_ns() - started_ns >= (SHORT.frames - 1) * FRAME_NS
    first = taken[0][0]
    for place, (captured, _) in enumerate(taken):
        assert captured.live
        assert captured.monotonic_ns - first.monotonic_ns >= place * FRAME_NS - 1e6


def test_live_pace_ends_at_once_when_it_must() -> None:
    """Even while it waits for the next frame's time."""
    slow = Clip(frames=4, fps=1, gop=1)
    stop = threading.Event()
    with file.Config(path=slow.path(), pace="live").open(stop, Intake()) as pictures:
        next(pictures)
        threading.Timer(0.05, stop.set).start()
        asked = time.monotonic()
        assert next(pictures, None) is None
        assert time.monotonic() - asked < 0.5


def test_a_file_that_is_cut_off_gives_what_is_left(tmp_path: Path) -> None:
    """The last packet is unreadable, counted and named; what was before is all there."""
    stream = annex_b(SHORT, tmp_path)
    stream.write_bytes(stream.read_bytes()[: stream.stat().st_size // 2])
    intake = Intake()
    taken = [n for _, n in read(file.Config(path=stream), intake=intake)]
    assert 5 < len(taken) < SHORT.frames
    assert taken == list(range(len(taken)))
    assert intake.unreadable <= 1


def test_damage_costs_the_pictures_up_to_the_next_key_frame(tmp_path: Path) -> None:
    """They are counted, the last one is named, and none that is wrong comes through."""
    stream = annex_b(SHORT, tmp_path)
    data = bytearray(stream.read_bytes())
    hole = len(data) // 4
    data[hole : hole + 2000] = random.Random(1).randbytes(2000)
    stream.write_bytes(data)
    intake = Intake()
    taken = [n for _, n in read(file.Config(path=stream), intake=intake)]
    missing = sorted(set(range(SHORT.frames)) - {n for n in taken if n is not None})
    assert missing, "the damage was not noticed"
    assert missing == list(range(missing[0], SHORT.gop))
    assert intake.unreadable >= len(missing) - 1
    assert str(intake.last_error).startswith(f"{stream}: ")


def annex_b(clip: Clip, folder: Path) -> Path:
    """The clip as a bare H.264 stream, which can be cut anywhere."""
    path = folder / "clip.h264"
    command = ["ffmpeg", "-loglevel", "error", "-i", str(clip.path()), "-c", "copy"]
    subprocess.run([*command, "-bsf:v", "h264_mp4toannexb", "-f", "h264", str(path)], check=True)
    return path


def test_what_is_no_video_is_refused_by_name(tmp_path: Path) -> None:
    """In one line, whatever it is."""
    SHORT.path()  # without ffmpeg this test is skipped
    (tmp_path / "empty.mp4").touch()
    (tmp_path / "notes.txt").write_text("these are no pictures\n" * 200)
    (tmp_path / "notes.mp4").write_text("these are no pictures\n" * 200)
    (tmp_path / "cut.mp4").write_bytes(SHORT.path().read_bytes()[:5000])
    sound = ["ffmpeg", "-loglevel", "error", "-f", "lavfi", "-i", "sine=duration=0.2", str(tmp_path / "sound.wav")]
    subprocess.run(sound, check=True)
    (tmp_path / "folder.mp4").mkdir()
    expected = {
        "empty.mp4": "cannot be opened: ",
        "notes.txt": "has no video in it",
        "notes.mp4": "cannot be opened: ",
        "cut.mp4": "cannot be opened: ",
        "sound.wav": "has no video in it",
        "folder.mp4": "cannot be opened: Is a directory",
        "absent.mp4": "cannot be opened: No such file or directory",
    }
    for name, reason in expected.items():
        path = tmp_path / name
        with pytest.raises(SourceError) as caught:
            read(file.Config(path=path), most=1)
        assert str(caught.value).startswith(f"{path}: {reason}")
        assert "\n" not in str(caught.value)
        assert caught.value.__suppress_context__ or caught.value.__context__ is None


def test_a_name_with_a_colon_is_a_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Not a protocol of FFmpeg's."""
    (tmp_path / "cam:1.mp4").write_bytes(SHORT.path().read_bytes())
    monkeypatch.chdir(tmp_path)
    assert len(read(file.Config(path=Path("cam:1.mp4")), most=3)) == 3


def test_a_stream_that_changes_its_size_goes_on_in_the_new_one(tmp_path: Path) -> None:
    """As cameras do when somebody changes a setting; the facts follow."""
    parts = []
    for clip in (Clip(frames=20, gop=10), Clip(size=(480, 272), frames=20, gop=10)):
        raw = tmp_path / f"{clip.size[0]}.h264"
        command = ["ffmpeg", "-loglevel", "error", "-i", str(clip.path()), "-c", "copy", "-bsf:v", "h264_mp4toannexb"]
        subprocess.run([*command, str(raw)], check=True, timeout=30)
        parts.append(raw.read_bytes())
    both = tmp_path / "both.h264"
    both.write_bytes(b"".join(parts))
    intake = Intake()
    with file.Config(path=both).open(threading.Event(), intake) as pictures:
        seen = [(image.size, number(image)) for _, image in pictures]
    assert seen == [((640, 360), n) for n in range(20)] + [((480, 272), n) for n in range(20)]
    assert intake.facts["size"] == "480x272"
    assert intake.unreadable == 0
