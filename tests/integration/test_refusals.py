"""Cameras that refuse a password are left alone for a minute or more, unless there is another password."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from pydantic import TypeAdapter

from agent.camera import Camera
from agent.capture import Capture
from agent.config import AnySource
from agent.errors import Refused, SourceError
from agent.publishing import Outlets
from agent.sources import Intake, SourceConfig, gstreamer
from tests.support.answering import Answering
from tests.support.faulty import KINDS, Kind, source_of
from tests.support.gstreamer import need_gstreamer
from tests.support.http_camera import HttpCamera
from tests.support.patience import PATIENCE_S
from tests.support.rtmp import RtmpRefuser


class Refuser(Answering):
    """Answers whatever it is asked, by HTTP or RTSP, with one status."""

    def __init__(self, status: int) -> None:
        super().__init__(patience_s=0.5)
        self.requests = 0
        self._status = status

    def answer(self, client: socket.socket) -> None:
        """See Answering."""
        while request := client.recv(65536).decode():
            self.requests += 1
            protocol = "RTSP/1.0" if "RTSP/1.0" in request else "HTTP/1.1"
            lines = [f"{protocol} {self._status} Go away", "Content-Length: 0"]
            lines += [line for line in request.split("\r\n") if line.startswith("CSeq")]
            if self._status == 401:
                lines.append('WWW-Authenticate: Basic realm="camera"')
            client.sendall("\r\n".join([*lines, "", ""]).encode())


def source(kind: Kind, port: int, **keys: Any) -> SourceConfig:
    if kind == "gstreamer":
        need_gstreamer()
    settings = source_of(kind, port, "stream.mjpg" if kind in ("http", "mjpeg", "snapshot") else "cam0")
    config: SourceConfig = TypeAdapter(AnySource).validate_python({**settings, **keys})
    return config


@pytest.mark.parametrize("status", [401, 403])
@pytest.mark.parametrize("kind", KINDS)
def test_every_source_knows_a_refusal(kind: Kind, status: int) -> None:
    """And asks no more than a few times, for many a camera locks the account after five."""
    with Refuser(status) as camera:
        config = source(kind, camera.port, username="me", password="wr0ng")
        with pytest.raises(Refused), config.open(threading.Event(), Intake()) as pictures:
            next(pictures)
        assert camera.requests <= 4


@pytest.mark.parametrize("type_", ["rtsp", "opencv"])
def test_a_password_that_is_refused_over_rtmp_is_known_too(type_: str) -> None:
    """Which has no status for it. One try each: OpenCV does not say why it failed, so FFmpeg is asked after it."""
    with RtmpRefuser() as camera:
        settings = {"type": type_, "url": f"rtmp://127.0.0.1:{camera.port}/live/cam", "username": "me"}
        config: SourceConfig = TypeAdapter(AnySource).validate_python({**settings, "password": "wr0ng"})
        with pytest.raises(Refused) as caught, config.open(threading.Event(), Intake()) as pictures:
            next(pictures)
        assert camera.tries == {"rtsp": 1, "opencv": 2}[type_]
    assert "check username, password" in str(caught.value)
    assert "wr0ng" not in str(caught.value)


def test_an_rtmp_camera_that_rejects_us_without_a_password_is_tried_soon() -> None:
    """No account can be locked by that."""
    with RtmpRefuser() as camera:
        config: SourceConfig = TypeAdapter(AnySource).validate_python(f"rtmp://127.0.0.1:{camera.port}/live/cam")
        with pytest.raises(SourceError) as caught, config.open(threading.Event(), Intake()) as pictures:
            next(pictures)
        assert not isinstance(caught.value, Refused)


def test_a_pipeline_of_ones_own_does_not_insist_on_a_refused_password() -> None:
    """GStreamer by itself would try it eight times."""
    need_gstreamer()
    with Refuser(401) as camera:
        pipeline = f"rtspsrc location=rtsp://127.0.0.1:{camera.port}/cam0 protocols=tcp ! decodebin"
        config = gstreamer.Config.model_validate({"pipeline": pipeline, "username": "me", "password": "wr0ng"})
        with pytest.raises(Refused), config.open(threading.Event(), Intake()) as pictures:
            next(pictures)
        assert camera.requests <= 4


@contextmanager
def captured(config: SourceConfig) -> Iterator[Camera]:
    camera, stop = Camera("test", "dock", config.label, [], Outlets([])), threading.Event()
    thread = threading.Thread(target=Capture(config, [camera]).run, args=(stop,))
    thread.start()
    try:
        yield camera
    finally:
        stop.set()
        thread.join()


def soon(camera: Camera, state: str) -> bool:
    deadline = time.monotonic() + PATIENCE_S
    while camera.state != state and time.monotonic() < deadline:
        time.sleep(0.01)
    return camera.state == state


def test_another_password_is_tried_at_once(tmp_path: Path) -> None:
    """Which nobody has to tell us: the file is looked at each second."""
    file = tmp_path / "password"
    file.write_text("wr0ng\n")
    with HttpCamera(user="me", password="right") as server:
        config = source("snapshot", server.port, username="me", password_file=str(file))
        with captured(config) as camera:
            assert soon(camera, "lost")
            tried = sum("Authorization" in headers for headers in server.requests)
            time.sleep(1.2)  # nothing is to happen
            assert sum("Authorization" in headers for headers in server.requests) == tried == 1
            file.write_text("right\n")
            assert soon(camera, "streaming")


class Clock:
    """Stands in for the module `time`: who waits lets it go on."""

    def __init__(self) -> None:
        self.now = 0.0

    def monotonic(self) -> float:
        return self.now

    def monotonic_ns(self) -> int:
        return round(self.now * 1e9)


class Waiting(threading.Event):
    """Is never set, nor waited for."""

    def __init__(self, clock: Clock) -> None:
        super().__init__()
        self._clock = clock

    def wait(self, timeout: float | None = None) -> bool:
        self._clock.now += timeout or 0.0
        return self.is_set()


def test_a_camera_that_refuses_is_left_alone_for_at_least_a_minute_then_two_up_to_ten(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Also when a reload has given the connection another camera to look for."""
    clock, tried = Clock(), []
    stop = Waiting(clock)
    monkeypatch.setattr("agent.capture.time", clock)

    def refuse(*_: object) -> None:
        tried.append(clock.now)
        capture.look_for([Camera("test", "dock", "anew", [], Outlets([]))])
        if len(tried) == 8:
            stop.set()
        raise Refused("wants another password")

    config = source("rtsp", 1, username="me", password="wr0ng")
    monkeypatch.setattr(type(config), "open", refuse)
    capture = Capture(config, [Camera("test", "dock", config.label, [], Outlets([]))])
    capture.run(stop)
    waits = [after - before for before, after in pairwise(tried)]
    least = (60, 120, 240, 480, 600, 600, 600)
    assert all(step <= waited <= 1.3 * step for step, waited in zip(least, waits, strict=True))
