"""A client that asks an agent over a real broker, in protocol 5 or 3.1.1, and an agent that runs in this process."""

from __future__ import annotations

import contextlib
import json
import secrets
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from paho.mqtt.client import Client, MQTTMessage
from paho.mqtt.enums import CallbackAPIVersion, MQTTProtocolVersion
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties

from agent.service import Service
from agent.sinks.memory import MemorySink
from tests.support.agents import fake_model, fake_store, settings_of
from tests.support.patience import PATIENCE_S

BASE = "sightwire/test"
LIVE = {"type": "synthetic", "rate": 100}
CAMERAS = {
    name: {"source": {"type": "synthetic", "rate": rate}, "models": ["colours"]}
    for name, rate in (("dock", 100), ("gate", 90))  # equal sources would share a connection
}
ALL = ["snapshot", "enable", "disable", "set_threshold", "reload"]


class Asker:
    """Connected and subscribed to its response topic when the constructor returns."""

    def __init__(
        self, port: int, version: MQTTProtocolVersion = MQTTProtocolVersion.MQTTv5, *, every: bool = False
    ) -> None:
        """`every`: hear what the agent answers to anybody."""
        self.v5 = version == MQTTProtocolVersion.MQTTv5
        self.answers_to = f"clients/{secrets.token_hex(4)}" if self.v5 else f"{BASE}/+/reply"
        self.replies: list[tuple[bytes | None, dict[str, Any]]] = []
        self._changed = threading.Condition()
        subscribed = threading.Event()
        self._client = Client(CallbackAPIVersion.VERSION2, protocol=version)
        self._client.max_queued_messages_set(0)
        ours, plain = [(self.answers_to, 1)], [(f"{BASE}/reply", 1), (f"{BASE}/+/reply", 1)]
        topics = [("clients/#", 1), *plain] if every else ours if self.v5 else plain
        self._client.on_connect = lambda client, *_: [client.subscribe(topic, qos) for topic, qos in topics]
        self._client.on_subscribe = lambda *_: subscribed.set()
        self._client.on_message = self._on_message
        self._client.connect("127.0.0.1", port)
        self._client.loop_start()
        assert subscribed.wait(PATIENCE_S)

    def _on_message(self, _client: Client, _userdata: object, message: MQTTMessage) -> None:
        correlation = getattr(getattr(message, "properties", None), "CorrelationData", None)
        with self._changed:
            self.replies.append((correlation, json.loads(message.payload)))
            self._changed.notify_all()

    def send(
        self,
        command: dict[str, Any] | bytes,
        camera: str | None = None,
        *,
        correlation: bytes | None = None,
        response: str | None = "",
        retain: bool = False,
        expiry_s: int | None = None,
        wait: bool = True,
    ) -> None:
        """Publish a command with QoS 1 and, unless told not to, wait for the broker to have it.

        `response`: the topic for answers; "": our own, None: none is given.
        """
        about = None
        if self.v5:
            about = Properties(PacketTypes.PUBLISH)
            if response is not None:
                about.ResponseTopic = response or self.answers_to
            if correlation is not None:
                about.CorrelationData = correlation
            if expiry_s is not None:
                about.MessageExpiryInterval = expiry_s
        payload = command if isinstance(command, bytes) else json.dumps(command).encode()
        topic = f"{BASE}/{camera}/command" if camera else f"{BASE}/command"
        sent = self._client.publish(topic, payload, 1, retain, about)
        if wait:
            sent.wait_for_publish(5)

    def ask(self, command: dict[str, Any] | bytes, camera: str | None = None, **more: Any) -> dict[str, Any]:
        """Send a command; the next reply that comes."""
        before = len(self.replies)
        self.send(command, camera, **more)
        return self.wait(before + 1)[-1][1]

    def wait(self, count: int, deadline_s: float = PATIENCE_S) -> list[tuple[bytes | None, dict[str, Any]]]:
        """All replies, once there are so many."""
        with self._changed:
            assert self._changed.wait_for(lambda: len(self.replies) >= count, deadline_s), self.replies
            return list(self.replies)

    def close(self) -> None:
        """Disconnect and end the thread."""
        self._client.disconnect()
        self._client.loop_stop()

    def __enter__(self) -> Asker:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class Running:
    """A service with fake engines and a memory sink beside its broker."""

    def __init__(self, service: Service, sink: MemorySink) -> None:
        self.service, self.sink = service, sink

    def seen(self, wanted: Callable[[list[Any]], Any], deadline_s: float = PATIENCE_S) -> None:
        """Until that was published."""
        assert self.sink.wait_for(wanted, deadline_s)

    def states(self, camera: str) -> list[str]:
        """What its status said, in order."""
        return [kept.data["state"] for kept in self.sink.messages if kept.topic == f"{camera}/status"]

    def mqtt(self) -> dict[str, Any]:
        """What the MQTT sink says of itself."""
        return self.service.metrics().sinks["mqtt"]


@contextlib.contextmanager
def running(
    folder: Path, url: str, cameras: dict[str, Any] | None = None, *, hears: bool = True, **sections: Any
) -> Iterator[Running]:
    """An agent `test` with the cameras `dock` and `gate`, that hears commands when the block begins."""
    whole = {
        "mqtt": {"url": url},
        "models": {"colours": fake_model("classes")},
        "cameras": cameras or CAMERAS,
        "commands": {"allow": ALL, "per_second": 1000},
        "events": {"path": str(folder / "events.db")},
        **sections,
    }
    more = {name: whole.pop(name) for name in ("reload", "standing") if name in whole}
    sink = MemorySink()
    service = Service(settings_of(**whole), fake_store(folder / "models"), [sink], **more)
    stop = threading.Event()
    thread = threading.Thread(target=service.run, args=(stop,))
    thread.start()
    agent = Running(service, sink)
    try:
        agent.seen(lambda kept: any(k.topic.startswith("dock/") and k.topic != "dock/status" for k in kept))
        agent.seen(lambda _: not hears or any(_hears(k.data) for k in sink.messages if k.topic == "status"))
        yield agent
    finally:
        stop.set()
        thread.join(PATIENCE_S)


def _hears(status: dict[str, Any]) -> bool:
    return status["sinks"].get("mqtt", {}).get("commands") == "heard"
