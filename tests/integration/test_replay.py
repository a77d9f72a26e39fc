"""`sightwire replay`: a recording through a camera's rules, again and again."""

from __future__ import annotations

import json
import os
import shutil
import signal
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from typer.testing import CliRunner

from agent.commands._app import app
from agent.config import load
from agent.replay.replaying import Replay
from engines.store import ModelStore
from tests.support.agents import fake_model, fake_store
from tests.support.blobs import MODEL, USE, add_blobs
from tests.support.films import film
from tests.support.process import sightwire

GATE = {
    "polygon": [[0.3, 0.3], [0.6, 0.3], [0.6, 1], [0.3, 1]],
    "events": ["enter", "leave", "dwell>800ms"],
    "enter_after": 0,
}
PLACES = {
    "track": {"use": "blobs"},
    "zones": {"gate": GATE},
    "lines": {"door": {"points": [[0.5, 1], [0.5, 0]], "after": 0}},
    "rules": {"light": {"type": "changed", "use": "colours", "hold": "300ms", "score": 0.1, "lead": 0}},
}


def site(folder: Path, **more: Any) -> Path:
    """A camera that is far away, a broker that is not there, and another camera whose model nobody has."""
    dock = {"source": "rtsp://camera.invalid/live", "models": [USE, {"use": "colours", "every": "200ms"}], **PLACES}
    document = {
        "agent": {"name": "test"},
        "mqtt": {"url": "mqtt://broker.invalid", "password": "credential:mqtt", "username": "x"},
        "sinks": [{"type": "jsonl", "path": str(folder / "results.jsonl")}],
        "events": {"path": str(folder / "events.db")},
        "models": {"blobs": MODEL, "colours": fake_model("classes"), "nobodys": {"model": "nobodys"}},
        "cameras": {
            "dock": {**dock, **more},
            "plain": {"source": "x.mp4", "models": ["blobs"]},
            "far": {"source": "x.mp4", "models": ["nobodys"], "rules": {"any": {"type": "presence", "use": "nobodys"}}},
        },
        "calibration": {"collect": {"folder": str(folder / "collected")}},
    }
    (folder / "site.yaml").write_text(yaml.safe_dump(document))
    return folder / "site.yaml"


