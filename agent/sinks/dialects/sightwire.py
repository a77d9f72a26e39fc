"""Our own topics and payloads."""

from __future__ import annotations

from typing import Literal

from agent.messages import Blob
from agent.sinks import Message
from agent.sinks.dialects import Dialect, DialectConfig, Said


class Config(DialectConfig):
    """`dialect: sightwire`, the default."""

    type: Literal["sightwire"] = "sightwire"

    def open(self, prefix: str, agent: str) -> Dialect:
        """See DialectConfig."""
        return Sightwire(f"{prefix}/{agent}")


class Sightwire(Dialect):
    """Every message as it is, below `<prefix>/<agent>/`."""

    def __init__(self, base: str) -> None:
        self._base = base

    def say(self, message: Message, now_ns: int) -> list[Said]:
        """See Dialect."""
        topic, payload = f"{self._base}/{message.topic}", message.encode(now_ns)
        user: tuple[tuple[str, str], ...] = ()
        if isinstance(message.payload, Blob):
            user = tuple(message.payload.facts.items())
        elif message.qos and (schema := getattr(message.payload, "schema_", None)):
            user = (("schema", schema),)
        return [Said(topic, payload, message.retain, message.qos, message.content_type, user)]
