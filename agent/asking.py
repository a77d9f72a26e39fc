"""The other side of commands: sends one to an agent, and waits for what it answers."""

from __future__ import annotations

import json
import os
import secrets
import threading
import time
from typing import Any

from paho.mqtt.client import Client, MQTTMessage
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties
from paho.mqtt.reasoncodes import ReasonCode
from pydantic import TypeAdapter, ValidationError

from agent.errors import ConfigError
from agent.sinks._client import BrokerClient
from agent.sinks._link import Accepted, Link
from agent.sinks.mqtt import Config
from agent.values import Name

_NAME: TypeAdapter[str] = TypeAdapter(Name)
NOBODY = 0x10
"""PUBACK of MQTT 5: no matching subscribers."""


class Question:
    """One command on its way. Sent anew over each connection, with the same id: it acts once."""

    def __init__(self, config: Config, agent: str, camera: str | None, command: dict[str, Any]) -> None:
        """`command`: its payload, without an id. Begins to connect at once. Raises ConfigError for what is no name."""
        for name in filter(None, (agent, camera)):
            try:
                _NAME.validate_python(name)
            except ValidationError:
                raise ConfigError(f"{name!r} is no name of an agent or camera") from None
        base = f"{config.prefix}/{agent}"
        self._id = secrets.token_hex(8)
        self._topic = f"{base}/{camera}/command" if camera else f"{base}/command"
        self._plain_answers = f"{base}/{camera}/reply" if camera else f"{base}/reply"
        self._own_answers = f"{config.prefix}/replies/{self._id}"
        self._payload = json.dumps({"schema": "sightwire.command/1", "id": self._id, **command}).encode()
        self._reply: dict[str, Any] | None = None
        self._trouble: str | None = None
        self._done = threading.Event()
        self._protocol = ""
        name = f"sightwire-ask-{os.getpid()}-{self._id[:6]}" if config.client_id is None else config.client_id
        self._link = Link(config.endpoint(), name, self)
        self._link.start()

    def wait(self, timeout_s: float, stop: threading.Event) -> dict[str, Any] | None:
        """The reply; None after the timeout, if nobody listens or at `stop`: `trouble` says why."""
        end_s = time.monotonic() + timeout_s
        while not self._done.wait(0.05) and not stop.is_set() and time.monotonic() < end_s:
            pass
        self._link.close(1)
        return self._reply

    @property
    def trouble(self) -> str:
        """Why there is no reply."""
        if self._trouble is not None:
            return self._trouble
        if not self._protocol:
            return self._link.reason or "no connection"
        return "no answer: does the agent run under that name, and does its configuration allow commands?"

    # -- the link's side

    def prepare(self, client: BrokerClient) -> None:
        """See Owner."""
        client.on_subscribe = self._on_subscribe
        client.on_message = self._on_message
        client.on_publish = self._on_publish

    def up(self, client: BrokerClient, accepted: Accepted) -> None:
        """See Owner."""
        self._protocol = accepted.protocol
        client.subscribe(self._own_answers if accepted.protocol == "5" else self._plain_answers, 1)

    def tick(self, client: BrokerClient) -> str | None:  # noqa: ARG002 - keepalive is enough
        """See Owner."""
        return None

    def down(self) -> None:
        """See Owner."""

    def _on_subscribe(
        self, client: Client, _userdata: object, _mid: int, codes: list[ReasonCode], _properties: Properties | None
    ) -> None:
        if any(code.is_failure for code in codes):
            self._fail(f"the broker does not let us hear answers: {codes[0]}")
            return
        about = None
        if self._protocol == "5":
            about = Properties(PacketTypes.PUBLISH)  # type: ignore[no-untyped-call]
            about.ResponseTopic = self._own_answers
            about.CorrelationData = self._id.encode()
            about.MessageExpiryInterval = 60
        client.publish(self._topic, self._payload, 1, properties=about)

    def _on_publish(
        self, _client: Client, _userdata: object, _mid: int, code: ReasonCode, _properties: Properties
    ) -> None:
        if code.is_failure:
            self._fail(f"the broker does not let us send commands: {code}")
        elif code.value == NOBODY:
            self._fail(
                f"nobody listens at {self._topic}: is an agent of that name connected, and does its configuration "
                "allow commands (commands: {allow: [...]})?"
            )

    def _on_message(self, _client: Client, _userdata: object, message: MQTTMessage) -> None:
        try:
            reply = json.loads(message.payload)
        except ValueError:
            return
        if isinstance(reply, dict) and reply.get("id") == self._id:
            self._reply = reply
            self._done.set()

    def _fail(self, why: str) -> None:
        self._trouble = why
        self._done.set()
