"""What every source promises, whatever its pictures come from."""

from __future__ import annotations

import gc
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from itertools import islice, pairwise
from pathlib import Path
from typing import Literal

import psutil
import pytest

from agent.errors import SourceError
from agent.sources import Intake, SourceConfig, file, gstreamer, images, network, opencv, snapshot, synthetic
from agent.sources._isolated import as_read
from agent.sources._recording import Pace
from agent.sources.synthetic import BITS, read_barcode
from engines.pixels import Image, Plane
from tests.support.clips import SHORT, Clip
from tests.support.gstreamer import need_gstreamer
from tests.support.http_camera import HttpCamera, jpeg
from tests.support.patience import PATIENCE_S
from tests.support.rtsp import RtspServer


@dataclass(frozen=True)
class Case:
    """A source that goes on, and the same kind where it cannot be opened."""

    config: SourceConfig
    broken: SourceConfig
    frames: int
    """After so many the numbers begin anew."""
    stall: Callable[[], None] | None = None
    """Makes a camera send no more, without closing anything."""

    def isolated(self) -> Case:
        """The same, each in a process of its own."""
        good, absent = (as_read(config.model_copy(update={"isolated": True})) for config in (self.config, self.broken))
        return replace(self, config=good, broken=absent)


CLIP = Clip(gop=10)
TIMEOUT_S = 1.5


@pytest.fixture(scope="module")
def camera() -> Iterator[RtspServer | None]:
    try:
        server = RtspServer(CLIP)
    except pytest.skip.Exception:
        yield None
        return
    with server:
        yield server


@pytest.fixture(scope="module")
def http_camera() -> Iterator[HttpCamera]:
    with HttpCamera() as server:
        yield server


KINDS = ["synthetic", "synthetic-lossless", "file", "file-live", "rtsp-tcp", "rtsp-udp"]
KINDS += ["gstreamer-tcp", "gstreamer-udp", "gstreamer-live", "gstreamer-lossless"]
KINDS += ["images", "images-live", "opencv-file", "opencv-live", "opencv-numbered", "opencv-http", "snapshot"]
ISOLATED = "isolated-rtsp-tcp"
"""In a process of its own. Each takes a second to begin, so that of other sources is in test_isolated."""


@pytest.fixture(params=[*KINDS, ISOLATED])
def case(request: pytest.FixtureRequest, camera: RtspServer | None, http_camera: HttpCamera, numbered: Path) -> Case:
    case = _case(request.param.removeprefix("isolated-"), camera, http_camera, numbered)
    return case.isolated() if request.param == ISOLATED else case


@pytest.fixture(params=KINDS)
def case_here(
    request: pytest.FixtureRequest, camera: RtspServer | None, http_camera: HttpCamera, numbered: Path
) -> Case:
    """All that need no process."""
    return _case(request.param, camera, http_camera, numbered)


def _case(which: str, camera: RtspServer | None, http_camera: HttpCamera, numbered: Path) -> Case:
    kind, _, variant = which.partition("-")
    if kind == "snapshot":
        return _snapshot_case(http_camera)
    if kind == "images":
        pace = variant or "lossless"
        good, absent = (images.Config(path=p, loop=True, pace=pace, rate=50) for p in (numbered, numbered / "absent"))
        return Case(good, absent, 30)
    if kind == "opencv":
        return _opencv_case(variant, http_camera, numbered)
    if kind == "synthetic":
        pace = variant or "live"
        return Case(synthetic.Config(pace=pace), synthetic.Config(fail_open=True), 1 << BITS)
    if kind == "file":
        pace = variant or "lossless"
        absent = file.Config(path=Path("/absent.mp4"), pace=pace)
        return Case(file.Config(path=SHORT.path(), pace=pace, loop=True), absent, SHORT.frames)
    if kind == "gstreamer":
        need_gstreamer()
        if variant not in ("tcp", "udp"):
            return _pipeline_case(variant)
    return _network_case(camera, kind, variant)


