"""Cameras that speak HTTP: snapshots, and MJPEG through OpenCV, with everything that can go wrong."""

from __future__ import annotations

import socket
import threading
import time
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from typing import Any, Literal

import pytest

from agent.errors import Refused, SourceError
from agent.sources import Intake, SourceConfig, opencv, snapshot
from agent.sources.synthetic import read_barcode
from engines.pixels import Image
from tests.support.broker import Certificates
from tests.support.http_camera import HttpCamera, jpeg, silent_server
from tests.support.patience import PATIENCE_S

TIMEOUT_S = 1.0
PASSWORD = "geh@im/1"
Kind = Literal["snapshot", "mjpeg"]


@pytest.fixture(params=["snapshot", "mjpeg"])
def kind(request: pytest.FixtureRequest) -> Kind:
    return request.param


def source(kind: Kind, camera: HttpCamera, url: str | None = None, **keys: Any) -> SourceConfig:
    if kind == "mjpeg":
        return opencv.Config.model_validate({"url": url or camera.stream, "timeout_s": TIMEOUT_S} | keys)
    asked = {"url": url or camera.snapshot, "every": "10ms", "timeout_s": TIMEOUT_S}
    return snapshot.Config.model_validate(asked | keys)


def watch(config: SourceConfig, count: int, intake: Intake | None = None) -> list[Image]:
    with config.open(threading.Event(), intake or Intake()) as pictures:
        return [image for _, image in islice(pictures, count)]


def number(image: Image) -> int | None:
    return read_barcode(image.planes[0][:, :, 1])


@pytest.mark.parametrize("scheme", ["basic", "digest"])
def test_credentials_in_their_own_keys_or_in_the_url_are_used(kind: Kind, scheme: Any) -> None:
    with HttpCamera(user="me@home", password=PASSWORD, scheme=scheme) as camera:
        assert watch(source(kind, camera, username="me@home", password=PASSWORD), 2)
        address = camera.snapshot if kind == "snapshot" else camera.stream
        assert watch(source(kind, camera, address.replace("://", "://me%40home:geh%40im%2F1@")), 2)


def test_of_several_digests_the_one_that_is_known_is_used() -> None:
    """By RFC 7616, the better ones come first."""
    with HttpCamera(user="me", password="größe", scheme="digest") as camera:
        config = source("snapshot", camera, username="me", password="größe")
        camera.other_challenges = ['Digest realm="camera", nonce="n", qop="auth", algorithm=SHA-512-256']
        assert watch(config, 2)
        camera.algorithm = "SHA-256"
        assert watch(config, 2)


def test_a_nonce_that_is_always_too_old_is_renewed_once() -> None:
    with HttpCamera(user="me", password=PASSWORD, scheme="digest") as camera:
        camera.stale = True
        with pytest.raises(Refused):
            watch(source("snapshot", camera, username="me", password=PASSWORD), 1)
        assert sum("Authorization" in headers for headers in camera.requests) == 2


@pytest.mark.parametrize("scheme", ["basic", "digest"])
def test_wrong_credentials_are_refused_and_never_shown(
    kind: Kind, scheme: Any, capfd: pytest.CaptureFixture[str]
) -> None:
    """And tried once: a camera may lock the account after a few tries."""
    with HttpCamera(user="me", password=PASSWORD, scheme=scheme) as camera:
        config = source(kind, camera, username="me", password="wr0ng")
        with pytest.raises(Refused, match="check username and password") as caught:
            watch(config, 1)
        tried = sum("Authorization" in headers for headers in camera.requests)
        # OpenCV does not say what was wrong; to know it, FFmpeg asks a second time.
        assert tried == {"snapshot": 1, "mjpeg": 2}[kind]
        with pytest.raises(Refused):
            watch(source(kind, camera), 1)
    output = capfd.readouterr()
    assert "wr0ng" not in f"{caught.value} {config!r} {config.label} {config} {output.out} {output.err}"


def test_a_stream_that_changes_size_goes_on_with_the_new_one(kind: Kind) -> None:
    """Undistorted: its barcode can still be read."""
    with HttpCamera() as camera:
        intake = Intake()
        with source(kind, camera).open(threading.Event(), intake) as pictures:
            assert next(pictures)[1].size == (640, 360)
            camera.size = (800, 480)
            _, image = next(picture for picture in pictures if picture[1].size != (640, 360))
            assert image.size == (800, 480)
            assert number(image) is not None
            assert intake.facts["size"] == "800x480"
            assert [number(image) for _, image in islice(pictures, 1)] == [(number(image) or 0) + 1]


