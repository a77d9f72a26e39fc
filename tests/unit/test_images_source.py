"""Folders of images: which files, in which order, when they are complete, and what their pixels become."""

from __future__ import annotations

import os
import struct
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime, timezone
from itertools import islice
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from agent.errors import SourceError
from agent.frame import Timestamp
from agent.sources import Intake, images
from agent.sources._exif import taken_ns
from agent.sources.synthetic import read_barcode
from engines.pixels import Image
from tests.support.http_camera import jpeg
from tests.support.patience import PATIENCE_S

Picture = tuple[Timestamp, Image]


def number(picture: Picture) -> int | None:
    return read_barcode(picture[1].planes[0][:, :, 1])


def read(intake: Intake | None = None, **keys: Any) -> list[Picture]:
    with images.Config(**keys).open(threading.Event(), intake or Intake()) as pictures:
        return list(pictures)


def numbers(intake: Intake | None = None, **keys: Any) -> list[int | None]:
    return [number(picture) for picture in read(intake, **keys)]


def exif(data: bytes, taken: str = "", offset: str = "", orientation: int = 1) -> bytes:
    """The JPEG with an APP1 segment, little endian, as cameras write it."""
    main = [(0x0112, 3, 1, struct.pack("<HH", orientation, 0)), (0x8769, 4, 1, struct.pack("<I", 8 + 2 + 24 + 4))]
    texts, heap = [(0x9003, taken), (0x9011, offset)], b""
    at = 8 + 2 + 24 + 4 + 2 + 24 + 4
    entries = []
    for tag, text in texts:
        value = text.encode() + b"\0"
        entries.append(
            (tag, 2, len(value), struct.pack("<I", at + len(heap)) if len(value) > 4 else value.ljust(4, b"\0"))
        )
        heap += value
    directory = [struct.pack("<H", 2) + b"".join(struct.pack("<HHI", *e[:3]) + e[3] for e in part) + bytes(4)
                 for part in (main, entries)]  # fmt: skip
    body = b"Exif\0\0II*\0" + struct.pack("<I", 8) + directory[0] + directory[1] + heap
    return data[:2] + b"\xff\xe1" + struct.pack(">H", len(body) + 2) + body + data[2:]


def test_all_images_come_in_the_order_of_their_numbers(tmp_path: Path) -> None:
    """Two before ten; other files are no images."""
    for n in (10, 2, 1):
        (tmp_path / f"img_{n}.jpg").write_bytes(jpeg(n))
    (tmp_path / "notes.txt").write_text("no image")
    (tmp_path / "folder.jpg").mkdir()
    assert numbers(path=tmp_path) == [1, 2, 10]


def test_a_pattern_and_folders_within(tmp_path: Path) -> None:
    (tmp_path / "b").mkdir()
    for n, name in enumerate(("a.jpg", "b/c.jpg", "b/d.data", "x.png")):
        (tmp_path / name).write_bytes(jpeg(n))
    assert numbers(path=tmp_path) == [0, 3]
    assert numbers(path=tmp_path, recursive=True) == [0, 1, 3]
    assert numbers(path=tmp_path, recursive=True, pattern="*.data") == [2]


def test_an_image_that_cannot_be_read_is_counted_by_name_and_skipped(tmp_path: Path) -> None:
    (tmp_path / "1.jpg").write_bytes(jpeg(1))
    (tmp_path / "2.jpg").write_bytes(b"\xff\xd8 no more")
    (tmp_path / "3.jpg").write_bytes(b"")
    (tmp_path / "4.jpg").write_bytes(jpeg(4))
    intake = Intake()
    assert numbers(intake, path=tmp_path) == [1, 4]
    assert (intake.unreadable, intake.last_error) == (2, f"{tmp_path}/3.jpg: is damaged, or no image")


