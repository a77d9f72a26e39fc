"""Where results go: one file a kind, each with one `Config` class that is its factory.

A sink is opened, fed and closed by one sender thread (see `agent.publishing`). State (retained messages) and
measurements (everything else) travel as the same Message; what differs is said by its fields.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from pydantic import BaseModel, ConfigDict


@dataclass(frozen=True, eq=False)
class Message:
    """One thing to say, not yet encoded: a message that is replaced by a newer one costs no encoding."""

    topic: str
    """Below `<prefix>/<agent>/`, e.g. `dock/people/detections`."""
    payload: BaseModel
    """Encoded by the sink with `encode(payload)`."""
    retain: bool = False
    qos: int = 0
    born_ns: int = 0
    """`time.monotonic_ns` that the age limit counts from: when the pixels reached this machine."""
    max_age_ns: int | None = None
    """Not to be sent when older than this; None: always good (state)."""
    lossless: bool = False
    """Part of a recording: never replaced by a newer one."""
    settled: Callable[[], None] | None = None
    """Called once, when this sink has sent or dropped it."""

    def encode(self, now_ns: int) -> bytes:
        """UTF-8 JSON; live results get their `age_ms` here, as it is when they are sent."""
        payload: Any = self.payload
        if getattr(payload, "age_ms", None) is not None:
            payload = payload.model_copy(update={"age_ms": round((now_ns - self.born_ns) / 1e6, 1)})
        encoded: bytes = payload.model_dump_json(by_alias=True, exclude_unset=True).encode()
        return encoded


class Sink(ABC):
    """A place that takes messages. `send` and `ready` are called by one thread."""

    name: str

    @abstractmethod
    def ready(self, timeout_s: float) -> bool:
        """Wait until a live message could be handed over without waiting in a buffer; False after the timeout."""

    @abstractmethod
    def send(self, message: Message) -> None:
        """Hand one message over. Raises Transient if it cannot be: the message is then counted as failed."""

    @abstractmethod
    def close(self, deadline_s: float) -> None:
        """Flush for at most `deadline_s`, then let go."""

    def state(self) -> dict[str, Any]:
        """What status says of this sink: `connected`, `reason`, counters."""
        return {}


class SinkConfig(BaseModel):
    """Base of every sink's config: the config is the factory."""

    model_config = ConfigDict(extra="forbid", frozen=True, defer_build=True)

    def look_at_files(self) -> None:
        """Raises ConfigError where `open` would: for files that it needs and cannot use."""

    @abstractmethod
    def open(self, agent: str, farewell: Message) -> Sink:
        """Build the sink for the agent of that name. Returns at once: an absent server is a state, not an error.

        `farewell` is what others shall read if we vanish without a word (MQTT's will); on an orderly end the service
        sends its own.
        """
