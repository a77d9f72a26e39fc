"""Commands over real brokers: each acts, once, and nothing that comes in stops the agent."""

from __future__ import annotations

import contextlib
import json
import os
import pty
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import yaml
from click.testing import Result
from paho.mqtt.enums import MQTTProtocolVersion
from typer.testing import CliRunner

from agent.asking import Question
from agent.commands._app import app
from agent.sinks import mqtt
from tests.prove.commands import attack
from tests.support.agents import fake_model, fake_store
from tests.support.asking import ALL, BASE, CAMERAS, LIVE, Asker, running
from tests.support.broker import Mosquitto, Received, Subscriber
from tests.support.fake_broker import FakeBroker, Rules
from tests.support.process import ROOT, Sightwire

V311 = MQTTProtocolVersion.MQTTv311


@pytest.fixture(scope="module")
def broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Mosquitto]:
    with Mosquitto(tmp_path_factory.mktemp("broker")) as started:
        yield started


def test_a_disabled_camera_is_not_looked_at_until_it_is_enabled(tmp_path: Path, broker: Mosquitto) -> None:
    """Its connection is closed, status says so, and the other camera goes on."""
    with running(tmp_path, broker.url) as agent, Asker(broker.port) as asker:
        reply = asker.ask({"command": "disable"}, "dock")
        assert reply == {
            "schema": "sightwire.reply/1", "agent": "test", "id": None, "command": "disable", "camera": "dock",
            "ok": True, "error": None, "result": {"state": "disabled", "changed": True},
        }  # fmt: skip
        assert asker.ask({"command": "disable", "camera": "dock"})["result"] == {"state": "disabled", "changed": False}
        dock = agent.service.cameras["dock"]
        agent.seen(lambda _: agent.states("dock")[-1] == "disabled")
        gate = len([k for k in agent.sink.messages if k.topic.startswith("gate/colours")])
        agent.seen(lambda kept: len([k for k in kept if k.topic.startswith("gate/colours")]) > gate + 20)
        frames = dock.frames
        agent.seen(lambda kept: len([k for k in kept if k.topic.startswith("gate/colours")]) > gate + 40)
        assert dock.frames == frames
        assert asker.ask({"command": "enable"}, "dock")["result"]["changed"] is True
        agent.seen(lambda _: agent.states("dock")[-1] == "streaming" and dock.frames > frames)
    assert dock.counts()["reconnects"] == 1
    counts = dock.counts()["uses"]["colours"]
    assert counts["waiting"] == 0
    assert counts["offered"] == sum(n for name, n in counts.items() if name != "offered")


def test_a_threshold_holds_from_what_the_model_reports_on(tmp_path: Path, broker: Mosquitto) -> None:
    """Under that the model says nothing to anybody, and the reply says so."""
    boxes = fake_model("boxes") | {"threshold": 0.3}
    cameras = {"dock": {"source": LIVE, "models": ["boxes"]}}
    with running(tmp_path, broker.url, cameras, models={"boxes": boxes}) as agent, Asker(broker.port) as asker:
        lower = asker.ask({"command": "set_threshold", "use": "boxes", "value": 0.1}, "dock")
        assert lower["result"]["threshold"] == 0.3
        assert lower["result"]["higher"] == {"thing": 0.3}
        one = {"command": "set_threshold", "use": "boxes", "label": "thing", "value": 0.6}
        assert asker.ask(one, "dock")["result"] == {"use": "boxes", "label": "thing", "threshold": 0.6}
        assert agent.service.cameras["dock"].uses[0].thresholds.tolist() == [pytest.approx(0.6)]
        for wrong, code in (
            ({"use": "boxen", "value": 0.5}, "no_such_use"),
            ({"use": "boxes", "value": 0.5, "label": "thin"}, "no_such_label"),
            ({"use": "boxes", "value": 1.5}, "malformed"),
            ({"use": "boxes", "value": 0.5, "labl": "thing"}, "malformed"),
        ):
            assert asker.ask({"command": "set_threshold", **wrong}, "dock")["error"]["code"] == code
        assert agent.service.cameras["dock"].uses[0].thresholds.tolist() == [pytest.approx(0.6)]


