"""GStreamer against a real RTSP server that is frozen, killed, lossy, and wants a password; an engine beside it."""

from __future__ import annotations

import statistics
import subprocess
import sys
import threading
import time
from collections import deque
from contextlib import suppress
from itertools import islice
from pathlib import Path
from typing import Literal

import pytest
import yaml

from agent.errors import Refused, SourceError
from agent.sources import Intake
from agent.sources.gstreamer import Config
from agent.sources.synthetic import read_barcode
from engines.pixels import Image
from engines.store import ModelStore
from tests.integration.test_network_source import is_right, luma_by_index, seen_of
from tests.support.broker import Mosquitto, Subscriber
from tests.support.clips import HD, Clip
from tests.support.gstreamer import need_gstreamer
from tests.support.patience import PATIENCE_S
from tests.support.process import Sightwire
from tests.support.rtsp import RtspServer

Transport = Literal["tcp", "udp"]
CLIP = Clip(gop=10)
TIMEOUT_S = 1.5
PASSWORD = "geh@im/1"


@pytest.fixture(autouse=True)
def _needed() -> None:
    need_gstreamer()


def take(config: Config, count: int, intake: Intake | None = None) -> list[Image]:
    """Its first so many pictures."""
    with config.open(threading.Event(), intake or Intake()) as pictures:
        return [image for _, image in islice(pictures, count)]


@pytest.mark.alone
def test_capture_times_are_those_of_the_camera(hd: RtspServer, transport: Transport) -> None:
    """By its RTCP reports within 20 ms, arrival within 10; a picture is here long before the next one begins."""
    taken = []
    with Config(url=hd.urls[0], transport=transport).open(threading.Event(), Intake()) as pictures:
        # A camera's first report comes after up to five seconds.
        while len(taken) < 90 or sum(seen.captured.clock == "rtcp" for seen in taken) < 30:
            taken.append(seen_of(*next(pictures)))
            assert len(taken) < 270, "no capture times in nine seconds"
    wall_ahead_ns = time.time_ns() - time.monotonic_ns()
    pushed = {seen.index: hd.pushed_ns(seen.index) for seen in taken}
    by_rtcp = [s.captured.wall_ns - wall_ahead_ns - pushed[s.index] for s in taken if s.captured.clock == "rtcp"]
    assert abs(statistics.median(by_rtcp)) < 20e6
    steady = taken[15:]
    assert 0 < statistics.median(s.captured.monotonic_ns - pushed[s.index] for s in steady) < 10e6
    assert statistics.median(s.at_ns - pushed[s.index] for s in steady) < 25e6


@pytest.mark.alone
def test_the_first_picture_is_here_half_a_second_after_the_first_key_frame(hd: RtspServer) -> None:
    """Then all come, and none counts as lost."""
    intake = Intake()
    with Config(url=hd.urls[0]).open(threading.Event(), intake) as pictures:
        taken = [seen_of(captured, image) for captured, image in islice(pictures, 40)]
    first = taken[0].index
    assert first % HD.gop == 0
    assert taken[0].at_ns - hd.pushed_ns(first) < 0.5e9
    assert [seen.index for seen in taken] == [(first + n) % HD.frames for n in range(40)]
    facts = {"codec": "h264", "rate": "30", "size": "1280x720"}
    assert intake.unreadable == 0
    assert intake.facts.items() >= facts.items()
    assert intake.facts["decoder"].endswith(("h264", "h264dec"))


def test_lost_packets_cost_pictures_and_are_counted() -> None:
    """What is shown is what the camera saw; pictures predicted from lost ones, up to the next key frame, are not."""
    clip = Clip(gop=10, frames=60)
    truth, intake = luma_by_index(clip), Intake()
    good = wrong = 0
    with (
        RtspServer(clip, loss=0.02) as server,
        Config(url=server.urls[0], transport="udp").open(threading.Event(), intake) as pictures,
    ):
        deadline = time.monotonic() + PATIENCE_S
        while (good < 30 or intake.unreadable < 5) and time.monotonic() < deadline:
            _, image = next(pictures)
            right = is_right(image.planes[0], truth)
            good, wrong = good + right, wrong + (not right)
    assert good >= 30
    assert intake.unreadable >= 5
    assert str(intake.last_error).startswith(server.urls[0])
    assert wrong <= clip.gop