def test_a_damaged_picture_is_counted_and_skipped(kind: Kind) -> None:
    with HttpCamera() as camera:
        intake = Intake()
        with source(kind, camera).open(threading.Event(), intake) as pictures:
            next(pictures)
            camera.spoil(2)
            deadline = time.monotonic() + PATIENCE_S
            while intake.unreadable < 2 and time.monotonic() < deadline:
                assert number(next(pictures)[1]) is not None
        assert intake.unreadable == 2
        assert str(intake.last_error).startswith(f"http://127.0.0.1:{camera.port}/")


@pytest.mark.parametrize("fault", ["kill", "stall"])
def test_a_camera_that_is_lost_is_noticed_in_time(kind: Kind, fault: str) -> None:
    """And read again when it is back, on the same address."""
    with HttpCamera() as camera:
        config = source(kind, camera)
        with config.open(threading.Event(), Intake()) as pictures:
            next(pictures)
            getattr(camera, fault)()
            lost = time.monotonic()
            with pytest.raises(SourceError) as caught:
                deque(pictures, maxlen=0)
        assert time.monotonic() - lost < TIMEOUT_S + 1
        assert str(caught.value).startswith(config.label)
        if fault == "kill":
            with pytest.raises(SourceError, match="Connection refused"):
                watch(config, 1)
            camera.restart()
        camera.flow()
        assert watch(config, 2)


def test_a_server_that_says_nothing_is_given_up_in_time(kind: Kind) -> None:
    with HttpCamera() as camera, silent_server() as url:
        asked = time.monotonic()
        with pytest.raises(SourceError, match="does not answer"):
            watch(source(kind, camera, url), 1)
        assert time.monotonic() - asked < TIMEOUT_S + 1


def test_a_path_that_is_not_there_is_named(kind: Kind) -> None:
    with HttpCamera() as camera, pytest.raises(SourceError, match=r"absent.jpg: .*404") as caught:
        watch(source(kind, camera, camera.snapshot.replace("snap", "absent")), 1)
    assert not isinstance(caught.value, Refused)


def test_snapshots_stop_at_once_while_the_camera_is_silent() -> None:
    """Waiting for an answer, and for a connection."""
    stop = threading.Event()
    with HttpCamera() as camera, silent_server() as url:
        config = snapshot.Config(url=url, timeout_s=30)
        with config.open(stop, Intake()) as pictures:
            timer = threading.Timer(0.2, stop.set)
            timer.start()
            asked = time.monotonic()
            assert next(pictures, None) is None
            assert time.monotonic() - asked < 0.7
            timer.join()
        assert camera.snapshots == 0


@pytest.mark.parametrize(
    ("answer", "says"),
    [
        ((200, "text/html", b"<h1>log in</h1>"), "answers text/html of 15 bytes, which is no image, 3 times in a row"),
        ((200, "image/jpeg", b""), "answers image/jpeg of 0 bytes"),
        ((200, "image/jpeg", jpeg(1)[:3000]), "of 3000 bytes, which is no image"),
        ((503, "text/plain", b"busy"), "the camera answers 503 Service Unavailable"),
        ((200, "image/jpeg", bytes(33 << 20)), "more than 32 MB"),
    ],
)
def test_an_answer_that_is_no_picture_is_said(answer: tuple[int, str, bytes], says: str) -> None:
    with HttpCamera() as camera:
        camera.answer = answer
        with pytest.raises(SourceError, match=f"snap.jpg: .*{says}"):
            watch(source("snapshot", camera), 1)


@contextmanager
def raw_server(answer: bytes, pause_s: float = 0.0) -> Iterator[str]:
    """Answers every request with these bytes, one every `pause_s` if that is given."""
    closed = threading.Event()
    with socket.create_server(("127.0.0.1", 0)) as listening:
        listening.settimeout(0.05)

        def serve() -> None:
            while not closed.is_set():
                try:
                    connection, _ = listening.accept()
                except TimeoutError:
                    continue
                with connection:
                    try:
                        connection.recv(65536)
                        for at in range(0, len(answer), 1 if pause_s else len(answer)):
                            connection.sendall(answer[at : at + 1] if pause_s else answer)
                            if closed.wait(pause_s):
                                return
                    except OSError:
                        continue

        thread = threading.Thread(target=serve)
        thread.start()
        try:
            yield f"http://127.0.0.1:{listening.getsockname()[1]}/snap.jpg"
        finally:
            closed.set()
            thread.join()


HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: image/jpeg\r\nContent-Length: 9999\r\n\r\n"


@pytest.mark.parametrize(
    ("answer", "pause_s", "says"),
    [
        (b"220 smtp ready\r\n", 0.0, "speaks no HTTP"),
        (HEAD + b"\xff\xd8", 0.0, "breaks its answer off"),
        (HEAD + bytes(999), 0.05, "does not answer"),
        (b"HTTP/1.1 302 Found\r\nLocation: ftp://x/y\r\n\r\n", 0.0, "unknown url type: ftp"),
        (b'HTTP/1.1 401 No\r\nWWW-Authenticate: Bearer realm="x"\r\n\r\n', 0.0, "check username and password"),
    ],
)
def test_a_server_that_misbehaves_is_an_error_in_time(answer: bytes, pause_s: float, says: str) -> None:
    """Also one that sends a byte now and then, and so is never silent."""
    with raw_server(answer, pause_s) as url:
        asked = time.monotonic()
        config = snapshot.Config(url=url, timeout_s=TIMEOUT_S, username="me", password=PASSWORD)
        with pytest.raises(SourceError, match=says) as caught:
            watch(config, 1)
        assert time.monotonic() - asked < TIMEOUT_S + 1
    assert "\n" not in str(caught.value)
    assert PASSWORD not in str(caught.value)


def test_an_address_may_have_spaces_and_umlauts() -> None:
    """As browsers take it; what is quoted already stays so."""
    with HttpCamera() as camera:
        assert watch(source("snapshot", camera, f"{camera.snapshot}?name=Hof Süd&at=%20"), 1)
        assert camera.paths == ["/snap.jpg?name=Hof%20S%C3%BCd&at=%20"]


def test_a_redirection_is_followed_without_the_credentials() -> None:
    """The other host could be anybody's."""
    with HttpCamera(user="me", password=PASSWORD) as camera, HttpCamera(user="me", password=PASSWORD) as other:
        camera.redirect = other.snapshot
        with pytest.raises(Refused):
            watch(source("snapshot", camera, username="me", password=PASSWORD), 1)
        assert other.requests
        assert not any("Authorization" in headers for headers in other.requests)
        other.user = None
        assert watch(source("snapshot", camera, username="me", password=PASSWORD), 2)


@pytest.mark.parametrize("scheme", ["basic", "digest"])
def test_snapshots_come_over_tls(tmp_path: Path, scheme: Any) -> None:
    """From a camera that proves who it is, or need not; also while it is slow, and stopping at once."""
    certificates = Certificates.make(tmp_path)
    with HttpCamera(user="me", password=PASSWORD, scheme=scheme, certificates=certificates) as camera:
        login = {"username": "me", "password": PASSWORD, "timeout_s": 10}
        assert watch(source("snapshot", camera, ca=certificates.ca, **login), 2)
        assert watch(source("snapshot", camera, verify=False, **login), 2)
        for ca in (None, certificates.wrong_ca):
            with pytest.raises(SourceError, match=r"cannot prove who it is: .*\(ca: FILE, or verify: false\)"):
                watch(source("snapshot", camera, ca=ca, **login), 1)
        with pytest.raises(SourceError, match=r"ca /absent.pem cannot be read: No such file"):
            watch(source("snapshot", camera, ca="/absent.pem", **login), 1)
        stop = threading.Event()
        with source("snapshot", camera, ca=certificates.ca, **login).open(stop, Intake()) as pictures:
            next(pictures)
            camera.stall()
            timer = threading.Timer(0.2, stop.set)
            timer.start()
            asked = time.monotonic()
            assert next(pictures, None) is None
            assert time.monotonic() - asked < 0.7
            timer.join()
            camera.flow()


def test_a_proxy_of_the_environment_is_not_used(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:1")
    monkeypatch.setenv("no_proxy", "")
    with HttpCamera() as camera:
        assert watch(source("snapshot", camera), 1)


def test_snapshots_come_as_often_as_asked_for() -> None:
    """A slow camera is not asked twice at once, and what was missed is not made up for."""
    with HttpCamera() as camera:
        config = source("snapshot", camera, every="100ms")
        with config.open(threading.Event(), Intake()) as pictures:
            stamps = [captured.monotonic_ns for captured, _ in islice(pictures, 5)]
    assert 0.25 < (stamps[-1] - stamps[0]) / 1e9 < 1.5  # the first one may be late, and makes no other late
    assert camera.snapshots == 5