def test_what_is_not_allowed_is_answered_so_and_does_nothing(tmp_path: Path, broker: Mosquitto) -> None:
    with running(tmp_path, broker.url, commands={"allow": ["enable"]}) as agent, Asker(broker.port) as asker:
        reply = asker.ask({"command": "disable", "id": "x"}, "dock")
        assert (reply["ok"], reply["id"], reply["error"]["code"]) == (False, "x", "not_allowed")
        assert "enable" in reply["error"]["message"]
        assert asker.ask({"command": "reload"})["error"]["code"] == "not_allowed"
        assert agent.service.cameras["dock"].enabled


def test_the_same_request_twice_acts_once_and_gets_the_same_answer(tmp_path: Path, broker: Mosquitto) -> None:
    """By correlation data where there is some, else by the id; two clients may use the same correlation data."""
    with running(tmp_path, broker.url) as agent, Asker(broker.port) as one, Asker(broker.port) as two:
        disable, enable = {"command": "disable", "camera": "dock"}, {"command": "enable", "camera": "dock"}
        first = one.ask(disable, correlation=b"1")
        assert first["result"]["changed"] is True
        assert two.ask(enable, correlation=b"1")["result"]["changed"] is True
        assert one.ask(disable, correlation=b"1") == first
        assert [correlation for correlation, _ in one.replies] == [b"1", b"1"]
        assert agent.service.cameras["dock"].enabled
        reused = one.ask(enable, correlation=b"1")
        assert reused["error"]["code"] == "id_reused"
        with_id = one.ask({**disable, "id": 7})
        assert one.ask({**enable, "id": "7"})["ok"]
        assert one.ask({**disable, "id": 7}) == with_id
        assert agent.service.cameras["dock"].enabled
        counts = agent.service.metrics().commands
        assert (counts["received"], counts["obeyed"], counts["repeated"], counts["refused"]) == (7, 4, 2, 1)


def test_plain_clients_ask_by_id_and_read_the_reply_topics(tmp_path: Path, broker: Mosquitto) -> None:
    with running(tmp_path, broker.url), Asker(broker.port, V311) as plain:
        reply = plain.ask({"command": "disable", "id": "a"}, "gate")
        assert (reply["id"], reply["camera"], reply["ok"]) == ("a", "gate", True)
        assert plain.ask({"command": "enable", "camera": "gate", "id": "b"})["ok"]
        assert plain.ask({"command": "enable"}, "no-such")["error"]["code"] == "no_such_camera"


def test_retained_and_late_commands_are_not_obeyed(tmp_path: Path, broker: Mosquitto) -> None:
    """Those that were retained before the agent came, and those that come so while it listens."""
    with Asker(broker.port) as asker:
        asker.send({"command": "disable"}, "dock", retain=True)
        try:
            with running(tmp_path, broker.url) as agent:
                asker.send({"command": "disable"}, "gate", retain=True)
                late = asker.ask({"command": "disable", "expires_at": "2020-01-01T00:00:00Z"}, "dock")
                assert late["error"]["code"] == "expired"
                assert agent.mqtt()["ignored_commands"]["retained"] == 2
                assert all(camera.enabled for camera in agent.service.cameras.values())
                assert len(asker.replies) == 1
        finally:
            asker.send(b"", "dock", retain=True)
            asker.send(b"", "gate", retain=True)


def test_nobody_has_the_agent_speak_on_topics_that_are_not_a_client_s(tmp_path: Path, broker: Mosquitto) -> None:
    """Such a command is answered where the agent answers by itself, and not obeyed."""
    ours = [
        f"{BASE}/status",
        f"{BASE}/command",
        f"{BASE}/dock/events",
        BASE,
        f"{BASE}/a/b/reply",
        f"{BASE}/status/reply",
    ]
    with running(tmp_path, broker.url) as agent, Asker(broker.port) as asker:
        with Subscriber(broker.observer_url, f"{BASE}/+/reply") as answers:
            for topic in [*ours, "sightwire/other/command", "sightwire/other/dock/command", "x" * 300, "$SYS/x"]:
                before = len(answers.messages)
                asker.send({"command": "disable"}, "dock", response=topic)
                reply = answers.wait_for(lambda seen, before=before: len(seen) > before)[-1].data
                assert reply["error"]["code"] == "malformed", topic
                assert "response topic" in reply["error"]["message"]
            asker.send({"command": "disable"}, "dock", response=f"{BASE}/dock/reply")
            assert answers.wait_for(lambda seen: seen[-1].data["ok"])
        assert not agent.service.cameras["dock"].enabled
        assert agent.mqtt()["connected"]


