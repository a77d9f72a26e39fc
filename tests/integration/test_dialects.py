"""Dialects over a real broker: what a subscriber of theirs sees of an agent."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from paho.mqtt.client import Client
from paho.mqtt.enums import CallbackAPIVersion

from agent.rules import Finding
from agent.sinks import Message, mqtt
from tests.support.broker import Mosquitto, Subscriber
from tests.support.patience import PATIENCE_S
from tests.support.publishing import reached
from tests.support.spoken import about, camera_status, counts, detections, numbered, status, watched
from tests.support.watching import Scripted

pytestmark = pytest.mark.timeout(60)


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[Mosquitto]:
    with Mosquitto(tmp_path) as one:
        yield one


def speaking(broker: Mosquitto, **settings: Any) -> mqtt.MqttSink:
    """A connected sink of the agent `gatehouse`."""
    sink = mqtt.Config.model_validate({"url": broker.url, **settings}).open("gatehouse", status("offline"))
    reached(sink, lambda: sink.state()["connected"])
    return sink


def measured(sink: mqtt.MqttSink, message: Message) -> None:
    """Send a live result, as soon as one may leave."""
    assert sink.ready(5)
    sink.send(message)


def live(message: Message) -> Message:
    """The same, taken just now."""
    return Message(message.topic, message.payload, born_ns=time.monotonic_ns(), max_age_ns=10**10)


def vanish(sink: mqtt.MqttSink) -> None:
    """As if the agent were killed: its connection ends without a goodbye."""
    client = sink._client
    assert client is not None
    sock = client.socket()
    assert sock is not None
    sock.shutdown(2)


def test_a_frigate_subscriber_sees_objects_counts_and_by_the_will_that_the_agent_is_gone(broker: Mosquitto) -> None:
    script = {0: [Finding("start", 1, 0)], 1: [Finding("update", 1, 0)], 2: [Finding("end", 1, None, "gone")]}
    events = numbered(watched(Scripted("gate", script), frames=3).events)
    answers: list[tuple[str, str | None]] = []
    answered = threading.Semaphore(0)

    def on_answer(*answer: Any) -> None:
        answers.append(answer)
        answered.release()

    with Subscriber(broker.observer_url, "frigate/#") as dashboard:
        sink = speaking(broker, dialect="frigate")
        try:
            sink.send(status())
            sink.send(counts(labels={"person": 1}, zones={"gate": {"person": 1}}))
            for event in events:
                sink.deliver(event, on_answer)
            assert all(answered.acquire(timeout=PATIENCE_S) for _ in events)
            changes = dashboard.wait_for(lambda all_: sum(m.topic == "frigate/events" for m in all_) == len(events))
            assert [m.data["type"] for m in changes if m.topic == "frigate/events"] == ["new", "update", "end"]
            assert answers == [("acknowledged", None)] * len(events)
            assert dashboard.wait_for_topic("frigate/gate/all").payload == b"1"
            assert dashboard.wait_for_topic("frigate/available").payload == b"online"
            with Subscriber(broker.observer_url, "frigate/#") as late:
                assert late.wait_for_topic("frigate/dock/person").payload == b"1"
                assert late.wait_for_topic("frigate/available").payload == b"online"
            vanish(sink)
            dashboard.wait_for(lambda all_: any(m.payload == b"offline" for m in all_))
            assert not [m for m in dashboard.messages if m.topic.startswith("sightwire")]
        finally:
            sink.close(2)


@pytest.mark.parametrize(
    ("dialect", "topic"),
    [
        ("vision_msgs", "vision_msgs/gatehouse/dock/people/detections"),
        ("deepstream", "deepstream/gatehouse/dock/people"),
        ({"type": "deepstream", "topic": "analytics"}, "analytics"),
    ],
)
def test_a_subscriber_to_detections_gets_each_frame_in_its_dialect(broker: Mosquitto, dialect: Any, topic: str) -> None:
    with Subscriber(broker.observer_url) as bridge:
        sink = speaking(broker, dialect=dialect)
        try:
            measured(sink, live(detections(3)))
            received = bridge.wait_for_topic(topic)
            assert len(received.data.get("detections") or received.data["objects"]) == 3
            assert received.properties.ContentType == "application/json"
        finally:
            sink.close(2)


def test_home_assistant_finds_the_agent_whenever_it_is_born_and_reads_the_agents_own_topics(broker: Mosquitto) -> None:
    config = "homeassistant/device/sightwire_gatehouse_Camera_dock/config"
    with Subscriber(broker.observer_url) as home:
        sink = speaking(broker, home_assistant=True)
        try:
            for message in (about(), status(), camera_status(), counts(labels={"person": 1})):
                sink.send(message)
            for entity in home.wait_for_topic(config).data["components"].values():
                if "state_topic" in entity:
                    home.wait_for_topic(entity["state_topic"])
            born = Client(CallbackAPIVersion.VERSION2)
            born.connect("127.0.0.1", broker.observer_port)
            born.loop_start()
            try:
                # Again and again: it may be born before the agent's subscription has arrived.
                for _ in range(50):
                    born.publish("homeassistant/status", "online", qos=1).wait_for_publish(5)
                    if _seen_again(home, config):
                        break
                assert _seen_again(home, config)
            finally:
                born.disconnect()
                born.loop_stop()
        finally:
            sink.close(2)


def _seen_again(home: Subscriber, topic: str) -> bool:
    try:
        home.wait_for(lambda all_: sum(m.topic == topic for m in all_) > 1, 0.2)
    except TimeoutError:
        return False
    return True
