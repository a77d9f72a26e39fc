"""What tests of the MQTT sink say, and how they wait for it to be true."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from agent.messages import Payload
from agent.sinks import Message, mqtt
from tests.support.patience import PATIENCE_S

LIMIT_NS = 2_000_000_000


class Counted(Payload):
    """A message's content, as far as these tests care."""

    n: int
    at_ns: int = 0


def result(n: int, **fields: Any) -> Message:
    """A live result, good for two seconds."""
    now_ns = time.monotonic_ns()
    values: dict[str, Any] = {"born_ns": now_ns, "max_age_ns": LIMIT_NS, **fields}
    return Message("dock/people/detections", Counted(n=n, at_ns=now_ns), **values)


def status(n: int, topic: str = "status") -> Message:
    """What is retained, newest wins."""
    return Message(topic, Counted(n=n), retain=True)


FAREWELL = status(-1)
RESULTS = "sightwire/gate/dock/people/detections"
STATUS = "sightwire/gate/status"


@pytest.fixture
def opened() -> Iterator[Callable[..., mqtt.MqttSink]]:
    """Open sinks that are closed after the test."""
    sinks: list[mqtt.MqttSink] = []

    def open_sink(url: str, **settings: Any) -> mqtt.MqttSink:
        sinks.append(mqtt.Config(url=url, **settings).open("gate", FAREWELL))
        return sinks[-1]

    yield open_sink
    for sink in sinks:
        sink.close(1)


def reached(sink: mqtt.MqttSink, condition: Callable[[], Any], deadline_s: float = PATIENCE_S) -> None:
    """Wait until it is true; looked at when something happens to the sink, and now and then."""
    deadline = time.monotonic() + deadline_s
    with sink._changed:
        while not condition():
            left_s = deadline - time.monotonic()
            assert left_s > 0, f"not reached in time: {sink.state()}"
            sink._changed.wait(min(left_s, 0.05))
