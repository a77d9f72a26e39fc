"""Sets of pictures: read from folders, each once, divided by what is in them; and all that can be wrong with them."""

from __future__ import annotations

import hashlib
import os
import shutil
import threading
from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agent.sources import Intake, images
from calibration.errors import DatasetError, TooFewPictures
from calibration.pictures import (
    Sample,
    Split,
    distinct,
    enough,
    from_files,
    from_folder,
    from_frames,
    limited,
    set_hash,
    split,
)
from engines.pixels import Image
from engines.stored import pack
from tests.support.photos import photo, shared_photos, write_photos
from tests.support.pictures import image_from
from tests.unit.test_images_source import exif


def named(samples) -> list[str]:
    return [sample.name for sample in samples]


def jpeg(bgr: np.ndarray, quality: int = 95) -> bytes:
    return cv2.imencode(".jpg", bgr, [cv2.IMWRITE_JPEG_QUALITY, quality])[1].tobytes()


def test_pictures_of_a_folder_and_of_the_folders_in_it_are_found_by_suffix(tmp_path: Path) -> None:
    write_photos(tmp_path / "b" / "deep", 1)
    write_photos(tmp_path, 2)
    shutil.copy(tmp_path / "000.jpg", tmp_path / "LOUD.JPEG")
    (tmp_path / "labels.csv").write_text("file,class_index")
    write_photos(tmp_path / ".thumbnails", 1)
    (tmp_path / "._001.jpg").write_bytes(b"what a Mac leaves beside each file")
    assert named(from_folder(tmp_path, "bgr")) == ["000.jpg", "001.jpg", "LOUD.JPEG", "b/deep/000.jpg"]


def test_linked_folders_are_looked_into_once(tmp_path: Path) -> None:
    write_photos(tmp_path / "elsewhere", 1)
    write_photos(tmp_path / "set" / "cat", 1, first=1)
    (tmp_path / "set" / "dog").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "set" / "cat" / "again").symlink_to(tmp_path / "set")
    assert named(from_folder(tmp_path / "set", "bgr")) == ["cat/001.jpg", "dog/000.jpg"]


def test_a_name_that_is_no_text_becomes_one(tmp_path: Path) -> None:
    (path,) = write_photos(tmp_path, 1)
    path.rename(os.fsdecode(os.fsencode(tmp_path) + b"/caf\xe9.jpg"))
    (sample,) = from_folder(tmp_path, "bgr")
    assert sample.name == "caf\\udce9.jpg"
    assert sample.read().size == (320, 240)


def test_a_picture_is_what_is_in_its_file(tmp_path: Path) -> None:
    write_photos(tmp_path, 2)
    shutil.copy(tmp_path / "000.jpg", tmp_path / "zzz.jpg")
    first, second, copy = from_folder(tmp_path, "bgr")
    assert first.digest == copy.digest == hashlib.sha256((tmp_path / "000.jpg").read_bytes()).hexdigest()
    assert first.digest != second.digest
    assert set_hash([first, second]) == set_hash([second, copy]) != set_hash([first])


def test_photos_come_as_the_agent_itself_reads_them(tmp_path: Path) -> None:
    """EXIF's orientation is applied, transparency dropped, 16 bits become 8; stored pictures keep their planes."""
    bgr = photo(7, 90, 60)
    (tmp_path / "1.jpg").write_bytes(exif(jpeg(bgr), orientation=6))
    cv2.imwrite(str(tmp_path / "2.png"), np.dstack([bgr, bgr[:, :, 0]]))
    cv2.imwrite(str(tmp_path / "3.png"), bgr[:, :, 1].astype(np.uint16) * 257)
    (tmp_path / "4.planes.png").write_bytes(pack(image_from(bgr, "i420", "709", "limited")))
    with images.Config(path=tmp_path).open(threading.Event(), Intake()) as pictures:
        agents = [image for _, image in pictures]
    photos, stored = from_folder(tmp_path, "bgr")[:3], from_folder(tmp_path, "i420")[3]
    ours = [sample.read() for sample in (*photos, stored)]
    assert [image.size for image in ours] == [(60, 90), (90, 60), (90, 60), (90, 60)]
    for mine, theirs in zip(ours, agents, strict=True):
        assert (mine.format, mine.matrix, mine.range) == (theirs.format, theirs.matrix, theirs.range)
        assert all(np.array_equal(a, b) for a, b in zip(mine.planes, theirs.planes, strict=True))


