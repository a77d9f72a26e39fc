"""Pictures of incidents: the best frame of each, bounded in memory and on disk, and masked before anything encodes."""

from __future__ import annotations

import logging
import os
import resource
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from agent.frame import Frame, Timestamp
from agent.keeping import Shelf
from agent.messages import Blob
from agent.sinks import Message
from agent.snapshots import book, choosing
from agent.snapshots.book import NoPicture, Snapshots
from agent.snapshots.jpeg import MOST_BYTES, Encoder
from agent.snapshots.settings import SnapshotSection
from agent.sources.synthetic import picture, read_barcode
from agent.view import View
from engines.pixels import Image, PixelFormat
from engines.results import Classification, Detections
from tests.support.patience import PATIENCE_S
from tests.support.waiting import until

LEFT_HALF = [(0.0, 0.0), (0.5, 0.0), (0.5, 1.0), (0.0, 1.0)]
LABELS = ("thing",)
NAMES = "0123abcd-dock-"


def frame(number: int = 0, size: tuple[int, int] = (320, 192), age_s: float = 0, **more: Any) -> Frame:
    image = more.get("image") or picture(number, *size, more.get("pixels", "i420"))
    now_ns = time.monotonic_ns() - round(age_s * 1e9)
    return Frame("dock", number, Timestamp(1_000_000_000 * (number + 1), now_ns, "receive", 1), image)


def thing(side: float = 60, left: float = 100, score: float = 0.9) -> Detections:
    """One square box, well inside the picture."""
    return Detections(xyxy=np.array([[left, 50, left + side, 50 + side]]), score=np.array([score]), label=np.zeros(1))


def pixels(path: Path) -> NDArray[np.uint8]:
    read: Any = cv2.imread(str(path), cv2.IMREAD_COLOR)
    assert read is not None, f"{path} is no picture"
    return np.asarray(read, np.uint8)


def number_on(path: Path) -> int | None:
    return read_barcode(pixels(path)[:, :, 1])


class Pictures:
    """Snapshots of the camera `dock` in a folder, and what was published."""

    def __init__(self, root: Path, **section: Any) -> None:
        self.published: list[Message] = []
        self.states = 0
        self.book = Snapshots("gate", self.published.append, self._changed)
        self.album = self.book.album(
            "dock", SnapshotSection.model_validate({"folder": root, "boxes": False, "every": "0s", **section})
        )
        self.folder = root / "gate" / "dock"

    def _changed(self) -> None:
        self.states += 1

    def offer(self, number: int, incident: int = 1, **more: Any) -> str | None:
        found = thing(**more)
        return self.album.offer(f"{NAMES}{incident}", frame(number), found, 0, float(found.score[0]), LABELS)

    @contextmanager
    def running(self) -> Iterator[None]:
        self.book.start()
        try:
            yield
        finally:
            self.book.close(10)
        counts = self.counts()
        assert counts["waiting"] == 0
        ends = ("made", "replaced", "dropped", "failed")
        assert counts["taken"] == sum(counts[end] for end in ends)

    def made(self, count: int) -> None:
        until(lambda: self.counts()["made"] >= count)

    def counts(self) -> dict[str, int]:
        return self.book.counts()["dock"]

    def names(self) -> list[str]:
        return sorted(path.name for path in self.folder.iterdir())


@pytest.fixture
def pictures(tmp_path: Path) -> Pictures:
    return Pictures(tmp_path)


