"""A running agent keeps a sample of what its cameras see: as inference sees it, and at nobody's expense."""

from __future__ import annotations

import errno
import logging
import os
import secrets
import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from agent import collecting
from agent.collecting import Collector
from agent.frame import Frame, Timestamp
from agent.service import Service
from agent.sinks.memory import MemorySink
from agent.sources.synthetic import picture
from agent.view import View
from calibration.pictures import from_folder, in_way
from engines.pixels import Image, PixelFormat
from engines.stored import most_bytes, unpack
from tests.support.agents import fake_model, fake_store, settings_of
from tests.support.patience import PATIENCE_S
from tests.support.waiting import until

MASK = [(0.0, 0.0), (0.5, 0.0), (0.5, 1.0), (0.0, 1.0)]
CAMERA = {"source": {"type": "synthetic", "width": 320, "height": 64, "rate": 200}, "models": ["colours"]}


@pytest.fixture(autouse=True)
def _tries_again_soon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(collecting, "RETRY_S", (0.01, 0.02))


class Agent:
    """A service with a memory sink that collects into a folder."""

    def __init__(self, root: Path, cameras: dict[str, Any], **collect: Any) -> None:
        self.folder = root / "collected"
        settings = settings_of(
            models={"colours": fake_model("classes")},
            cameras=cameras,
            calibration={"collect": {"folder": str(self.folder), "every": "0s", **collect}},
        )
        self.sink = MemorySink()
        self.service = Service(settings, fake_store(root / "models" / secrets.token_hex(4)), [self.sink])

    @contextmanager
    def running(self) -> Iterator[None]:
        stop = threading.Event()
        worker = threading.Thread(target=self.service.run, args=(stop,))
        worker.start()
        try:
            yield
        finally:
            stop.set()
            worker.join(PATIENCE_S)
        for counts in self.counts().values():
            assert counts["waiting"] == 0
            assert counts["offered"] == counts["considered"] + counts["dropped"]

    def counts(self) -> dict[str, dict[str, int]]:
        return self.service.metrics().collect

    def said(self) -> list[dict[str, Any]]:
        return [kept.data["collect"] for kept in self.sink.messages if kept.topic == "status"]

    def pictures(self) -> dict[str, Image]:
        found = {path.name: unpack(path.read_bytes(), str(path)) for path in sorted(self.folder.glob("*.png"))}
        assert None not in found.values()
        return found  # type: ignore[return-value]  # just asserted


def same(one: Image, other: Image) -> bool:
    facts = [(image.format, image.matrix, image.range, image.size) for image in (one, other)]
    return facts[0] == facts[1] and all(map(np.array_equal, one.planes, other.planes))


@pytest.mark.parametrize("pixels", ["i420", "nv12"])
def test_calibration_gets_what_inference_has_seen_masks_and_all(tmp_path: Path, pixels: PixelFormat) -> None:
    source = {**CAMERA["source"], "format": pixels}
    agent = Agent(tmp_path, {"dock": {**CAMERA, "source": source, "masks": [MASK]}}, limit=3)
    with agent.running():
        until(lambda: agent.counts().get("dock", {}).get("considered", 0) >= 10)
    seen = [picture(number, 320, 64, pixels) for number in range(agent.service.cameras["dock"].frames)]
    kept = agent.pictures()
    assert sorted(kept) == [f"dock-{place:05}.planes.png" for place in (1, 2, 3)]
    for sample in from_folder(agent.folder, "i420"):
        image = kept[sample.name]
        assert not image.planes[0][:, :160].any()
        assert any(same(image, View(masks=[MASK]).of(one)) for one in seen)
        assert same(sample.read(), in_way(image, "i420"))


def test_each_camera_has_its_own_sample_and_a_restarted_agent_goes_on_with_it(tmp_path: Path) -> None:
    slow = {**CAMERA, "source": {**CAMERA["source"], "rate": 40}}
    first = Agent(tmp_path, {"fast": CAMERA, "slow": slow}, limit=4)
    with first.running():
        until(lambda: sum(counts["candidates"] >= 6 for counts in first.counts().values()) == 2)
    before = first.counts()
    assert len(first.pictures()) == 8
    again = Agent(tmp_path, {"fast": CAMERA, "slow": slow}, limit=4)
    with again.running():
        until(lambda: again.counts()["slow"]["considered"] >= 2)
    for camera, counts in again.counts().items():
        assert counts["kept"] == counts["limit"] == 4
        assert counts["candidates"] == before[camera]["candidates"] + counts["considered"]
    assert len(again.pictures()) == 8
    assert again.said()[-1] == {"folder": str(again.folder), "state": "collecting", "reason": None}