def test_credentials_open_the_stream() -> None:
    """In their own keys, in the URL, and for a pipeline of one's own; special characters and all."""
    with RtspServer(CLIP, user="me@home", password=PASSWORD) as server:
        url = server.urls[0].replace("://", "://me%40home:geh%40im%2F1@")
        keys = {"username": "me@home", "password": PASSWORD}
        pipeline = f"rtspsrc location={server.urls[0]} protocols=tcp latency=0 ! decodebin"
        for config in (
            Config.model_validate({"url": server.urls[0], **keys}),
            Config(url=url),
            Config.model_validate({"pipeline": pipeline, **keys}),
        ):
            assert len(take(config, 2)) == 2


def test_wrong_credentials_are_refused_and_never_shown(capfd: pytest.CaptureFixture[str]) -> None:
    """Refused, so that no camera locks us out, with what to do."""
    with RtspServer(CLIP, user="me", password=PASSWORD) as server:
        bad = server.urls[0].replace("://", "://me:wr0ng@")
        for config in (
            Config(url=bad),
            Config.model_validate({"url": server.urls[0], "username": "me", "password": "wr0ng"}),
            Config(pipeline=f"rtspsrc location={bad} protocols=tcp ! decodebin"),
            Config(pipeline=f"rtspsrc location={server.urls[0]} user-id=me user-pw=wr0ng ! decodebin"),
            Config(url=server.urls[0]),
        ):
            with pytest.raises(Refused, match="check username and password") as caught:
                take(config, 1)
            assert "wr0ng" not in f"{caught.value} {config!r} {config.label} {config}"
    output = capfd.readouterr()
    assert "wr0ng" not in output.out + output.err


@pytest.mark.parametrize(
    ("transport", "fault"), [("tcp", "kill"), ("tcp", "freeze"), ("udp", "kill"), ("udp", "stall")]
)
def test_a_camera_that_is_lost_is_noticed_in_time(transport: Transport, fault: str) -> None:
    """Whether it loses power, its cable is cut, or it just sends no more; and closing it takes no time."""
    with RtspServer(CLIP, user="me", password="geheim") as server:
        url = server.urls[0].replace("://", "://me:geheim@")
        with Config(url=url, transport=transport, timeout_s=TIMEOUT_S).open(threading.Event(), Intake()) as pictures:
            next(pictures)
            getattr(server, fault)()
            lost = time.monotonic()
            with pytest.raises(SourceError) as caught:
                deque(pictures, maxlen=0)
            noticed = time.monotonic()
        assert noticed - lost < TIMEOUT_S + 1
        assert time.monotonic() - noticed < 0.5
        server.thaw() if fault == "freeze" else None
    assert str(caught.value).startswith(server.urls[0].replace("://", "://***@"))
    assert "geheim" not in str(caught.value)


@pytest.mark.parametrize(("transport", "fault"), [("tcp", "freeze"), ("udp", "stall")])
def test_it_stops_at_once_while_a_camera_is_silent(transport: Transport, fault: str) -> None:
    """Within half a second, closed and all."""
    stop, taken = threading.Event(), threading.Event()
    with RtspServer(CLIP) as server:

        def read() -> None:
            with Config(url=server.urls[0], transport=transport, timeout_s=30).open(stop, Intake()) as pictures:
                for _ in pictures:
                    taken.set()

        thread = threading.Thread(target=read)
        thread.start()
        assert taken.wait(PATIENCE_S)
        getattr(server, fault)()
        stop.set()
        thread.join(0.5)
        assert not thread.is_alive()
        server.thaw()


def test_a_camera_that_answers_nothing_is_given_up_in_time(hd: RtspServer) -> None:
    """Already while it is being opened."""
    hd.freeze()
    try:
        asked = time.monotonic()
        with pytest.raises(SourceError):
            take(Config(url=hd.urls[0], timeout_s=TIMEOUT_S), 1)
        assert time.monotonic() - asked < TIMEOUT_S + 1
    finally:
        hd.thaw()


def test_a_camera_that_is_away_is_named_and_read_again_when_it_is_back() -> None:
    """On the same address, by opening it again; not a matter of credentials."""
    with RtspServer(CLIP) as server:
        config = Config(url=server.urls[0], timeout_s=TIMEOUT_S)
        server.kill()
        with pytest.raises(SourceError) as caught:
            take(config, 1)
        assert not isinstance(caught.value, Refused)
        assert str(caught.value).startswith(f"{server.urls[0]}: ")
        server.restart()
        assert len(take(config, 5)) == 5
        with pytest.raises(SourceError, match=r"[Nn]ot [Ff]ound"):
            take(Config(url=f"{server.urls[0]}-absent"), 1)