def test_chosen_files_of_a_folder_come_in_the_order_they_were_named(tmp_path: Path) -> None:
    write_photos(tmp_path / "val", 3)
    assert named(from_files(tmp_path, ["val/002.jpg", "val/000.jpg"], "bgr")) == ["val/002.jpg", "val/000.jpg"]
    with pytest.raises(DatasetError, match=r"val/009\.jpg: cannot be read: No such file"):
        from_files(tmp_path, ["val/009.jpg"], "bgr")


def test_progress_is_told_to_the_end(tmp_path: Path) -> None:
    write_photos(tmp_path, 3)
    told: list[tuple[int, int]] = []
    samples = from_folder(tmp_path, "bgr", lambda *said: told.append(said))
    distinct(samples, lambda *said: told.append(said))
    assert told == [(1, 3), (2, 3), (3, 3)] * 2


@pytest.mark.parametrize("content", [b"", b"no picture", jpeg(photo(1))[:-200]], ids=["empty", "text", "cut off"])
def test_an_unreadable_picture_is_named(tmp_path: Path, content: bytes) -> None:
    write_photos(tmp_path / "gate", 3)
    (tmp_path / "gate" / "bad.jpg").write_bytes(content)
    samples = from_folder(tmp_path, "bgr")
    with pytest.raises(DatasetError, match=r"gate/bad\.jpg: is no picture that can be read") as caught:
        distinct(samples)
    assert "\n" not in str(caught.value)


def test_a_link_to_nothing_is_named(tmp_path: Path) -> None:
    write_photos(tmp_path, 1)
    (tmp_path / "gone.jpg").symlink_to(tmp_path / "nowhere.jpg")
    with pytest.raises(DatasetError, match=r"gone\.jpg: cannot be read: No such file"):
        from_folder(tmp_path, "bgr")


def test_a_picture_that_changes_during_the_run_ends_it(tmp_path: Path) -> None:
    """What was calibrated with would not be what the hash of the set says."""
    write_photos(tmp_path, 2)
    first, _ = from_folder(tmp_path, "bgr")
    shutil.copy(tmp_path / "001.jpg", tmp_path / "000.jpg")
    with pytest.raises(DatasetError, match=r"000\.jpg: has changed since the run began"):
        first.read()


def test_a_folder_that_has_nothing_or_is_none_says_so(tmp_path: Path) -> None:
    (tmp_path / "readme.txt").write_text("nothing")
    with pytest.raises(DatasetError, match=r"has no pictures \(\.avif, \.bmp"):
        from_folder(tmp_path, "bgr")
    with pytest.raises(DatasetError, match="nowhere: cannot be read: No such file"):
        from_folder(tmp_path / "nowhere", "bgr")
    with pytest.raises(DatasetError, match=r"readme\.txt: cannot be read: Not a directory"):
        from_folder(tmp_path / "readme.txt", "bgr")


