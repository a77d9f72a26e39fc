"""What others expect to hear: a dialect turns our messages into theirs, for one sink.

One file a dialect, each with one `Config` class that is its factory.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass

from agent.sinks import Message
from agent.values import Section


@dataclass(frozen=True)
class Said:
    """One message as it goes over the wire."""

    topic: str
    """Whole: a dialect has a prefix of its own."""
    payload: bytes
    retain: bool = False
    qos: int = 0
    content_type: str = "application/json"
    user: tuple[tuple[str, str], ...] = ()
    """User properties, where MQTT 5 is spoken; those of an event (`agent`, `boot_id`, `event_seq`) are added."""


class Dialect(ABC):
    """Translates for one sink; called by its sender's threads, one at a time."""

    birth: str | None = None
    """Topic where somebody who begins to listen says `online`: then all state is said again."""

    @abstractmethod
    def say(self, message: Message, now_ns: int) -> list[Said]:
        """What a message of ours is in this dialect: nothing, one or several.

        `message.payload` tells what it is (`agent.messages`); `now_ns` as in `Message.encode`. Message kinds that the
        dialect has no word for give nothing. Of the farewell (the sink's will) only the first part can be kept.
        State (`message.retain` without an age limit) is sent again at each connect, events with QoS 1, results with 0.
        """


class DialectConfig(Section):
    """Base of every dialect's config: the config is the factory."""

    @abstractmethod
    def open(self, prefix: str, agent: str) -> Dialect:
        """Build the dialect. `prefix`: the sink's, `sightwire` unless configured; a dialect may have one of its own."""