@pytest.fixture(scope="module")
def numbered(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Thirty numbered pictures."""
    folder = tmp_path_factory.mktemp("numbered")
    for number in range(30):
        (folder / f"shot_{number:04d}.jpg").write_bytes(jpeg(number))
    return folder


def _opencv_case(variant: str, camera: HttpCamera, numbered: Path) -> Case:
    if variant == "http":
        good, absent = (opencv.Config(url=url, timeout_s=TIMEOUT_S) for url in (camera.stream, camera.stream[:-5]))
        camera.flow()
        return Case(good, absent, 1 << BITS, camera.stall)
    if variant == "numbered":
        good, absent = (opencv.Config(path=numbered / name, loop=True) for name in ("shot_%04d.jpg", "absent_%04d.jpg"))
        return Case(good, absent, 30)
    pace: Pace = "live" if variant == "live" else "lossless"
    absent = opencv.Config(path=Path("/absent.mp4"), pace=pace)
    return Case(opencv.Config(path=SHORT.path(), pace=pace, loop=True), absent, SHORT.frames)


def _snapshot_case(camera: HttpCamera) -> Case:
    camera.flow()
    good, absent = (
        snapshot.Config.model_validate({"url": url, "every": "20ms", "timeout_s": TIMEOUT_S})
        for url in (camera.snapshot, camera.snapshot.replace("snap", "absent"))
    )
    return Case(good, absent, 1 << BITS, camera.stall)


@pytest.fixture(
    params=["rtsp-tcp", "rtsp-udp", "gstreamer-tcp", "gstreamer-udp", "opencv-http", "snapshot", "isolated-rtsp-tcp"]
)
def network_case(
    request: pytest.FixtureRequest, camera: RtspServer | None, http_camera: HttpCamera, numbered: Path
) -> Iterator[Case]:
    kind, _, variant = request.param.removeprefix("isolated-").partition("-")
    if kind == "gstreamer":
        need_gstreamer()
    if variant in ("tcp", "udp"):
        case = _network_case(camera, kind, variant)
        yield case.isolated() if request.param == ISOLATED else case
        return
    yield _opencv_case(variant, http_camera, numbered) if kind == "opencv" else _snapshot_case(http_camera)
    http_camera.flow()


def _network_case(camera: RtspServer | None, kind: str, transport: Literal["tcp", "udp"]) -> Case:
    if camera is None:
        pytest.skip("no RTSP server here")
    camera.flow()
    config = gstreamer.Config if kind == "gstreamer" else network.Config
    url = camera.urls[0]
    good, absent = (config(url=at, transport=transport, timeout_s=TIMEOUT_S) for at in (url, f"{url}-absent"))
    return Case(good, absent, CLIP.frames, camera.stall)


def luma(image: Image) -> Plane:
    """What the barcode is read from."""
    return image.planes[0] if image.planes[0].ndim == 2 else image.planes[0][:, :, 1]


def _pipeline_case(variant: Literal["live", "lossless"]) -> Case:
    good, absent = (
        gstreamer.Config(pipeline=f"filesrc location={path} ! decodebin", pace=variant)
        for path in (SHORT.path(), "/absent.mp4")
    )
    return Case(good, absent, SHORT.frames)


def test_it_yields_pictures_with_the_right_planes(case: Case) -> None:
    """In the size that they have, numbered one after another, with what is known of the stream.

    What is live may have gone on while this process had to wait for the processor.
    """
    intake = Intake()
    with case.config.open(threading.Event(), intake) as pictures:
        taken = [(captured, image.size, read_barcode(luma(image))) for captured, image in islice(pictures, 20)]
    assert {size for _, size, _ in taken} == {CLIP.size}
    seen = [number for _, _, number in taken]
    assert None not in seen
    steps = [(b - a) % case.frames for a, b in pairwise(number for number in seen if number is not None)]
    missed = sum(step != 1 for step in steps)
    assert missed <= (0 if case.config.lossless else 2), seen
    assert set(intake.facts) >= {"codec", "size", "rate"}
    assert intake.unreadable == 0


def test_its_clock_goes_on_and_says_what_it_is(case: Case) -> None:
    """Live sources on this machine's clock, recordings on their own."""
    opened_ns = time.monotonic_ns()
    with case.config.open(threading.Event(), Intake()) as pictures:
        stamps = [captured for captured, _ in islice(pictures, 20)]
    assert all(a.monotonic_ns <= b.monotonic_ns for a, b in pairwise(stamps))
    assert {stamp.live for stamp in stamps} == {not case.config.lossless}
    for stamp in stamps:
        assert stamp.live == (stamp.received_ns is not None)
        assert not stamp.live or opened_ns - 1e9 < stamp.monotonic_ns < time.monotonic_ns()


def test_planes_stay_valid_while_they_are_referenced(case: Case) -> None:
    """Over later pictures, and after the source is closed."""
    with case.config.open(threading.Event(), Intake()) as pictures:
        kept = [image for _, image in islice(pictures, 5)]
        copies = [[plane.copy() for plane in image.planes] for image in kept]
        last = [image for _, image in islice(pictures, 20)]
    gc.collect()
    assert len(last) == 20
    for image, planes in zip(kept, copies, strict=True):
        assert all((plane == copy).all() for plane, copy in zip(image.planes, planes, strict=True))


def test_it_ends_when_it_is_stopped(case: Case) -> None:
    """Without an error, with its thread in the middle of reading."""
    stop, taken = threading.Event(), threading.Event()
    errors: list[BaseException] = []

    def read() -> None:
        try:
            with case.config.open(stop, Intake()) as pictures:
                for _ in pictures:
                    taken.set()
        except BaseException as error:  # noqa: BLE001 - the test asks whether there was any
            errors.append(error)

    thread = threading.Thread(target=read)
    thread.start()
    assert taken.wait(PATIENCE_S)
    stop.set()
    thread.join(0.5)
    assert not thread.is_alive()
    assert not errors


def test_it_ends_when_it_is_stopped_while_nothing_comes(network_case: Case) -> None:
    """Then within its own time limit, with or without an error."""
    stop, taken = threading.Event(), threading.Event()

    def read() -> None:
        try:
            with network_case.config.open(stop, Intake()) as pictures:
                for _ in pictures:
                    taken.set()
        except SourceError:
            pass

    thread = threading.Thread(target=read)
    thread.start()
    assert taken.wait(PATIENCE_S)
    assert network_case.stall is not None
    network_case.stall()
    stop.set()
    thread.join(TIMEOUT_S + 0.5)
    assert not thread.is_alive()


def test_where_it_cannot_be_opened_it_says_so(case: Case) -> None:
    """A SourceError with its label, in one line."""
    with pytest.raises(SourceError) as caught, case.broken.open(threading.Event(), Intake()) as pictures:
        next(pictures)
    assert str(caught.value).startswith(case.broken.label)
    assert "\n" not in str(caught.value)


def test_it_leaves_no_threads_and_no_descriptors(case_here: Case) -> None:
    """Read, not read, given up with an error: closed is closed."""
    process = psutil.Process()

    def use() -> None:
        with case_here.config.open(threading.Event(), Intake()) as pictures:
            next(pictures)
        with case_here.config.open(threading.Event(), Intake()):
            pass
        with pytest.raises(ZeroDivisionError), case_here.config.open(threading.Event(), Intake()) as pictures:
            _ = next(pictures), 1 / 0
        with pytest.raises(SourceError), case_here.broken.open(threading.Event(), Intake()) as pictures:
            next(pictures)

    def settled(expected: tuple[int, int] | None = None) -> tuple[int, int]:
        """Descriptors and threads, when the HTTP camera, which lives in this process, has let go of its own."""
        deadline, count, since = time.monotonic() + PATIENCE_S, (0, 0), time.monotonic()
        while time.monotonic() < deadline:
            now = (process.num_fds(), process.num_threads())
            if now != count:
                count, since = now, time.monotonic()
            # A machine that is busy may let a thread end late, but one that is there for good stays.
            settled_now = time.monotonic() > since + 0.2 if expected is None else no_more(count, expected)
            if settled_now:
                break
            time.sleep(0.01)
        return count

    def no_more(now: tuple[int, int], then: tuple[int, int]) -> bool:
        """Fewer are well: those of an earlier test may have ended meanwhile."""
        return now[0] <= then[0] and now[1] <= then[1]

    use()  # what libraries keep open for good is open now
    gc.disable()
    try:
        before = settled()
        use()
        assert no_more(settled(before), before)
    finally:
        gc.enable()


def test_a_source_that_ends_ends_without_an_error() -> None:
    """Recordings, at their last picture."""
    for config in (file.Config(path=SHORT.path()), synthetic.Config(pace="lossless", frames=SHORT.frames)):
        with config.open(threading.Event(), Intake()) as pictures:
            assert sum(1 for _ in pictures) == SHORT.frames


def test_a_source_that_breaks_says_so() -> None:
    """The pictures before are all there."""
    with synthetic.Config(fail_after=3).open(threading.Event(), Intake()) as pictures:
        assert len(list(islice(pictures, 3))) == 3
        with pytest.raises(SourceError, match="synthetic 640x360: was asked to break"):
            next(pictures)
