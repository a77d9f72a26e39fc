"""Keeps messages in memory: for tests and for measuring without a broker."""

from __future__ import annotations

import json
import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

from pydantic import Field

from agent.sinks import Message, Sink, SinkConfig


class Config(SinkConfig):
    """`{type: memory}`."""

    type: Literal["memory"] = "memory"
    keep: int | None = Field(default=100_000, ge=1)
    """The newest so many; null: all."""

    def open(self, agent: str, farewell: Message) -> MemorySink:  # noqa: ARG002 - nobody listens after we vanish
        """Build the sink."""
        return MemorySink(self.keep)


@dataclass(frozen=True)
class Kept:
    """One message as it was sent."""

    topic: str
    payload: bytes
    sent_ns: int
    """`time.monotonic_ns`."""
    retain: bool

    @property
    def data(self) -> Any:
        """The payload, decoded."""
        return json.loads(self.payload)


class MemorySink(Sink):
    """Takes everything at once."""

    name = "memory"

    def __init__(self, keep: int | None = None) -> None:
        self._kept: deque[Kept] = deque(maxlen=keep)
        self._changed = threading.Condition()
        self._sent = self._bytes = 0

    @property
    def messages(self) -> list[Kept]:
        """What is kept, oldest first."""
        with self._changed:
            return list(self._kept)

    def wait_for(self, wanted: Callable[[list[Kept]], bool], timeout_s: float) -> bool:
        """Wait until `wanted(messages)`; False after the timeout."""
        with self._changed:
            return self._changed.wait_for(lambda: wanted(list(self._kept)), timeout_s)

    def ready(self, timeout_s: float) -> bool:  # noqa: ARG002 - always is
        """Yes."""
        return True

    def send(self, message: Message) -> None:
        """Encode and keep."""
        now_ns = time.monotonic_ns()
        payload = message.encode(now_ns)
        with self._changed:
            self._kept.append(Kept(message.topic, payload, now_ns, message.retain))
            self._sent += 1
            self._bytes += len(payload)
            self._changed.notify_all()

    def close(self, deadline_s: float) -> None:
        """Keep what is kept, for whoever reads it."""

    def state(self) -> dict[str, Any]:
        """Counters."""
        with self._changed:
            return {"type": self.name, "state": "connected", "connected": True, "reason": None,
                    "sent": self._sent, "bytes": self._bytes}  # fmt: skip
