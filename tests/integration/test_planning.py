"""`bench --plan`, and the stand-ins that it runs."""

from __future__ import annotations

import itertools
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import yaml
from typer.testing import CliRunner

from agent.commands._app import app
from agent.planning import plan
from agent.replayed import Replayed, _spend, record
from agent.sources import Intake, Pictures, SourceConfig
from agent.sources.network import Config as Network
from agent.sources.synthetic import Config as Synthetic
from tests.support.agents import fake_model, fake_store, settings_of
from tests.support.clips import SMALL
from tests.support.rtsp import RtspServer


def test_a_plan_runs_more_and_more_cameras_until_they_do_not_fit(tmp_path: Path) -> None:
    camera = {"source": {"type": "synthetic", "rate": 40, "width": 320, "height": 64}, "models": ["colours"]}
    slow = fake_model("classes", delay_ms=20, depth=1)  # 50 a second: one camera, and a quarter of another
    told: list[str] = []
    settings = settings_of(models={"colours": slow}, cameras={"dock": camera})
    found = plan(settings, fake_store(tmp_path), 0.5, most=2, told=told.append)
    assert found.fits <= 1
    assert not found.rows[-1].fits
    assert found.rows[-1].results <= 60 / found.rows[-1].cameras
    assert found.limit is not None
    assert told[0] == "looking at dock"
    assert found.cameras["dock"]["size"] == "320x64"
    assert '"sentence"' in found.to_json()


def test_the_command_prints_a_row_for_each_run_and_the_answer_last(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setenv("SIGHTWIRE_MODELS", str(fake_store(tmp_path / "models").root))
    camera = {"source": {"type": "synthetic", "rate": 20}, "models": ["colours"]}
    document = {"agent": {"name": "x"}, "models": {"colours": fake_model("classes")}, "cameras": {"dock": camera}}
    # A plan publishes to a broker of its own unless one is named: this one is not there.
    path = tmp_path / "site.yaml"
    path.write_text(yaml.safe_dump(document | {"mqtt": {"url": "mqtt://127.0.0.1:1"}}))
    arguments = ["bench", str(path), "--plan", "--cameras", "1", "--rate", "30", "--seconds", "0.5"]
    ended = CliRunner().invoke(app, arguments)
    assert ended.exit_code == 0, ended.output
    assert "640x360 at 30 frames/s" in ended.stdout.splitlines()[-1]
    assert "results/s" in ended.stdout
    wrong = CliRunner().invoke(app, ["bench", str(path), "--rate", "30"])
    assert (wrong.exit_code, wrong.stdout) == (78, "")
    assert "--rate and --age: only with --plan" in wrong.stderr


def test_a_network_cameras_stand_ins_decode_its_own_packets_at_the_rate_that_is_asked_for(tmp_path: Path) -> None:
    with RtspServer(SMALL) as server:
        kept = record(Network(url=server.urls[0]), 1.0, tmp_path)
    assert (kept.rate, kept.size, kept.codec, kept.said) == (30.0, SMALL.size, "h264", "decoded")
    assert 0 < kept.held_s < 0.5, "FFmpeg's parser holds a picture until the next one begins"
    with Replayed(recorded=kept, rate=100, copy_number=1).open(threading.Event(), Intake()) as pictures:
        begun = time.monotonic()
        seen = list(itertools.islice(pictures, 100))  # more than were recorded
    assert time.monotonic() - begun >= 0.98
    # Pictures are as old as if they had come when they were due, unless this machine was half a second behind.
    steps = {b[0].monotonic_ns - a[0].monotonic_ns for a, b in itertools.pairwise(seen)}
    assert steps - {step for step in steps if step > 500_000_000} == {10_000_000}
    assert all(image.size == SMALL.size for _, image in seen)


def test_stand_ins_end_when_they_are_asked_to(tmp_path: Path) -> None:
    stop = threading.Event()
    kept = record(Synthetic(rate=10), 1.0, tmp_path)
    with Replayed(recorded=kept, rate=0.1, copy_number=0).open(stop, Intake()) as pictures:
        next(pictures)
        stop.set()
        assert list(pictures) == []


class Demanding(SourceConfig):
    """A camera without packets, of which each picture takes a hundredth of a second of CPU time."""

    @property
    def label(self) -> str:
        return "demanding"

    @contextmanager
    def open(self, stop: threading.Event, intake: Intake) -> Iterator[Pictures]:
        def decoded(pictures: Pictures) -> Pictures:
            for picture in pictures:
                _spend(0.01)
                yield picture

        with Synthetic(rate=20, width=320, height=64).open(stop, intake) as pictures:
            yield decoded(pictures)


def test_stand_ins_take_the_cpu_time_that_reading_their_camera_takes(tmp_path: Path) -> None:
    kept = record(Demanding(), 0.5, tmp_path)
    assert kept.said == "kept as pictures"
    assert 0.005 < kept.reading_s < 0.05
    with Replayed(recorded=kept, rate=1000, copy_number=0).open(threading.Event(), Intake()) as pictures:
        before_s = time.thread_time()
        assert len(list(itertools.islice(pictures, 20))) == 20
        assert time.thread_time() - before_s >= 20 * kept.reading_s