def test_whatever_comes_in_is_answered_or_dropped_and_the_agent_goes_on(tmp_path: Path, broker: Mosquitto) -> None:
    with running(tmp_path, broker.url) as agent, Asker(broker.port) as asker:
        for payload, code in (
            (b"", "malformed"),
            (b"\xff\xfe\x00", "malformed"),
            (b"[" * 10_000, "malformed"),
            (b'{"a":' * 2000, "malformed"),
            (b"9" * 10_000, "malformed"),
            (b"[]", "malformed"),
            (b"{}", "unknown_command"),
            (b'{"command": "shutdown"}', "unknown_command"),
            (b'{"command": {"command": "enable"}}', "unknown_command"),
            (b'{"command": "enable", "schema": "sightwire.reply/1"}', "malformed"),
            (b'{"command": "enable", "camera": "gate"}', "malformed"),
            (b'{"command": "reload"}', "malformed"),
            (b'{"command": "enable"}' + b" " * 20_000, "too_large"),
        ):
            assert asker.ask(payload, "dock")["error"]["code"] == code, payload[:30]
        count = len(asker.replies)
        asker.send(b"x" * 200_000, "dock")  # more than we let the broker send us
        assert asker.ask({"command": "enable"}, "dock")["ok"]
        assert len(asker.replies) == count + 1
        assert agent.mqtt()["reconnects"] == 0


def test_a_flood_of_commands_is_answered_busy_and_then_not_at_all(tmp_path: Path, broker: Mosquitto) -> None:
    commands = {"allow": ["enable"], "per_second": 1}
    with running(tmp_path, broker.url, commands=commands) as agent, Asker(broker.port) as asker:
        for _ in range(100):
            asker.send({"command": "enable"}, "dock")
        counts = agent.service.metrics().commands
        assert counts["received"] == sum(n for name, n in counts.items() if name != "received")
        assert counts["obeyed"] >= 5
        assert counts["busy"] >= 10
        assert counts["dropped"] > 50
        replies = asker.wait(counts["obeyed"] + counts["busy"])
        assert {r["error"]["code"] for _, r in replies if not r["ok"]} == {"busy"}


@pytest.mark.parametrize("version", [4, 5])
def test_a_broker_that_lets_nobody_hear_commands_is_reported(tmp_path: Path, version: int) -> None:
    """And its connection serves for everything else."""
    rules = Rules(versions=(version,), suback=0x87 if version == 5 else 0x80)
    with FakeBroker(rules) as deaf, running(tmp_path, deaf.url, hears=False) as agent:
        agent.seen(lambda kept: any(k.topic == "status" and "refused" in str(k.data["sinks"]) for k in kept))
        said = agent.mqtt()
        assert said["commands"].startswith("refused: ")
        assert said["connected"] is True


def test_commands_are_heard_again_after_the_broker_was_away(tmp_path: Path) -> None:
    with Mosquitto(tmp_path) as broker, running(tmp_path, broker.url) as agent:
        broker.kill()
        agent.seen(lambda kept: "not subscribed" in str([k.data["sinks"] for k in kept if k.topic == "status"][-1]))
        broker.restart()
        agent.seen(lambda kept: "heard" in str([k.data["sinks"] for k in kept if k.topic == "status"][-1]))
        with Asker(broker.port) as asker:
            assert asker.ask({"command": "disable"}, "dock")["ok"]


# -- sightwire run, sightwire ask


