"""The parts of chaos: what lies between an agent and its camera, how cameras are reached, and how it is judged."""

from __future__ import annotations

import contextlib
import io
import json
import signal
import socket
import time
from threading import Event
from typing import Any

import pytest
import yaml
from rich.console import Console
from typer.testing import CliRunner

from agent.chaos import children, report
from agent.chaos.children import ChaosError
from agent.chaos.door import DOOR, open_door
from agent.chaos.faults import FAULTS, Outcome, Seen
from agent.chaos.film import Film
from agent.chaos.heard import Delivered, Heard
from agent.chaos.proxy import Proxy
from agent.chaos.stage import Patience, Stage
from agent.chaos.ways import STILL, Way, rewritten, watched, way_to
from agent.commands._app import app
from agent.config import loads
from agent.errors import ConfigError
from agent.sources import Intake
from agent.sources.network import Config as Network
from tests.support.agents import fake_model
from tests.support.clips import SMALL
from tests.support.patience import PATIENCE_S


def outcome(result: Any, **more: Any) -> Outcome:
    """A row."""
    said = {"fault": "camera-cut", "where": "dock", "expected": "back", "happened": "", "found_s": None, "back_s": 1.0}
    return Outcome(**{**said, **more}, result=result)


def test_what_goes_through_a_proxy_can_be_cut_held_and_mended() -> None:
    """Bytes pass; held, they come later; cut, the connection is reset and a new one refused; mended, all is well."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        proxy = Proxy("127.0.0.1", server.getsockname()[1])
        try:
            client = socket.create_connection(("127.0.0.1", proxy.port), 5)
            there, _ = server.accept()
            with client, there:
                client.settimeout(5)
                there.sendall(b"one")
                assert client.recv(3) == b"one"
                proxy.hold()
                there.sendall(b"two")
                client.settimeout(0.1)
                with pytest.raises(TimeoutError):
                    client.recv(3)
                client.settimeout(5)
                proxy.mend()
                assert client.recv(3) == b"two"
                proxy.cut()
                with contextlib.suppress(ConnectionResetError):
                    assert client.recv(1) == b""
                with pytest.raises(ConnectionRefusedError):
                    socket.create_connection(("127.0.0.1", proxy.port), 5)
                proxy.mend()
                socket.create_connection(("127.0.0.1", proxy.port), 5).close()
        finally:
            proxy.close()


def test_a_recording_is_a_live_camera_whose_picture_can_stand_still() -> None:
    """Our own source reads it; standing, every picture is the same; moving again, it is not."""
    film = Film(SMALL.path())
    try:
        with Network(url=film.url).open(Event(), Intake()) as pictures:
            size = next(pictures)[1].size
        number, jpeg = film.after(0) or (0, b"")
        number, after = film.after(number) or (0, b"")
        assert after != jpeg
        film.stand()
        film.after(number)  # may still be the one before
        standing = [film.after(number + ahead) for ahead in (1, 2, 3)]
        assert len({shown[1] for shown in standing if shown}) == 1
        film.move()
        last = standing[-1] or (0, b"")
        end_s = time.monotonic() + PATIENCE_S
        while (shown := film.after(last[0])) and shown[1] == last[1] and time.monotonic() < end_s:
            last = shown
        assert shown
        assert shown[1] != last[1]
    finally:
        film.close()
    assert size == SMALL.size


@pytest.mark.parametrize(
    ("source", "why_not"),
    [
        ("rtsp://cam:secret@10.0.0.7/stream1", None),
        ({"type": "snapshot", "url": "http://10.0.0.8/snap.jpg"}, None),
        ({"type": "gstreamer", "url": "rtsp://10.0.0.7/1"}, None),
        ({"type": "rtsp", "url": "rtsp://10.0.0.7/1", "transport": "udp"}, "UDP"),
        ("rtsps://10.0.0.7/1", "rtsps://"),
        ("/dev/video0", "on this machine"),
        ({"type": "synthetic"}, "on this machine"),
        ("videotestsrc ! fakesink", "on this machine"),
    ],
)
def test_what_cannot_be_cut_is_said_and_left_as_it_is(source: Any, why_not: str | None) -> None:
    """Where a proxy can stand it does, with the credentials kept; elsewhere the source is as it was."""
    config = {
        "agent": {"name": "test"},
        "models": {"people": fake_model("boxes")},
        "cameras": {"dock": {"source": source, "models": ["people"]}},
    }
    camera = loads(yaml.safe_dump(config), "test.yaml").cameras["dock"]
    with contextlib.ExitStack() as opened:
        way = way_to(camera, source, opened)
        assert (way.why_not is None) == (why_not is None)
        if why_not:
            assert why_not in (way.why_not or "")
            assert way.proxy is None
        else:
            assert way.proxy
            host = f"127.0.0.1:{way.proxy.port}"
            assert host in way.source["url"]
            if isinstance(source, str):
                assert way.source["url"] == f"rtsp://cam:secret@{host}/stream1"


def test_nothing_of_the_users_is_written_to_on_the_stage() -> None:
    """Broker, sinks, outbox, pictures, clips, commands and calibration of the file are not those of the stage."""
    document = {
        "agent": {"name": "gate"},
        "mqtt": {"url": "mqtts://broker"},
        "sinks": [{"type": "jsonl", "path": "mine.jsonl"}],
        "events": {"path": "mine.db"},
        "commands": {"allow": ["snapshot"]},
        "calibration": {"collect": {"folder": "mine"}},
        "models": {"people": {}},
        "cameras": {"dock": {"source": "x", "models": ["people"], "snapshots": {"folder": "mine"}, "clips": {}}},
    }
    said = rewritten(document, "mqtt://127.0.0.1:1", "5", "theirs.db", lambda _: Way("y"), 10)
    assert "mine" not in json.dumps(said)
    assert "broker" not in json.dumps(said)
    assert said["cameras"] == {"dock": {"source": "y", "models": ["people"]}}
    assert said["agent"] == {"name": "chaos"}


@pytest.mark.parametrize(
    ("blind", "watched_as"),
    [
        (None, {"frozen": STILL}),
        ("on", {"frozen": STILL}),
        ({"moved": "off", "frozen": "30s"}, {"moved": "off", "frozen": STILL}),
        ("off", None),
        ({"frozen": "off"}, None),
    ],
)
def test_a_picture_that_stands_still_is_watched_unless_the_user_does_not_want_it(
    blind: Any, watched_as: dict[str, Any] | None
) -> None:
    """The rest of what is said of blindness stays."""
    assert watched(blind) == watched_as


def test_events_that_a_subscriber_misses_are_found() -> None:
    """Numbers that never came are lost unless a gap says so; twice is no fault, out of order is."""
    delivered = Delivered()

    def come(seq: int, **more: Any) -> None:
        delivered.take({"event_seq": seq, "boot_id": "a", "camera": "dock", "kind": "zone", **more})

    for seq in (1, 2, 2, 5):
        come(seq)
    assert (delivered.missing, delivered.lost, delivered.again, delivered.faults) == (2, 2, 1, [])
    come(6, kind="gap", camera=None, data={"count": 2})
    assert (delivered.missing, delivered.lost) == (2, 0)
    come(4)
    assert delivered.faults == ["event 4 of dock came after 5"]


def test_a_result_is_judged_by_when_its_picture_was_taken() -> None:
    """One that arrives after a fault may show what was before it."""
    heard = Heard()
    since_s = time.monotonic()
    for age_ms in (5000.0, 0.0):
        line = {"schema": "sightwire.detections/1", "camera": "dock", "use": "people", "age_ms": age_ms}
        heard.line(json.dumps(line))
    heard.line("no JSON at all")
    found = heard.result_of("dock", since_s)
    assert found is not None
    assert found.age_ms == 0.0
    assert heard.oldest_ms(since_s) == {("dock", "people"): 5000.0}


def test_what_comes_too_late_or_never_does_not_hold() -> None:
    """Within the limit it holds; later it is said how late; never, how long was waited."""
    seen = Seen("dock")
    seen.found("lost", 10.0, 12.0, within_s=5)
    seen.back(20.0, 24.0, within_s=5)
    assert (seen.found_s, seen.back_s, seen.wrong) == (2.0, 4.0, [])
    seen.found("lost", 10.0, 16.5, within_s=5)
    seen.back(20.0, None, within_s=5)
    assert seen.wrong == ["found after 6.5 s", "not back within 15 s"]


def test_the_table_and_the_verdict_tell_held_from_not_and_from_not_possible() -> None:
    """What is not possible is no failure; that nothing at all was tried is one."""
    rows = [outcome("held"), outcome("not possible", happened="[no] plug", back_s=None)]
    assert report.held(rows)
    assert not report.held([*rows, outcome("not held")])
    assert not report.held(rows[1:])
    assert not report.held([])
    assert report.summary(rows) == "1 held, 1 not possible"
    console = Console(file=io.StringIO(), width=100)
    console.print(report.table(rows))
    drawn = console.file.getvalue()  # type: ignore[attr-defined]
    assert "[no] plug" in drawn
    assert "1.0 s" in drawn
    said = json.loads(report.as_json(rows))
    assert said["held"] is True
    assert said["faults"][1]["back_s"] is None


def test_the_list_names_every_fault_and_starts_nothing() -> None:
    """Each once, with what it does."""
    result = CliRunner().invoke(app, ["chaos", "--list"])
    assert result.exit_code == 0
    assert [line.split("  ")[0] for line in result.output.splitlines()] == [fault.name for fault in FAULTS]
    assert len({fault.name for fault in FAULTS}) == len(FAULTS)


def test_a_fault_that_does_not_exist_is_named_with_the_nearest() -> None:
    """A mistake in the call is exit status 2, before anything is started."""
    result = CliRunner().invoke(app, ["chaos", "--only", "camera-cutt"])
    assert result.exit_code == 2
    assert "did you mean 'camera-cut'?" in result.output


@pytest.mark.parametrize("value", ["77", "x", "-1", ""])
def test_a_door_that_is_none_is_not_opened(value: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """What names no socket of our parent's is a mistake that says who may set it."""
    monkeypatch.setenv(DOOR, value)
    with pytest.raises(ConfigError, match="unset it"):
        open_door()


