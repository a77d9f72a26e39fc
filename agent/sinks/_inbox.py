"""What comes in over MQTT: messages on our command topics become requests, with somewhere to answer to.

Whoever may publish commands chooses the topic that we answer to, so it must not become a way to speak as us: not to
topics of ours, nor to another agent's commands.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

from paho.mqtt.client import MQTTMessage
from pydantic import BaseModel, TypeAdapter, ValidationError

from agent.errors import Transient
from agent.sinks import Request
from agent.values import Name

log = logging.getLogger(__name__)

LONGEST_TOPIC = 256
"""Bytes of a response topic."""
LONGEST_CORRELATION = 1024
LARGEST = 64 * 1024
"""Bytes of a packet that an MQTT 5 broker sends us at all; what is larger than a command, but not that, is answered."""
REPEATS = 64
"""Packets remembered, to know one that the broker sends again because it missed our acknowledgement."""

Reply = Callable[[str, bytes, bytes | None], None]
"""Publishes an answer: topic, payload, correlation data. Raises Transient."""


@dataclass
class Counts:
    """What did not become a request, and what could not be answered."""

    retained: int = 0
    """Commands that the broker kept: whoever sent them is long gone."""
    redelivered: int = 0
    unanswered: int = 0


class Inbox:
    """The command topics below one base. `heard` is called by the connection's thread and returns soon."""

    def __init__(
        self,
        base: str,
        on_request: Callable[[Request], None],
        reply: Reply,
        taken: Callable[[str], bool] = lambda _topic: False,
    ) -> None:
        """`base`: `<prefix>/<agent>`. `taken`: other topics that nobody may have us answer to."""
        self.filters = f"{base}/command", f"{base}/+/command"
        self._base, self._on_request, self._reply, self._taken = base, on_request, reply, taken
        self._lock = threading.Lock()
        self._counts = Counts()
        self._retained_said = False
        self._recent: deque[tuple[int, bytes, bytes]] = deque(maxlen=REPEATS)

    def connected(self) -> None:
        """A new connection: packets count from the beginning."""
        self._recent.clear()

    def heard(self, message: MQTTMessage) -> None:
        """Make a request of a message. Whatever it is, nothing is raised."""
        topic = message.topic.removeprefix(f"{self._base}/")
        if message.retain:
            self._count("retained")
            if not self._retained_said:
                self._retained_said = True
                log.warning("%s: a retained command is ignored; send commands without retain", message.topic)
            return
        packet = message.mid, bytes(message._topic), bytes(message.payload)
        if message.qos:
            if message.dup and packet in self._recent:
                self._count("redelivered")
                return
            self._recent.append(packet)
        self._on_request(self._request(topic, packet[2], message))

    def counts(self) -> dict[str, int]:
        """What was ignored, and what could not be answered."""
        with self._lock:
            return dict(vars(self._counts))

    def _count(self, what: str) -> None:
        with self._lock:
            setattr(self._counts, what, getattr(self._counts, what) + 1)

    def _request(self, topic: str, payload: bytes, message: MQTTMessage) -> Request:
        properties = message.properties
        correlation: bytes | None = getattr(properties, "CorrelationData", None)
        expiry_s: int | None = getattr(properties, "MessageExpiryInterval", None)
        fault = None
        reply_to: str | None = getattr(properties, "ResponseTopic", None)
        if reply_to is not None:
            fault = self._unfit(reply_to)
        if reply_to is None or fault is not None:
            reply_to = f"{self._base}/{_answers_of(topic.removesuffix('command').rstrip('/'))}"
        if correlation is not None and len(correlation) > LONGEST_CORRELATION:
            fault, correlation = f"correlation data: {len(correlation)} bytes are too many", None

        def answer(payload: BaseModel) -> None:
            said = payload.model_dump_json(by_alias=True, exclude_unset=True).encode()
            try:
                self._reply(reply_to, said, correlation)
            except (Transient, ValueError):  # no connection, or no topic for paho: whoever asked will ask again
                self._count("unanswered")

        return Request(
            topic,
            payload,
            answer,
            reply_to=reply_to,
            correlation=correlation,
            expires_ns=None if expiry_s is None else time.monotonic_ns() + expiry_s * 1_000_000_000,
            fault=fault,
        )

    def _unfit(self, topic: str) -> str | None:
        """Why nothing may be answered there."""
        if not topic or len(topic.encode()) > LONGEST_TOPIC:
            return f"response topic: expected 1 to {LONGEST_TOPIC} bytes"
        if any(letter in "+#" or not letter.isprintable() for letter in topic):
            return "response topic: no wildcards and no control characters"
        if topic.startswith("$"):
            return "response topic: not the broker's own, which begin with $"
        if topic.rpartition("/")[2] == "command" or self._taken(topic):
            return "response topic: that one is for others to be told something by us"
        below = topic.removeprefix(f"{self._base}/")
        if topic == self._base or (below != topic and below != _answers_of(below.removesuffix("reply").rstrip("/"))):
            return "response topic: not one of the agent's own"
        return None


_NAME: TypeAdapter[str] = TypeAdapter(Name)


def _answers_of(camera: str) -> str:
    """Where commands for that camera are answered if they do not say: `<camera>/reply`; `reply` for what is no name."""
    try:
        return f"{_NAME.validate_python(camera)}/reply"
    except ValidationError:
        return "reply"