def site(folder: Path, broker: Mosquitto, **changes: Any) -> Path:
    """A configuration file that allows everything."""
    content = {
        "agent": {"name": "test"}, "mqtt": {"url": broker.url}, "models": {"colours": fake_model("classes")},
        "cameras": CAMERAS, "commands": {"allow": ALL}, "events": {"path": str(folder / "events.db")}, **changes,
    }  # fmt: skip
    path = folder / "site.yaml"
    path.write_text(yaml.safe_dump(content), encoding="utf-8")
    return path


def status(wanted: Callable[[dict[str, Any]], Any]) -> Callable[[list[Received]], Any]:
    return lambda seen: any(
        m.topic == f"{BASE}/status" and m.data["state"] == "online" and wanted(m.data) for m in seen
    )


def test_a_reload_begins_anew_with_the_file_and_refuses_a_wrong_one(tmp_path: Path, broker: Mosquitto) -> None:
    """By command and by SIGHUP, in one process; what was disabled stays so, and the same request acts once."""
    fakes = fake_store(tmp_path / "models").root
    config = site(tmp_path, broker)
    with Subscriber(broker.observer_url, f"{BASE}/#") as seen, Asker(broker.port) as asker:
        with Sightwire("run", config, models=fakes) as agent:
            seen.wait_for(status(lambda said: said["sinks"].get("mqtt", {}).get("commands") == "heard"))
            assert asker.ask({"command": "disable"}, "dock")["ok"]
            site(tmp_path, broker, cameras={"dock": {"source": LIVE, "modells": ["colours"]}})
            wrong = asker.ask({"command": "reload", "id": 1})
            assert wrong["error"]["code"] == "wrong_configuration"
            assert "did you mean 'models'?" in wrong["error"]["message"]
            agent.send(signal.SIGHUP)
            seen.wait_for(status(lambda said: said["reload"].get("state") == "refused"))
            site(tmp_path, broker, cameras={**CAMERAS, "yard": {"source": LIVE, "models": ["colours"]}})
            agent.send(signal.SIGHUP)
            seen.wait_for(status(lambda said: said["cameras"].get("yard") == "streaming"))
            seen.wait_for(status(lambda said: "yard" in said["cameras"] and said["cameras"]["dock"] == "disabled"))
            seen.wait_for(
                status(lambda said: "yard" in said["cameras"] and said["sinks"]["mqtt"].get("commands") == "heard")
            )
            assert asker.ask({"command": "reload", "id": 1}) == wrong
            assert agent.end() == 0
        assert "Traceback" not in agent.err
        assert agent.err.count("read again") == 1


def test_a_configuration_that_cannot_be_started_with_leaves_the_one_before(tmp_path: Path, broker: Mosquitto) -> None:
    """The file is right, but the model's has been altered: what only shows when it is opened."""
    fakes = fake_store(tmp_path / "models").root
    config = site(tmp_path, broker)
    more = {"colours": fake_model("classes"), "boxes": fake_model("boxes")}
    with Subscriber(broker.observer_url, f"{BASE}/#") as seen, Sightwire("run", config, models=fakes) as agent:
        seen.wait_for(status(lambda said: said["cameras"].get("dock") == "streaming"))
        site(tmp_path, broker, models=more, cameras={"new": {"source": LIVE, "models": ["boxes", "colours"]}})
        (fakes / "boxes" / "model.onnx").write_bytes(b"altered")
        agent.send(signal.SIGHUP)
        seen.wait_for(status(lambda said: said["reload"].get("state") == "failed"))
        seen.wait_for(lambda them: status(lambda said: said["cameras"].get("dock") == "streaming")(them[-30:]))
        assert agent.end() == 0
    assert "cannot be started with, going on with the one before" in agent.err
    assert "Traceback" not in agent.err


def ask(*arguments: str) -> Result:
    before = signal.getsignal(signal.SIGINT)
    try:
        return CliRunner().invoke(app, ["ask", *arguments])
    finally:
        signal.signal(signal.SIGINT, before)