@pytest.mark.parametrize(
    ("camera", "reason"), [(None, "no camera of this configuration is live"), ("x", "there is no camera 'x'")]
)
def test_a_stage_without_a_live_camera_or_the_wanted_one_is_not_set(camera: str | None, reason: str) -> None:
    """Pictures in a folder come to an end, and the agent with them; nothing has been started when that is said."""
    document = {
        "agent": {"name": "test"},
        "models": {"people": fake_model("boxes")},
        "cameras": {"inbox": {"source": {"type": "images" if camera is None else "synthetic"}, "models": ["people"]}},
    }
    if camera is None:
        document["cameras"]["inbox"]["source"]["path"] = "."  # type: ignore[index]
    settings = loads(yaml.safe_dump(document), "test.yaml")
    with Stage(settings, document, Patience(), lambda _: None) as stage, pytest.raises(ChaosError, match=reason):
        stage.set(camera)


def test_ctrl_c_while_an_agent_is_being_started_leaves_none_behind(tmp_path, monkeypatch):
    started = children._started

    def interrupted(_command: list[str], **more: Any) -> Any:
        process = started(["sleep", "60"], **more)
        signal.raise_signal(signal.SIGINT)
        return process

    monkeypatch.setattr(children, "_started", interrupted)
    agent = children.Agent(tmp_path / "site.yaml", tmp_path, lambda _line: None)
    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # who was begun in the background ignores it
    try:
        with pytest.raises(KeyboardInterrupt):
            agent.start()
        assert agent.running
    finally:
        signal.signal(signal.SIGINT, before)
        agent.end(5)
    assert not agent.running
