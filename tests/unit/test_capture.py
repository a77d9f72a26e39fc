"""The loop of a source's thread: what it counts and says where nothing can be read."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from agent.camera import Camera
from agent.capture import Capture
from agent.frame import Timestamp
from agent.publishing import Outlets
from agent.sources import Intake, Pictures, SourceConfig, images, snapshot
from agent.sources.synthetic import picture
from tests.support.http_camera import HttpCamera
from tests.support.patience import PATIENCE_S


@contextmanager
def captured(source: SourceConfig, count: int = 1) -> Iterator[list[Camera]]:
    """Cameras that share a source, while it is read."""
    cameras = [Camera("test", f"cam{n}", source.label, [], Outlets([])) for n in range(count)]
    stop = threading.Event()
    thread = threading.Thread(target=Capture(source, cameras).run, args=(stop,))
    thread.start()
    try:
        yield cameras
    finally:
        stop.set()
        thread.join()


def soon(condition: Callable[[], bool]) -> bool:
    deadline = time.monotonic() + PATIENCE_S
    while not condition() and time.monotonic() < deadline:
        time.sleep(0.01)
    return condition()


def skipped(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [r.getMessage() for r in caplog.records if "cannot be read and is skipped" in r.getMessage()]


def test_what_cannot_be_read_is_counted_and_said_though_no_good_picture_follows(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """For every camera on the source; only the first is logged."""
    monkeypatch.setattr(images, "_PATIENCE", 1)
    for n in range(3):
        (tmp_path / f"{n}.jpg").write_bytes(b"no image")
    with caplog.at_level(logging.WARNING), captured(images.Config(path=tmp_path, watch=True), 2) as cameras:
        assert soon(lambda: [camera.counts()["unreadable"] for camera in cameras] == [3, 3])
    assert skipped(caplog) == [
        f"cam0, cam1: a frame cannot be read and is skipped: {tmp_path}/0.jpg: is damaged, or no image"
    ]


class Hasty(SourceConfig):
    """Three pictures of which the first two give way to the last."""

    @property
    def label(self) -> str:
        return "hasty"

    @contextmanager
    def open(self, stop: threading.Event, intake: Intake) -> Iterator[Pictures]:
        def pictures() -> Pictures:
            intake.left_out += 2
            yield Timestamp(0, 0, "receive", 0), picture(0, 320, 48, "bgr")

        yield pictures()


def test_what_a_source_leaves_out_is_counted_for_every_camera_on_it() -> None:
    with captured(Hasty(), 2) as cameras:
        assert soon(lambda: [camera.state for camera in cameras] == ["ended", "ended"])
        assert [(camera.frames, camera.counts()["left_out"]) for camera in cameras] == [(1, 2), (1, 2)]


def test_what_stays_unreadable_is_said_once_over_all_tries(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("agent.workers.random.uniform", lambda *_: 0.01)
    with HttpCamera() as server, caplog.at_level(logging.WARNING):
        server.answer = (200, "text/html", b"<html>please log in</html>")
        settings: dict[str, Any] = {"url": server.snapshot, "every": "10ms"}
        with captured(snapshot.Config.model_validate(settings)) as [camera]:
            assert soon(lambda: camera.counts()["unreadable"] >= 7)
            assert camera.state in ("lost", "connecting")
    assert len(skipped(caplog)) == 1