@pytest.mark.parametrize("protocol", ["5", "3.1.1"])
def test_ask_prints_the_answer(tmp_path: Path, broker: Mosquitto, protocol: str) -> None:
    with running(tmp_path, broker.url) as agent:
        asked = Question(mqtt.Config(url=broker.url, protocol=protocol), "test", "dock", {"command": "disable"})
        reply = asked.wait(5, threading.Event())
        assert reply is not None, asked.trouble
        assert reply["ok"]
        if protocol == "3.1.1":
            return
        done = ask(broker.url, "test/dock", "set_threshold", "use=colours", "value=0.6")
        assert done.exit_code == 0
        assert json.loads(done.stdout)["result"]["threshold"] == 0.6
        wrong = ask(broker.url, "test", "enable", "camera=dok")
        assert wrong.exit_code == 1
        assert json.loads(wrong.stdout)["error"]["message"] == "no camera is called 'dok'; did you mean 'dock'?"
        assert not agent.service.cameras["dock"].enabled
    unheard = ask(broker.url, "test/dock", "enable")
    assert unheard.exit_code == 1
    assert "nobody listens at sightwire/test/dock/command" in unheard.stderr
    assert ask(broker.url, "test/+", "enable").exit_code == 2
    assert ask(broker.url, "test", "enable", "camera").exit_code == 2


def test_500_commands_most_of_them_wrong_do_what_a_model_says(tmp_path: Path) -> None:
    """The short form of `scripts/prove commands`: none acts twice or wrongly, none stops the agent."""
    outcomes, _ = attack(500, tmp_path)
    assert sum(outcomes.values()) == 500
    assert outcomes["obeyed"] > 30
    assert outcomes["repeated"] > 5


def test_a_snapshot_is_published_where_the_configuration_lets_it_and_masked(tmp_path: Path, broker: Mosquitto) -> None:
    everything = [[[0, 0], [1, 0], [1, 1], [0, 1]]]
    keeps = {"folder": str(tmp_path / "pictures")}
    dock, gate = (dict(CAMERAS[name]) for name in ("dock", "gate"))
    cameras = {
        "dock": {**dock, "masks": everything, "snapshots": {**keeps, "publish": True}},
        "gate": {**gate, "snapshots": keeps},
    }
    with (
        Subscriber(broker.observer_url, f"{BASE}/+/snapshot") as pictures,
        running(tmp_path, broker.url, cameras),
        Asker(broker.port) as asker,
    ):
        assert asker.ask({"command": "snapshot"}, "gate")["error"]["code"] == "not_configured"
        reply = asker.ask({"command": "snapshot"}, "dock")
        assert reply["ok"], reply
        picture = pictures.wait_for_topic(f"{BASE}/dock/snapshot")
        assert picture.properties.ContentType == "image/jpeg"
        pixels = cv2.imdecode(np.frombuffer(picture.payload, np.uint8), cv2.IMREAD_COLOR)
        assert pixels.max() < 8
        assert asker.ask({"command": "disable"}, "dock")["ok"]
        assert asker.ask({"command": "snapshot"}, "dock")["error"]["code"] == "no_picture"
        assert [m.topic for m in pictures.messages] == [f"{BASE}/dock/snapshot"]


def test_an_agent_whose_terminal_is_closed_ends(tmp_path: Path, broker: Mosquitto) -> None:
    """SIGHUP means that too; nobody would be there to stop it."""
    fakes = fake_store(tmp_path / "models").root
    config = site(tmp_path, broker)
    with Subscriber(broker.observer_url, f"{BASE}/#") as seen:
        child, terminal = pty.fork()
        if child == 0:
            os.execve(
                sys.executable,
                [sys.executable, "-m", "agent", "run", str(config)],
                {**os.environ, "PYTHONPATH": str(ROOT), "SIGHTWIRE_MODELS": str(fakes)},
            )
        try:
            seen.wait_for(status(lambda said: said["cameras"].get("dock") == "streaming"))
            os.close(terminal)
            seen.wait_for(lambda them: them[-1].topic == f"{BASE}/status" and them[-1].data["state"] == "offline")
            assert os.waitpid(child, 0)[1] == 0
        finally:
            with contextlib.suppress(ChildProcessError, ProcessLookupError):
                os.kill(child, signal.SIGKILL)
                os.waitpid(child, 0)