def copies(bgr: np.ndarray) -> list[np.ndarray]:
    """What is the same picture to people: compressed badly, smaller, larger, lighter, noisy."""
    height, width = bgr.shape[:2]
    noise = np.random.default_rng(0).normal(0, 12, bgr.shape)
    return [
        cv2.imdecode(np.frombuffer(jpeg(bgr, 30), np.uint8), cv2.IMREAD_COLOR),
        cv2.resize(bgr, (width // 2, height // 2), interpolation=cv2.INTER_AREA),
        cv2.resize(bgr, (width * 5 // 4, height * 5 // 4)),
        cv2.add(bgr, (5, 5, 5, 0)),
        np.clip(bgr + noise, 0, 255).astype(np.uint8),
    ]


def test_of_pictures_that_show_the_same_one_is_kept(tmp_path: Path) -> None:
    write_photos(tmp_path, 3)
    for index, copy in enumerate(copies(photo(1))):
        cv2.imwrite(str(tmp_path / f"copy{index}.png"), copy)
    shutil.copy(tmp_path / "002.jpg", tmp_path / "exact.jpg")
    found = distinct(from_folder(tmp_path, "bgr"))
    assert len(found.kept) == 3
    groups = [{name, *(d for d, k in found.dropped.items() if k == name)} for name in named(found.kept)]
    assert {frozenset(group) for group in groups} == {
        frozenset({"000.jpg"}),
        frozenset({"001.jpg", *(f"copy{index}.png" for index in range(5))}),
        frozenset({"002.jpg", "exact.jpg"}),
    }


def test_what_is_kept_depends_on_neither_names_nor_order(tmp_path: Path) -> None:
    paths = write_photos(tmp_path / "a", 6)
    for index, copy in enumerate(copies(photo(1))):
        cv2.imwrite(str(tmp_path / "a" / f"copy{index}.png"), copy)
    (tmp_path / "b").mkdir()
    for index, path in enumerate(sorted((tmp_path / "a").iterdir(), reverse=True)):
        shutil.copy(path, tmp_path / "b" / f"{index:03}{path.suffix}")
    one, two = (distinct(from_folder(tmp_path / folder, "bgr")) for folder in "ab")
    backwards = distinct(from_folder(tmp_path / "a", "bgr")[::-1])
    digests = [sample.digest for sample in one.kept]
    assert digests == [sample.digest for sample in two.kept] == [sample.digest for sample in backwards.kept]
    assert len(digests) == len(paths)
    assert one.dropped == backwards.dropped


def scene(at: int, noise: int) -> np.ndarray:
    """A camera that does not move, with the noise of its sensor; somebody has walked to column `at`."""
    bgr = photo(9, 320, 180)
    cv2.rectangle(bgr, (at, 90), (at + 12, 125), (30, 30, 40), -1)
    grain = np.random.default_rng(noise).normal(0, 8, bgr.shape)
    return np.clip(bgr + grain, 0, 255).astype(np.uint8)


@pytest.mark.parametrize("way", ["bgr", "i420"])
def test_of_a_camera_that_does_not_move_frames_are_kept_when_something_in_them_has(tmp_path: Path, way) -> None:
    places = [30, 100, 170, 240]
    frames = [(f"{at}-{noise}", image_from(scene(at, noise), "i420")) for at in places for noise in range(3)]
    found = distinct(from_frames(frames, tmp_path, way, 100))
    assert sorted(name.partition("-")[0] for name in named(found.kept)) == sorted(map(str, places))
    assert len(found.dropped) == 8


def test_no_photo_of_a_real_collection_is_taken_for_another() -> None:
    paths = shared_photos()
    if not paths:
        pytest.skip("SIGHTWIRE_SHARED names no folder of photos")
    root = paths[0].parents[2]
    found = distinct(from_files(root, [path.relative_to(root).as_posix() for path in paths[::3]], "bgr"))
    assert not found.dropped


@pytest.mark.parametrize(
    ("levels", "said"),
    [
        ([0] * 5, "all 5 pictures are black or of a single colour"),
        (range(20, 240, 30), "all 8 pictures are black or of a single colour"),
        ([90], "the only picture is black or of a single colour"),
    ],
    ids=["black", "flat", "one"],
)
def test_pictures_that_show_nothing_are_refused(tmp_path: Path, levels, said) -> None:
    for index, level in enumerate(levels):
        cv2.imwrite(str(tmp_path / f"{index}.png"), np.full((48, 64, 3), level, np.uint8))
    with pytest.raises(DatasetError, match=said) as caught:
        distinct(from_folder(tmp_path, "bgr"))
    assert "\n" not in str(caught.value)


def test_pictures_that_are_all_the_same_are_refused(tmp_path: Path) -> None:
    for index, copy in enumerate(copies(photo(2))):
        cv2.imwrite(str(tmp_path / f"{index}.png"), copy)
    with pytest.raises(DatasetError, match=r"all 5 pictures are nearly the same as \d\.png"):
        distinct(from_folder(tmp_path, "bgr"))


def test_a_few_black_pictures_among_others_are_one(tmp_path: Path) -> None:
    write_photos(tmp_path, 3)
    for index in range(3):
        cv2.imwrite(str(tmp_path / f"black{index}.png"), np.full((48, 64, 3), index, np.uint8))
    assert len(distinct(from_folder(tmp_path, "bgr")).kept) == 4


def test_one_picture_is_a_set() -> None:
    only = Sample("only", "00", lambda: image_from(photo(1), "bgr"))
    assert distinct([only]).kept == (only,)
    assert distinct([]).kept == ()


def made(digests) -> list[Sample]:
    def read() -> Image:
        raise AssertionError("nobody needs its pixels")

    return [Sample(f"{index}", digest, read) for index, digest in enumerate(digests)]


digests = st.lists(st.integers(0, 2**64).map(lambda n: hashlib.sha256(str(n).encode()).hexdigest()), unique=True)
shares = st.floats(0, 1)


@settings(max_examples=40, deadline=None)
@given(digests, digests, shares, st.randoms())
def test_a_picture_stays_on_its_side_whatever_comes_along(some, more, share, random) -> None:
    before = split(made(some), share)
    shuffled = [*some, *(digest for digest in more if digest not in some)]
    random.shuffle(shuffled)
    after = split(made(shuffled), share)
    for part in ("calibration", "held_out"):
        was, now = ([sample.digest for sample in getattr(parts, part)] for parts in (before, after))
        assert set(was) <= set(now)
        assert now == sorted(now)
    assert len(after.calibration) + len(after.held_out) == len(shuffled)
    assert not {s.digest for s in after.calibration} & {s.digest for s in after.held_out}


@pytest.mark.parametrize("share", [0.0, 0.3, 0.5, 1.0])
def test_about_the_share_is_held_out_also_of_what_limited_has_chosen(share) -> None:
    """`limited` takes low digests: were the split by them too, all of these would be on one side."""
    samples = made(hashlib.sha256(bytes([n % 256, n // 256])).hexdigest() for n in range(4000))
    held_out = len(split(limited(samples, 1000), share).held_out)
    assert held_out == pytest.approx(1000 * share, abs=0 if share in (0, 1) else 60)


def test_a_half_can_be_divided_again_with_another_salt() -> None:
    """By the same, all of it would be on one side: a set without splits could not be used both ways."""
    samples = made(hashlib.sha256(bytes([n % 256, n // 256])).hexdigest() for n in range(4000))
    halves = split(samples, 0.5, salt="halves")
    for half in (halves.calibration, halves.held_out):
        assert len(split(half, 0.5).held_out) == pytest.approx(1000, abs=90)


def test_a_choice_of_pictures_grows_with_its_size() -> None:
    samples = made(hashlib.sha256(bytes([n])).hexdigest() for n in range(50))
    small, large = (limited(reversed(samples), count) for count in (10, 30))
    assert small == large[:10]
    assert len(limited(samples, 99)) == 50


def test_too_few_pictures_is_an_error_with_their_number() -> None:
    samples = made(hashlib.sha256(bytes([n])).hexdigest() for n in range(200))
    parts = Split(tuple(samples[:63]), tuple(samples[100:180]), 0.5)
    enough(parts, calibration=63, held_out=80)
    with pytest.raises(TooFewPictures) as caught:
        enough(parts, calibration=100, held_out=100)
    assert str(caught.value) == (
        "too few different pictures: 63 calibrate instead of 100, 37 missing and 80 are held out instead of 100, "
        "20 missing; add about 74 that differ from these"
    )
    with pytest.raises(TooFewPictures, match=r": 63 calibrate instead of 64, 1 missing; add about 2 "):
        enough(parts, calibration=64, held_out=80)


def frames(count: int, first: int = 0):
    for number in range(first, first + count):
        yield (
            f"street-{number:06}",
            image_from(photo(number, 64, 48), ("i420", "nv12", "bgr")[number % 3], "709", "full"),
        )


def test_frames_are_stored_as_they_are_and_read_again_without_their_source(tmp_path: Path) -> None:
    samples = from_frames(frames(6), tmp_path / "work" / "frames", "i420", 100)
    assert named(samples) == [f"street-{number:06}.planes.png" for number in range(6)]
    again = from_folder(tmp_path / "work" / "frames", "i420")
    assert [s.digest for s in again] == [s.digest for s in samples]
    for (_, image), sample in zip(frames(6), again, strict=True):
        got = sample.read()
        assert (got.format, got.size) == ("i420", (64, 48))
        if image.format == "i420":
            assert (got.matrix, got.range) == ("709", "full")
            assert all((a == b).all() for a, b in zip(image.planes, got.planes, strict=True))


def test_a_run_that_was_interrupted_goes_on_with_the_frames_it_has(tmp_path: Path) -> None:
    def interrupted():
        yield from frames(3)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        from_frames(interrupted(), tmp_path, "bgr", 5)
    told: list[tuple[int, int]] = []
    assert len(from_frames(frames(9, first=3), tmp_path, "bgr", 5, lambda *said: told.append(said))) == 5
    assert told == [(3, 5), (4, 5), (5, 5)]

    def gone():
        raise AssertionError("the camera is asked no more")
        yield

    assert len(from_frames(gone(), tmp_path, "bgr", 5)) == 5


def test_frames_are_asked_for_one_by_one_and_no_more_than_needed(tmp_path: Path) -> None:
    source = frames(10)
    from_frames(source, tmp_path, "bgr", 3)
    assert next(source)[0] == "street-000003"


def test_a_source_without_frames_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match="no frame came"):
        from_frames(iter(()), tmp_path, "bgr", 3)


def test_a_full_disk_is_an_error_in_a_line_and_leaves_no_half_frame(tmp_path: Path, monkeypatch) -> None:
    whole = Path.write_bytes

    def full(path: Path, data: bytes) -> int:
        whole(path, data[:100])
        raise OSError(28, "No space left on device")

    from_frames(frames(1), tmp_path, "bgr", 1)
    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(DatasetError, match=r"street-000001\.planes\.png: cannot be written: No space left on device"):
        from_frames(frames(3), tmp_path, "bgr", 3)
    assert [path.name for path in tmp_path.iterdir()] == ["street-000000.planes.png"]


def test_a_frame_that_lost_bytes_is_named(tmp_path: Path) -> None:
    (tmp_path / "cut.planes.png").write_bytes(pack(next(frames(1))[1])[:-300])
    (sample,) = from_folder(tmp_path, "i420")
    with pytest.raises(DatasetError, match=r"cut\.planes\.png: "):
        sample.read()


def test_errors_of_the_source_pass_through(tmp_path: Path) -> None:
    def breaks():
        yield from frames(1)
        raise OSError("the cable was pulled")

    with pytest.raises(OSError, match="the cable was pulled"):
        from_frames(breaks(), tmp_path, "bgr", 3)
    with pytest.raises(DatasetError, match="cannot be a folder for frames: "):
        from_frames(frames(1), tmp_path / "street-000000.planes.png", "bgr", 3)
