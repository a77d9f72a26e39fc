"""Where results go: one file a kind, each with one `Config` class that is its factory.

A sink is opened, fed and closed by one sender thread (see `agent.publishing`). State (retained messages) and
measurements (everything else) travel as the same Message; what differs is said by its fields.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict

from agent.messages import Blob

Answer = Literal["acknowledged", "no_subscriber", "refused", "lost"]
"""What became of an event that was handed over: `no_subscriber` is acknowledged too, but nobody listens; `lost`: the
connection ended first, so it may have arrived or not."""


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
    later: Callable[[float], dict[str, Any]] | None = None
    """Fields of a live result that depend on its age, ms, when it is sent."""
    settled: Callable[[], None] | None = None
    """Called once, when this sink has sent or dropped it."""

    @property
    def content_type(self) -> str:
        """Of what `encode` returns."""
        return self.payload.content_type if isinstance(self.payload, Blob) else "application/json"

    def current(self, now_ns: int) -> BaseModel:
        """The payload as it is when it is sent: live results get their `age_ms`."""
        payload = self.payload
        if getattr(payload, "age_ms", None) is not None:
            age_ms = round((now_ns - self.born_ns) / 1e6, 1)
            payload = payload.model_copy(update={"age_ms": age_ms, **(self.later(age_ms) if self.later else {})})
        return payload

    def encode(self, now_ns: int) -> bytes:
        """The payload as UTF-8 JSON, as it is when it is sent. A blob is its bytes."""
        if isinstance(self.payload, Blob):
            return self.payload.data
        return self.current(now_ns).model_dump_json(by_alias=True, exclude_unset=True).encode()


@dataclass(frozen=True, eq=False)
class Request:
    """A command that came in."""

    topic: str
    """Below `<prefix>/<agent>/`: `command`, or `<camera>/command`."""
    payload: bytes
    reply: Callable[[BaseModel], None]
    """Answers whoever asked; may be called from any thread, once. An answer that cannot be sent is dropped."""
    reply_to: str = ""
    """The whole topic that the answer goes to: with `correlation` (or the payload's `id`) it tells requests apart."""
    correlation: bytes | None = None
    expires_ns: int | None = None
    """`time.monotonic_ns` after which it is not to be obeyed."""
    fault: str | None = None
    """Why it cannot be obeyed, whatever it asks for."""


class Sink(ABC):
    """A place that takes messages. `send` and `ready` are called by one thread."""

    name: str

    @abstractmethod
    def ready(self, timeout_s: float) -> bool:
        """Wait until a live message could be handed over without waiting in a buffer; False after the timeout."""

    @abstractmethod
    def send(self, message: Message) -> None:
        """Hand one message over. Raises Transient if it cannot be: the message is then counted as failed."""

    def deliver(self, event: Message, answered: Callable[[Answer, str | None], None]) -> None:
        """Hand an event over; may wait a moment for room. Raises Transient if it cannot be taken now, and has not been.

        `answered` is called once, from any thread, perhaps before this returns, with a reason where it was refused; it
        must return soon. After events were lost Transient is raised once more, behind their answers: who delivers
        again in order looks at them first. A sink that knows no answers answers itself.
        """
        self.send(event)
        answered("acknowledged", None)

    def listen(self, on_request: Callable[[Request], None]) -> None:  # noqa: B027 - most sinks hear nothing
        """From now on pass on what is asked; `on_request` must return soon."""

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

    def made_of(self) -> object:
        """What its sink is opened with that is not in here, as it is now; where that changes, it is opened anew."""
        return None

    @abstractmethod
    def open(self, agent: str, farewell: Message) -> Sink:
        """Build the sink for the agent of that name. Returns at once: an absent server is a state, not an error.

        `farewell` is what others shall read if we vanish without a word (MQTT's will); on an orderly end the service
        sends its own.
        """