@pytest.fixture(scope="module")
def recording(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The block passes from the left to the right in four seconds, and again."""
    places = [(-0.1 + n % 40 / 40 * 1.2, 0.6) for n in range(80)]
    return film(tmp_path_factory.mktemp("film") / "film.avi", places)


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder with a configuration, models around it; the command leaves signals and the log alone."""
    add_blobs(fake_store(tmp_path / "models").root)
    monkeypatch.setenv("SIGHTWIRE_MODELS", str(tmp_path / "models"))
    monkeypatch.setattr("agent.log.configure", lambda _: None)
    before = [(number, signal.getsignal(number)) for number in (signal.SIGINT, signal.SIGTERM)]
    site(tmp_path)
    yield tmp_path
    for number, handler in before:
        signal.signal(number, handler)


def replay(folder: Path, recording: str | Path, *arguments: str | Path, camera: str | None = "dock") -> Any:
    """Exit status, standard output, standard error."""
    which = ("--camera", camera) if camera else ()
    words = map(str, ("replay", recording, "--config", folder / "site.yaml", *which, *arguments))
    done = CliRunner().invoke(app, [*words], catch_exceptions=False)
    return done.exit_code, done.stdout, done.stderr


def test_the_events_of_a_recording_are_printed_a_line_each_and_nothing_goes_anywhere(
    here: Path, recording: Path
) -> None:
    status, out, err = replay(here, recording)
    assert (status, err) == (0, "")
    events = [json.loads(line) for line in out.splitlines()]
    assert [(e["rule"], e["phase"], e["incident"], e.get("reason")) for e in events] == [
        ("light", "moment", 1, None),
        ("gate", "start", 2, None),
        ("door", "moment", 3, None),
        ("gate", "update", 2, None),
        ("gate", "end", 2, "left"),
        ("gate", "start", 4, None),
        ("door", "moment", 5, None),
        ("gate", "update", 4, None),
        ("gate", "end", 4, "left"),
    ]
    light, start, door, dwell, *_ = events
    assert light["at_s"] == 0.4
    assert (start["at_s"], start["started_s"], start["seq"]) == (1.4, 1.4, 14)
    assert 1.4 < door["at_s"] < dwell["at_s"] < 3
    assert start["first_seen_s"] < 1
    assert {"id", "boot_id", "event_seq", "captured_at", "agent", "path"}.isdisjoint(start)
    assert sorted(path.name for path in here.iterdir()) == ["models", "site.yaml"]


def test_a_copy_of_another_day_gives_another_process_the_same_bytes(here: Path, recording: Path) -> None:
    copy = here / "copy.avi"
    shutil.copy(recording, copy)
    os.utime(copy, (1e9, 1e9))
    words = ("replay", copy, "--config", here / "site.yaml", "--camera", "dock")
    assert sightwire(*words, models=here / "models") == replay(here, recording)


def test_against_its_own_baseline_a_recording_is_the_same(here: Path, recording: Path) -> None:
    base = here / "base.jsonl"
    status, out, _ = replay(here, recording, "--against", base, "--update")
    assert (status, out) == (0, f"{base}: 9 events written\n")
    assert replay(here, recording, "--against", base) == (0, "9 events, no difference\n", "")


def test_what_differs_is_told_with_its_times_and_exit_status_1(here: Path, recording: Path) -> None:
    base, out_file = here / "base.jsonl", here / "now.jsonl"
    replay(here, recording, "--out", base)
    zone = {**GATE, "polygon": [[0.4, 0.3], [0.7, 0.3], [0.7, 1], [0.4, 1]], "events": ["enter", "leave", "count>0"]}
    site(here, zones={"gate": zone})
    status, out, _ = replay(here, recording, "--against", base, "--out", out_file)
    *differs, summary = out.splitlines()
    assert status == 1
    assert differs[0] == "new      0:01.700  gate count>0 start block"
    assert "missing  0:02.300  gate dwell>800ms update block" in differs
    assert summary.endswith("events now")
    assert {line.split()[0] for line in differs} == {"new", "missing"}
    assert replay(here, recording, "--against", out_file)[0] == 0
    assert replay(here, recording, "--against", base, "--within", "0.1s")[1].count("moved    0:01.400 -> 0:01.700") == 1
    status, out, _ = replay(here, recording, "--against", base, "--update")
    assert (status, out.splitlines()[-1].partition(": ")[2]) == (0, "11 events written")


def test_a_recording_without_events_is_no_difference_from_none(here: Path, tmp_path: Path) -> None:
    empty = film(tmp_path / "empty.avi", [None] * 5)
    site(here, rules={}, models=[USE])
    assert replay(here, empty) == (0, "", "")
    (here / "none.jsonl").touch()
    assert replay(here, empty, "--against", here / "none.jsonl") == (0, "0 events, no difference\n", "")


@pytest.mark.parametrize(
    ("arguments", "status", "expected"),
    [
        (("no.avi",), 2, "no.avi: no such file"),
        (("site.yaml",), 2, "site.yaml: cannot be opened: Invalid data"),
        (("rtsp://camera.invalid/live",), 2, "not a recording: a video file or a folder of pictures is replayed"),
        (("gopher://x",), 2, "gopher://x: unknown kind of URL"),
        (("models",), 2, "models: has no file that ends like an image"),
        (
            ("film.avi", "--against", "no.jsonl"),
            2,
            "no.jsonl: cannot be read: No such file or directory; --update writes",
        ),
        (("film.avi", "--against", "site.yaml"), 2, "site.yaml:1: not a JSON object"),
        (("film.avi", "--update"), 2, "--update: which file? Give it with --against"),
        (("film.avi", "--within", "soon"), 2, "--within: expected a duration such as 500ms"),
        (("film.avi", "--out", "no/folder.jsonl"), 2, "folder.jsonl: cannot be written: not a file in a folder"),
        (("film.avi", "--camera", "dok"), 78, "no camera 'dok' in the configuration; it has dock, far, plain"),
        (("film.avi", "--camera", "plain"), 78, ": cameras.plain: no zones, lines or rules: it has no events"),
        (("film.avi", "--camera", "far"), 78, ": models.nobodys: there is no model 'nobodys'; known: "),
        (("film.avi", "--config", "no.yaml"), 78, "no.yaml: cannot be read: No such file or directory"),
    ],
)
def test_a_mistake_is_one_line(
    here: Path, recording: Path, monkeypatch: pytest.MonkeyPatch, arguments: tuple[str, ...], status: int, expected: str
) -> None:
    monkeypatch.chdir(here)
    (here / "film.avi").symlink_to(recording)
    camera = () if "--camera" in arguments else ("--camera", "dock")
    config = () if "--config" in arguments else ("--config", "site.yaml")
    done = CliRunner().invoke(app, ["replay", *arguments, *camera, *config], catch_exceptions=False)
    assert (done.exit_code, done.stdout) == (status, "")
    (line,) = done.stderr.splitlines()
    assert line.startswith("sightwire: ")
    assert expected in line


def test_which_camera_must_be_said_where_there_are_several(here: Path, recording: Path) -> None:
    status, _, err = replay(here, recording, camera=None)
    assert (status, err) == (78, "sightwire: which camera is it? --camera dock or far or plain\n")


def test_pictures_that_an_engine_fails_at_are_not_compared(here: Path, recording: Path) -> None:
    document = yaml.safe_load((here / "site.yaml").read_text())
    document["models"]["colours"] = fake_model("classes", fail_every=5)
    (here / "site.yaml").write_text(yaml.safe_dump(document))
    status, out, err = replay(here, recording)
    assert (status, out) == (2, "")
    assert err.startswith("sightwire: colours: failed at 8 of 80 pictures")


def test_a_recording_that_is_cut_short_says_so_and_gives_what_it_has(here: Path, recording: Path) -> None:
    whole = recording.read_bytes()
    (here / "short.avi").write_bytes(whole[: len(whole) // 2])
    status, out, _ = replay(here, here / "short.avi")
    assert status == 0
    assert 0 < len(out.splitlines()) < 9


def test_ctrl_c_ends_it_without_a_traceback_and_without_events(
    here: Path, recording: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(stop: threading.Event, done: int) -> None:
        if done > 20:
            signal.raise_signal(signal.SIGINT)
        assert not stop.is_set() or done > 20

    wait = Replay._wait
    monkeypatch.setattr(
        Replay, "_wait", lambda self, stop, _: wait(self, stop, lambda done, _: interrupted(stop, done))
    )
    document = yaml.safe_load((here / "site.yaml").read_text())
    document["models"]["colours"] = fake_model("classes", delay_ms=50)
    (here / "site.yaml").write_text(yaml.safe_dump(document))
    status, out, err = replay(here, recording, "--out", here / "out.jsonl")
    assert (status, out, err) == (130, "", "sightwire: interrupted\n")
    assert not (here / "out.jsonl").exists()


def test_progress_counts_every_frame(here: Path, recording: Path) -> None:
    told: list[tuple[int, int | None]] = []
    replayed = Replay(load(here / "site.yaml"), "dock", str(recording), ModelStore(here / "models"))
    replayed.run(threading.Event(), lambda done, total: told.append((done, total)))
    assert {total for _, total in told} == {80}
    assert [done for done, _ in told] == sorted(done for done, _ in told)
    assert (replayed.frames, replayed.unreadable) == (80, 0)