def test_a_full_disk_is_said_once_and_the_agent_runs_on_until_there_is_room(tmp_path, monkeypatch, caplog) -> None:
    room = threading.Event()
    tries = []

    def fsync(_: int) -> None:
        tries.append(0)
        if not room.is_set():
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    agent = Agent(tmp_path, {"dock": CAMERA}, limit=3)
    monkeypatch.setattr(os, "fsync", fsync)
    caplog.set_level(logging.INFO)
    with agent.running():
        assert agent.sink.wait_for(lambda kept: sum("classification" in k.topic for k in kept) >= 20, PATIENCE_S)
        until(lambda: len(tries) >= 3)
        until(lambda: agent.said()[-1]["state"] == "failing")
        assert agent.said()[-1]["reason"] == f"{agent.folder}: no space left on device"
        assert list(agent.folder.iterdir()) == [], "not half a picture"
        room.set()
        until(lambda: agent.counts()["dock"]["kept"] == 3 and agent.said()[-1]["state"] == "collecting")
    said = [record.message for record in caplog.records if "calibration.collect" in record.message]
    assert said == [
        f"calibration.collect: no picture can be kept: {agent.folder}: no space left on device; trying again",
        f"calibration.collect: pictures are kept in {agent.folder} again",
    ]


def test_a_folder_that_is_removed_or_no_folder_is_said_and_tried_again(tmp_path: Path, caplog) -> None:
    agent = Agent(tmp_path, {"dock": CAMERA}, limit=1000)
    agent.folder.write_text("a file")
    with agent.running():
        until(lambda: agent.said()[-1:] != [] and agent.said()[-1]["state"] == "failing")
        agent.folder.unlink()
        until(lambda: agent.counts()["dock"]["kept"] >= 2)
        agent.folder.rename(tmp_path / "moved away")
        until(lambda: agent.folder.is_dir() and len(agent.pictures()) >= 2)
    assert f"{agent.folder}: is not a folder" in caplog.text
    assert f"{agent.folder}: no such file or directory" in caplog.text
    assert len(agent.pictures()) == agent.counts()["dock"]["kept"] == agent.counts()["dock"]["candidates"]


def test_no_frame_waits_for_a_disk_that_hangs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    hangs, goes_on = threading.Event(), threading.Event()

    def fsync(_: int) -> None:
        hangs.set()
        assert goes_on.wait(PATIENCE_S)

    agent = Agent(tmp_path, {"dock": CAMERA}, limit=3)
    monkeypatch.setattr(os, "fsync", fsync)
    with agent.running():
        assert hangs.wait(PATIENCE_S)
        before = len(agent.sink.messages)
        assert agent.sink.wait_for(lambda kept: len(kept) >= before + 40, PATIENCE_S)
        ages = [k.data["age_ms"] for k in agent.sink.messages[before:] if "classification" in k.topic]
        counts = agent.counts()["dock"]
        assert counts["considered"] == 0
        assert counts["dropped"] >= 30, "the newest has replaced what waited"
        goes_on.set()
    assert sorted(ages)[len(ages) // 2] < 100


def frame(width: int, height: int, number: int = 0) -> Frame:
    return Frame("dock", number, Timestamp(number, number, "file", None), picture(number, width, height, "i420"))


def collected(collector: Collector, frames: Iterable[Frame]) -> dict[str, int]:
    worker = threading.Thread(target=collector.run, args=(threading.Event(),))
    worker.start()
    try:
        for count, one in enumerate(frames, 1):
            collector.cameras["dock"].offer(one)
            until(lambda count=count: collector.counts()["dock"]["waiting"] == 0 and count > 0)
    finally:
        collector.close()
        worker.join(PATIENCE_S)
    return collector.counts()["dock"]


def test_all_pictures_together_stay_within_their_bytes_whatever_size_they_come_in(tmp_path: Path, caplog) -> None:
    small, large = frame(288, 32), frame(640, 320)
    room = 2 * (4 * most_bytes(small.image))
    collector = Collector(tmp_path, ["dock", "gate"], limit=10, every_ns=0, max_bytes=room)
    counts = collected(collector, [frame(288, 32, number) for number in range(8)] + [large])
    assert (counts["kept"], counts["limit"], counts["considered"], counts["dropped"]) == (4, 4, 8, 1)
    assert sum(path.stat().st_size for path in tmp_path.glob("*.png")) == counts["bytes"] <= room / 2
    assert "dock: 4 pictures of 288x32 are kept, not 10: max_mb allows no more" in caplog.text
    assert "dock: 0 pictures of 640x320 are kept" in caplog.text


def test_a_folder_that_is_emptied_while_the_agent_runs_gets_a_new_sample(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(collecting, "SAVE_EVERY_S", 0)
    first = collected(Collector(tmp_path, ["dock"], limit=2, every_ns=0, max_bytes=10**9), [frame(288, 32)] * 6)
    assert (first["kept"], first["candidates"]) == (2, 6)
    collector = Collector(tmp_path, ["dock"], limit=2, every_ns=0, max_bytes=10**9)

    def frames() -> Iterator[Frame]:
        yield frame(288, 32)
        for path in tmp_path.glob("*.png"):
            path.unlink()
        for _ in range(3):
            yield frame(288, 32)

    counts = collected(collector, frames())
    assert counts["kept"] == 2
    assert counts["candidates"] in (2, 3), "the first of them may still have been passed over with the old ones"