@pytest.mark.parametrize("kind", ["i420", "nv12", "bgr", "rgb", "gray"])
def test_what_is_masked_is_black_in_the_picture(kind: PixelFormat) -> None:
    """In every pixel format, made smaller or not; and what is not masked is to be seen."""
    seen = View(masks=[LEFT_HALF]).of(picture(0, 640, 360, kind))
    for width in (640, 320):
        data = Encoder().encode(seen, max_width=width, quality=90)
        shown = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)
        assert shown is not None
        assert shown.shape == (width * 9 // 16, width, 3)
        assert shown[:, : width // 2 - 8].max() <= 3
        assert shown[:, width // 2 + 8 :].mean() > 60


def test_colours_and_boxes_are_where_they_belong() -> None:
    """A red patch stays red, and its box is drawn round it in a smaller picture."""
    plane = np.full((360, 640, 3), 40, np.uint8)
    plane[100:200, 200:400] = (0, 0, 255)
    image = Image((plane,), "bgr", "601", "full", (640, 360))
    found = Detections(xyxy=np.array([[200, 100, 400, 200]]), score=np.array([0.9]), label=np.zeros(1))
    bare, drawn = (
        cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)
        for data in (
            Encoder().encode(image, max_width=320, quality=95),
            Encoder().encode(image, max_width=320, quality=95, result=found, labels=LABELS),
        )
    )
    assert bare is not None
    assert drawn is not None
    assert np.abs(bare[75, 150].astype(int) - (0, 0, 255)).max() < 20
    changed = np.abs(bare.astype(int) - drawn).max(axis=2) > 60
    assert changed[70:80, 98:103].any()
    assert not changed[120:].any()


def test_the_best_frame_that_waits_becomes_the_picture(pictures: Pictures) -> None:
    """One frame an incident waits; a better one takes its place, a worse one is not taken."""
    assert pictures.offer(1, side=40) == f"{NAMES}1.jpg"
    assert pictures.offer(2, side=80) == f"{NAMES}1.jpg"
    assert pictures.offer(3, side=60) == f"{NAMES}1.jpg"
    with pictures.running():
        pictures.made(1)
    assert pictures.counts() == {
        "taken": 2, "made": 1, "replaced": 1, "dropped": 0, "failed": 0, "waiting": 0, "published": 0,
        "files": 1, "bytes": (pictures.folder / f"{NAMES}1.jpg").stat().st_size,
    }  # fmt: skip
    assert number_on(pictures.folder / f"{NAMES}1.jpg") == 2


def test_a_better_frame_replaces_the_file(pictures: Pictures) -> None:
    """Under the same name, so that what an event named stays right."""
    with pictures.running():
        pictures.offer(1, side=40)
        pictures.made(1)
        pictures.offer(2, side=41)  # hardly better: not worth a file's writing
        pictures.offer(3, side=70)
        pictures.made(2)
        assert pictures.album.ended(f"{NAMES}1") == f"{NAMES}1.jpg"
    assert pictures.names() == [f"{NAMES}1.jpg"]
    assert number_on(pictures.folder / f"{NAMES}1.jpg") == 3
    assert pictures.counts()["taken"] == 2


def test_what_the_edge_cuts_is_worth_less() -> None:
    """A smaller object that is all in the picture shows more than a larger one half out of it."""
    size = (320, 192)
    assert choosing.worth(thing(60), 0, 0.9, size) > choosing.worth(thing(80, left=240), 0, 0.9, size)
    assert choosing.worth(Classification(label=np.zeros(1), score=np.ones(1)), 0, 0.7, size) == 0.7


def test_pictures_keep_their_distance_and_none_is_lost_at_the_end(tmp_path: Path) -> None:
    """`every` holds for the camera; what waits is replaced meanwhile, and made when the agent stops."""
    pictures = Pictures(tmp_path, every="1h")
    with pictures.running():
        pictures.offer(1)
        pictures.made(1)
        pictures.offer(2, incident=2, side=40)
        pictures.offer(3, incident=2, side=80)
        assert pictures.counts()["waiting"] == 1
        assert pictures.counts()["made"] == 1
    assert pictures.names() == [f"{NAMES}1.jpg", f"{NAMES}2.jpg"]
    assert number_on(pictures.folder / f"{NAMES}2.jpg") == 3


def test_waiting_frames_are_bounded_in_bytes(pictures: Pictures, monkeypatch: pytest.MonkeyPatch) -> None:
    """What finds no room is counted and promised to nobody; the next frame of its incident may have luck."""
    one = sum(plane.nbytes for plane in frame().image.planes)
    monkeypatch.setattr(book, "MOST_HELD_BYTES", 3 * one)
    names = [pictures.offer(n, incident=n) for n in range(1, 6)]
    assert [name is not None for name in names] == [True] * 3 + [False] * 2
    assert pictures.album.ended(f"{NAMES}5") is None
    assert pictures.offer(6, side=90) is not None, "a better one in an incident's own place needs no more room"
    with pictures.running():
        pictures.made(3)
        assert pictures.offer(7, incident=4) is not None
    assert pictures.counts()["dropped"] == 2
    assert number_on(pictures.folder / f"{NAMES}1.jpg") == 6


def test_incidents_that_never_end_are_forgotten(pictures: Pictures, monkeypatch: pytest.MonkeyPatch) -> None:
    """A moment is never ended: only the newest are remembered."""
    monkeypatch.setattr(choosing, "MOST_INCIDENTS", 5)
    with pictures.running():
        for n in range(1, 21):
            pictures.offer(n, incident=n)
            pictures.made(n)
        choice = pictures.album.choice  # type: ignore[attr-defined]  # ours, not every album's
        assert len(choice.incidents) <= 5
    assert len(pictures.names()) == 20


def test_offering_costs_next_to_nothing(pictures: Pictures) -> None:
    """A frame that is no better is passed over without a lock being taken."""
    pictures.offer(1, side=80)
    shown, found = frame(2), thing(side=40)
    offering = threading.Thread(target=lambda: pictures.album.offer(f"{NAMES}1", shown, found, 0, 0.9, LABELS))
    with pictures.book.changed:  # who waited for it would wait for ever
        offering.start()
        offering.join(PATIENCE_S)
        assert not offering.is_alive()
    assert pictures.counts()["taken"] == 1
    pictures.book.close(1)


def test_a_folder_that_cannot_be_written_is_said_and_tried_again(
    pictures: Pictures, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """The picture is counted as failed, the next one is made when the folder is back."""
    (tmp_path / "gate").write_text("in the way")
    caplog.set_level(logging.INFO)
    with pictures.running():
        pictures.offer(1)
        until(lambda: pictures.counts()["failed"])
        assert pictures.book.state()["dock"]["state"] == "failing"
        assert pictures.states == 1
        assert pictures.album.ended(f"{NAMES}1") is None
        (tmp_path / "gate").unlink()
        pictures.offer(2, incident=2)
        pictures.made(1)
    assert pictures.book.state()["dock"]["state"] == "keeping"
    said = [record.message for record in caplog.records]
    assert len(said) == 2
    assert "no snapshot can be kept" in said[0]


def test_a_full_disk_leaves_no_half_file(pictures: Pictures) -> None:
    """What was written of a picture is removed again, and the one before it stays as it was."""
    with pictures.running():
        pictures.offer(1, side=40)
        pictures.made(1)
        before = (pictures.folder / f"{NAMES}1.jpg").read_bytes()
        limits = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (1000, limits[1]))  # as the kernel says it of a full disk
        try:
            pictures.offer(2, side=90)
            until(lambda: pictures.counts()["failed"])
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert pictures.names() == [f"{NAMES}1.jpg"]
    assert (pictures.folder / f"{NAMES}1.jpg").read_bytes() == before


def test_files_are_bounded_by_count_and_bytes_and_foreign_ones_stay(tmp_path: Path) -> None:
    """The oldest go first, those of earlier runs too; half files of a killed run go at once."""
    folder = tmp_path / "gate" / "dock"
    folder.mkdir(parents=True)
    foreign = ["holiday.jpg", "0123abcd-yard-1.jpg", ".0123abcd-dock-1.png.part", "0123abcd-dock-1.jpg.bak"]
    ours = [f"fedcba98-dock-{n}.jpg" for n in range(5)]
    for age, name in enumerate([*foreign, *ours]):
        (folder / name).write_bytes(bytes(1000))
        os.utime(folder / name, (time.time() - 1000 + age,) * 2)
    (folder / ".fedcba98-dock-7.jpg.part").write_bytes(b"half")
    pictures = Pictures(tmp_path, limit=4)
    with pictures.running():
        pictures.offer(1)
        pictures.made(1)
    assert pictures.names() == sorted([*foreign, *ours[2:], f"{NAMES}1.jpg"])
    shelf = Shelf(folder, "dock", (".jpg",), 100, 2500, 1e9)
    shelf.open()
    assert shelf.standing()["bytes"] <= 2500
    assert (folder / f"{NAMES}1.jpg").exists(), "the newest stays"


def test_files_grow_old(tmp_path: Path) -> None:
    """What is older than `max_age` goes, also where nothing new comes."""
    folder = tmp_path / "gate" / "dock"
    folder.mkdir(parents=True)
    (folder / f"{NAMES}1.jpg").write_bytes(b"old")
    os.utime(folder / f"{NAMES}1.jpg", (time.time() - 7200,) * 2)
    (folder / f"{NAMES}2.jpg").write_bytes(b"new")
    pictures = Pictures(tmp_path, max_age="1h")
    with pictures.running():
        until(lambda: pictures.names() == [f"{NAMES}2.jpg"])


def test_nothing_is_published_unless_asked(pictures: Pictures) -> None:
    """Law 9."""
    with pictures.running():
        pictures.offer(1)
        pictures.made(1)
    assert not pictures.published


@pytest.mark.parametrize("retain", [False, True])
def test_a_published_picture_is_a_jpeg_with_its_facts(tmp_path: Path, retain: bool) -> None:
    """Raw bytes of the file that is kept; retained only where that is asked for too."""
    pictures = Pictures(tmp_path, publish=True, retain=retain)
    with pictures.running():
        pictures.offer(1)
        pictures.made(1)
    (message,) = pictures.published
    assert message.topic == "dock/snapshot"
    assert message.retain is retain
    assert (message.max_age_ns is None) is retain
    assert message.content_type == "image/jpeg"
    assert message.encode(0) == (pictures.folder / f"{NAMES}1.jpg").read_bytes()
    assert isinstance(message.payload, Blob)
    assert message.payload.facts["id"] == f"{NAMES}1"
    assert message.payload.facts["captured_at"] == "1970-01-01T00:00:02.000000Z"


def test_a_published_picture_fits_into_a_payload() -> None:
    """Noise hardly compresses: quality goes down first, then the size."""
    noise = np.random.default_rng(0).integers(0, 255, (720, 1280, 3), np.uint8)
    image = Image((noise,), "bgr", "601", "full", (1280, 720))
    data = Encoder().encode(image, max_width=1280, quality=95, most_bytes=MOST_BYTES)
    assert len(data) <= MOST_BYTES
    shown = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)
    assert shown is not None
    assert shown.shape[1] >= 320


def test_a_picture_is_made_when_asked_for(tmp_path: Path) -> None:
    """Of the newest frame, once however often it is asked for meanwhile; with a reason where there is none."""
    pictures = Pictures(tmp_path, publish=True)
    with pytest.raises(NoPicture, match="no snapshots"):
        pictures.book.now("yard")
    with pytest.raises(NoPicture, match="no frame"):
        pictures.book.now("dock")
    pictures.album.saw(frame(3, age_s=60))
    with pytest.raises(NoPicture, match="60 s old"):
        pictures.book.now("dock")
    pictures.album.saw(frame(4))
    name = pictures.book.now("dock")
    pictures.album.saw(frame(5))
    assert pictures.book.now("dock") == name
    with pictures.running():
        pictures.made(1)
    assert number_on(pictures.folder / name) == 4
    assert len(pictures.published) == 1


def test_where_no_camera_wants_pictures_nothing_runs() -> None:
    """No thread, no folder."""
    snapshots = Snapshots("gate", lambda _message: None)
    snapshots.start()
    snapshots.close(1)
    assert snapshots.counts() == snapshots.state() == {}
