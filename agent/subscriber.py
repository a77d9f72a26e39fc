"""The other side: listens to what a broker says of agents, for `watch` and `bench`."""

from __future__ import annotations

import contextlib
import os
import queue
import time
from collections.abc import Iterator
from dataclasses import dataclass

from paho.mqtt.client import Client, MQTTMessage

from agent.sinks._client import BrokerClient
from agent.sinks._link import Accepted, Link
from agent.sinks.mqtt import Config

BACKLOG = 10_000


@dataclass(frozen=True)
class Heard:
    """One message from the broker."""

    topic: str
    payload: bytes
    arrived_ns: int
    """`time.monotonic_ns`."""
    retain: bool = False


class Listener:
    """Subscribes, at every connect again, and keeps what arrives until it is taken; the newest if too much does."""

    def __init__(self, config: Config, topic: str, client_id: str | None = None) -> None:
        """`client_id`: one of its own unless given; never the agent's, whose connection the broker would end."""
        name = f"sightwire-watch-{os.getpid()}-{time.monotonic_ns() % 10**6}" if client_id is None else client_id
        self.link = Link(config.endpoint(), name, self)
        self.was_up = False
        self._topic = topic
        self._heard: queue.Queue[Heard] = queue.Queue(BACKLOG)

    def heard(self, timeout_s: float) -> Iterator[Heard]:
        """All that is there, after waiting for the first at most so long."""
        with contextlib.suppress(queue.Empty):
            yield self._heard.get(timeout=timeout_s)
            while True:
                yield self._heard.get_nowait()

    def prepare(self, client: BrokerClient) -> None:
        """Take messages."""
        client.on_message = self._on_message

    def up(self, client: BrokerClient, accepted: Accepted) -> None:  # noqa: ARG002 - the same in both
        """Subscribe."""
        self.was_up = True
        client.subscribe(self._topic)

    def tick(self, client: BrokerClient) -> str | None:  # noqa: ARG002 - keepalive is enough for a listener
        """Nothing to do."""
        return None

    def down(self) -> None:
        """Nothing is lost."""

    def _on_message(self, _client: Client, _userdata: object, message: MQTTMessage) -> None:
        heard = Heard(message.topic, bytes(message.payload), time.monotonic_ns(), message.retain)
        try:
            self._heard.put_nowait(heard)
        except queue.Full:
            with contextlib.suppress(queue.Empty):
                self._heard.get_nowait()