def test_images_of_differing_sizes_and_kinds_are_bgr_of_eight_bits(tmp_path: Path) -> None:
    """Grey, transparent, and sixteen bits, which keep their upper eight."""
    kinds = {
        "1.png": np.full((40, 60), 77, np.uint8),
        "2.png": np.full((50, 30, 4), 77, np.uint8),
        "3.png": np.full((20, 90, 3), 77 << 8 | 5, np.uint16),
        "4.tiff": np.full((25, 35), 77 << 8 | 5, np.uint16),
    }
    for name, pixels in kinds.items():
        cv2.imwrite(str(tmp_path / name), pixels)
    taken = [image for _, image in read(path=tmp_path)]
    assert [image.size for image in taken] == [(60, 40), (30, 50), (90, 20), (35, 25)]
    assert all((image.format, image.planes[0].dtype) == ("bgr", np.uint8) for image in taken)
    assert all((image.planes[0] == 77).all() for image in taken)


def test_photographs_are_turned_upright_and_keep_their_time(tmp_path: Path) -> None:
    """EXIF orientation 6: the camera was held on its side. Without EXIF, the time is when the file was written."""
    (tmp_path / "1.jpg").write_bytes(exif(jpeg(5), "2026:11:22 09:30:00", "+01:00", orientation=6))
    (tmp_path / "2.jpg").write_bytes(jpeg(6))
    os.utime(tmp_path / "2.jpg", ns=(0, 1_700_000_000_000_000_000))
    photo, plain = read(path=tmp_path)
    assert photo[1].size == (360, 640)
    assert photo[0].wall_ns == datetime(2026, 11, 22, 8, 30, tzinfo=timezone.utc).timestamp() * 1e9
    assert plain[0].wall_ns == 1_700_000_000_000_000_000
    assert (photo[0].clock, photo[0].monotonic_ns, plain[0].monotonic_ns) == ("file", 0, 1_000_000_000)


def test_a_time_without_a_zone_is_local_and_a_wrong_one_is_not_said() -> None:
    local = datetime(2026, 11, 22, 9, 30).astimezone()
    assert taken_ns(exif(jpeg(1), "2026:11:22 09:30:00")) == local.timestamp() * 1e9
    assert taken_ns(exif(jpeg(1), "0000:00:00 00:00:00")) is None
    assert taken_ns(jpeg(1)) is None


@given(st.data())
def test_damaged_exif_raises_nothing(data: st.DataObject) -> None:
    good = bytearray(exif(jpeg(1, (320, 64)), "2026:11:22 09:30:00", "+01:00"))
    for _ in range(data.draw(st.integers(1, 8))):
        good[data.draw(st.integers(0, 160))] = data.draw(st.integers(0, 255))
    assert isinstance(taken_ns(bytes(good[: data.draw(st.integers(0, 400))])), int | None)


@contextmanager
def watched(folder: Path, intake: Intake | None = None) -> Iterator[Iterator[Picture]]:
    """Its pictures; gives up after ten seconds."""
    stop = threading.Event()
    timer = threading.Timer(10, stop.set)
    timer.start()
    try:
        with images.Config(path=folder, watch=True).open(stop, intake or Intake()) as pictures:
            yield pictures
    finally:
        timer.cancel()
        timer.join()


def write_when(condition: Callable[[], bool], path: Path, data: bytes) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while not condition() and time.monotonic() < deadline:
        time.sleep(0.01)
    path.write_bytes(data if condition() else b"too late")


def test_a_watched_folder_goes_on_with_what_is_put_there(tmp_path: Path) -> None:
    """Renamed into place or written in place; a file that is written anew is a new image."""
    (tmp_path / "1.jpg").write_bytes(jpeg(1))
    with watched(tmp_path) as pictures:
        assert number(next(pictures)) == 1
        (tmp_path / "x.tmp").write_bytes(jpeg(2))
        (tmp_path / "x.tmp").rename(tmp_path / "0.jpg")
        assert number(next(pictures)) == 2
        (tmp_path / "1.jpg").write_bytes(jpeg(3, (320, 64)))
        assert number(next(pictures)) == 3


