"""Commands over real brokers: each acts, once, and nothing that comes in stops the agent."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from paho.mqtt.enums import MQTTProtocolVersion

from tests.support.asking import BASE, Asker, running
from tests.support.broker import Mosquitto, Subscriber

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
    told = agent.states("dock")
    assert told[told.index("disabled") + 1] == "connecting"
    counts = dock.counts()["uses"]["colours"]
    assert counts["waiting"] == 0
    assert counts["offered"] == sum(n for name, n in counts.items() if name != "offered")