def test_a_stream_that_changes_size_goes_on(tmp_path: Path) -> None:
    """Its pictures have the new one, and the facts say so."""
    joined = tmp_path / "joined.h264"
    clips = (Clip(frames=12, gop=6), Clip(size=(480, 272), frames=12, gop=6))
    with joined.open("wb") as file:
        for clip in clips:
            command = ["ffmpeg", "-loglevel", "error", "-i", str(clip.path()), "-c", "copy"]
            command += ["-bsf:v", "h264_mp4toannexb", "-f", "h264", "-"]
            file.write(subprocess.run(command, check=True, capture_output=True).stdout)
    intake = Intake()
    config = Config(pipeline=f"filesrc location={joined} ! h264parse ! avdec_h264 max-threads=1", pace="lossless")
    taken = take(config, 100, intake)
    assert [image.size for image in taken] == [(640, 360)] * 12 + [(480, 272)] * 12
    assert [read_barcode(image.planes[0]) for image in taken] == [*range(12), *range(12)]
    assert intake.facts["size"] == "480x272"


def test_pictures_that_gave_way_to_newer_ones_are_counted() -> None:
    """Who is slower than a camera misses some, and is told how many."""
    intake, taken = Intake(), 0
    config = Config(
        pipeline="videotestsrc is-live=true num-buffers=60 ! video/x-raw,width=64,height=48,framerate=100/1"
    )
    with config.open(threading.Event(), intake) as pictures, suppress(SourceError):  # the end of what never ends
        for _ in pictures:
            taken += 1
            time.sleep(0.03)  # work
    assert intake.left_out > 0
    assert taken + intake.left_out == 60


def test_engines_and_gstreamer_live_in_one_process() -> None:
    """Whichever is loaded first, and an engine is compiled before and after."""
    program = (
        "import threading, sys, numpy as np\n"
        "from agent.sources import Intake, gstreamer\n"
        "from engines.quiet import import_openvino\n"
        "def engine():\n"
        "    ov = import_openvino()\n"
        "    x = ov.opset13.parameter([1, 3], np.float32)\n"
        "    compiled = ov.Core().compile_model(ov.Model([ov.opset13.relu(x)], [x]), 'CPU')\n"
        "    assert compiled([np.array([[-1, 0, 1]], np.float32)])[0].tolist() == [[0, 0, 1]]\n"
        "    try:\n"
        "        ov.Core().compile_model('absent.xml', 'CPU')\n"
        "    except RuntimeError:\n"
        "        pass\n"
        "if sys.argv[1] == 'engine': engine()\n"
        "with gstreamer.Config(pipeline='videotestsrc is-live=true').open(threading.Event(), Intake()) as pictures:\n"
        "    next(pictures)\n"
        "    engine()\n"
        "    next(pictures)\n"
    )
    for first in ("engine", "gstreamer"):
        done = subprocess.run([sys.executable, "-c", program, first], capture_output=True, text=True, timeout=60)
        assert (done.returncode, done.stderr) == (0, "")


def test_an_agent_publishes_what_gstreamer_reads(tmp_path: Path, real_models: ModelStore) -> None:
    """With a real engine beside it, by the camera's clock, and stops in peace; no secret leaves."""
    with RtspServer(CLIP, user="me", password="geheim") as camera, Mosquitto(tmp_path) as broker:
        source = {"type": "gstreamer", "url": camera.urls[0], "username": "me", "password": "geheim"}
        wrong = {"type": "gstreamer", "pipeline": "videotestsr password=geheim"}
        config = tmp_path / "site.yaml"
        config.write_text(
            yaml.safe_dump(
                {
                    "agent": {"name": "gatehouse"},
                    "mqtt": {"url": broker.url},
                    "models": {"people": {"model": "person-ssdlite"}},
                    "cameras": {
                        "dock": {"source": source, "models": ["people"]},
                        "typo": {"source": wrong, "models": ["people"]},
                    },
                }
            )
        )
        with Subscriber(broker.observer_url) as listener:
            with Sightwire("run", config, models=real_models.root) as agent:
                results = lambda seen: [m.data for m in seen if m.topic.endswith("/detections")]  # noqa: E731
                listener.wait_for(lambda seen: any(result["clock"] == "rtcp" for result in results(seen)))
                agent.interrupt()
                assert agent.wait() == 0
                printed = agent.out + agent.err
            messages = list(listener.messages)
    (why,) = {m.data["reason"] for m in messages if m.topic.endswith("typo/status") and m.data["state"] == "lost"}
    assert why == "GStreamer videotestsr: no element \"videotestsr\", did you mean 'videotestsrc'?"
    for word in ("geheim", "Traceback", "CRITICAL"):
        assert word not in printed + str([message.payload for message in messages])