def test_an_image_is_taken_when_it_is_written_to_its_end(tmp_path: Path) -> None:
    """A writer that pauses for longer than a look takes does not matter; the next image goes first."""
    data = jpeg(1)
    with watched(tmp_path) as pictures, (tmp_path / "1.jpg").open("wb") as file:
        file.write(data[: len(data) // 2])
        file.flush()
        (tmp_path / "2.jpg").write_bytes(jpeg(2))
        assert number(next(pictures)) == 2
        file.write(data[len(data) // 2 :])
        file.flush()
        assert number(next(pictures)) == 1


def test_an_image_that_never_gets_its_end_is_counted_and_skipped(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After some patience; the others do not wait for it."""
    monkeypatch.setattr(images, "_PATIENCE", 3)
    data = jpeg(1)
    (tmp_path / "1.jpg").write_bytes(data[: len(data) // 2])
    (tmp_path / "2.png").write_bytes(b"")
    intake = Intake()
    with watched(tmp_path, intake) as pictures:
        (tmp_path / "3.jpg").write_bytes(jpeg(3))
        assert number(next(pictures)) == 3
        assert intake.unreadable == 0
        writer = threading.Thread(target=write_when, args=(lambda: intake.unreadable == 2, tmp_path / "4.jpg", jpeg(4)))
        writer.start()
        assert number(next(pictures)) == 4
        writer.join()


def test_a_link_that_leads_nowhere_disturbs_nothing(tmp_path: Path) -> None:
    (tmp_path / "0.jpg").symlink_to("0.jpg")
    (tmp_path / "1.jpg").symlink_to("absent.jpg")
    (tmp_path / "2.jpg").write_bytes(jpeg(2))
    assert numbers(path=tmp_path) == [2]


def test_a_png_that_is_cut_off_is_damaged_and_nothing_is_on_stderr(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    whole = bytes(cv2.imencode(".png", np.zeros((64, 64, 3), np.uint8))[1])
    (tmp_path / "1.png").write_bytes(whole[:-8])
    (tmp_path / "2.png").write_bytes(whole)
    intake = Intake()
    assert len(read(intake, path=tmp_path)) == intake.unreadable == 1
    assert capfd.readouterr().err == ""


def test_a_watched_folder_has_no_end_to_begin_again_after(tmp_path: Path) -> None:
    with pytest.raises(ValidationError, match="watch and loop exclude each other"):
        images.Config(path=tmp_path, watch=True, loop=True)


def test_a_watched_folder_that_vanishes_is_an_error(tmp_path: Path) -> None:
    folder = tmp_path / "stick"
    folder.mkdir()
    with watched(folder) as pictures:
        folder.rmdir()
        with pytest.raises(SourceError, match=r"stick: cannot be read: No such file"):
            next(pictures)


def test_watching_stops_at_once(tmp_path: Path) -> None:
    stop = threading.Event()
    with images.Config(path=tmp_path, watch=True).open(stop, Intake()) as pictures:
        threading.Timer(0.05, stop.set).start()
        asked = time.monotonic()
        assert next(pictures, None) is None
    assert time.monotonic() - asked < 0.5


@pytest.mark.parametrize(
    ("make", "keys", "says"),
    [
        (lambda _: None, {}, "cannot be read: No such file"),
        (lambda f: f.touch(), {}, "cannot be read: Not a directory"),
        (lambda f: f.mkdir(), {}, "has no file that ends like an image"),
        (lambda f: f.mkdir(), {"pattern": "*.jpg"}, r"has no file named \*.jpg"),
        (lambda f: (f.mkdir(), (f / "1.jpg").touch()), {}, "no image in it can be read"),
    ],
)
def test_a_folder_of_nothing_is_an_error_that_says_why(tmp_path: Path, make: Any, keys: Any, says: str) -> None:
    make(tmp_path / "f")
    with pytest.raises(SourceError, match=f"f: {says}"):
        read(path=tmp_path / "f", **keys)


def test_it_loops_and_keeps_time(tmp_path: Path) -> None:
    """Live, at the rate that is asked for."""
    for n in range(3):
        (tmp_path / f"{n}.jpg").write_bytes(jpeg(n))
    config = images.Config(path=tmp_path, loop=True, pace="live", rate=50)
    began = time.monotonic()
    with config.open(threading.Event(), Intake()) as pictures:
        taken = list(islice(pictures, 7))
    assert [number(picture) for picture in taken] == [0, 1, 2, 0, 1, 2, 0]
    assert time.monotonic() - began >= 6 / 50
    assert {picture[0].clock for picture in taken} == {"receive"}
