"""Events that were handed over and wait for the broker's answer."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field

from paho.mqtt.reasoncodes import ReasonCode

from agent.sinks import Answer

NO_SUBSCRIBER = 0x10


@dataclass(eq=False)
class Delivery:
    """One event on its way, in as many messages as the dialect makes of it."""

    answered: Callable[[Answer, str | None], None]
    topics: list[str]
    size: int
    """Bytes of all payloads."""
    begun_ns: int = field(default_factory=time.monotonic_ns)
    open: int = 0
    """Messages without an answer."""
    heard: bool = False
    """Somebody subscribes to one of them."""
    refusal: str | None = None

    def answer(self) -> tuple[Answer, str | None]:
        """Of the whole: refused if one message was, without a subscriber only if none was heard."""
        if self.refusal is not None:
            return "refused", self.refusal
        return "acknowledged" if self.heard else "no_subscriber", None


class Awaited:
    """All deliveries under way. Guarded by its owner."""

    def __init__(self) -> None:
        self._under_way: dict[Delivery, None] = {}
        """Oldest first."""
        self._messages: dict[int, tuple[Delivery, str]] = {}
        """Message id -> whose it is, and its topic."""
        self._handing = False
        self._early: dict[int, ReasonCode | None] = {}
        """Answers that came before `publish` had said the id."""
        self.size = 0
        """Bytes of all that is under way."""

    def __len__(self) -> int:
        return len(self._under_way)

    def oldest_ns(self, now_ns: int) -> int:
        """How long the oldest is under way; 0 if nothing is."""
        return now_ns - next(iter(self._under_way)).begun_ns if self._under_way else 0

    def begin(self, delivery: Delivery) -> None:
        """Its messages will be handed over now, by one thread."""
        self._under_way[delivery] = None
        self.size += delivery.size
        delivery.open = len(delivery.topics)
        self._handing = True

    def sent(self, delivery: Delivery, topic: str, mid: int) -> Delivery | None:
        """One of its messages has this id. Returns the delivery where that was the last answer it waited for."""
        if delivery not in self._under_way:
            return None  # lost meanwhile
        self._messages[mid] = delivery, topic
        if mid in self._early:
            return self.answer(mid, self._early.pop(mid))
        return None

    def handed(self) -> None:
        """All messages of the delivery that began are handed over."""
        self._handing = False
        self._early.clear()

    def refuse(self, delivery: Delivery, reason: str) -> Delivery | None:
        """A message of it cannot be handed over at all. Returns as `sent`."""
        if delivery not in self._under_way:
            return None
        delivery.refusal = reason
        return self._close_one(delivery)

    def knows(self, mid: int) -> bool:
        """The message is one of ours."""
        return mid in self._messages

    def answer(self, mid: int, code: ReasonCode | None) -> Delivery | None:
        """The broker answered; `code` None: it was sent to a broker that answers nothing. Returns as `sent`."""
        if mid not in self._messages:
            if self._handing:
                self._early[mid] = code
            return None
        delivery, topic = self._messages.pop(mid)
        if code is not None and code.is_failure:
            delivery.refusal = f"publishing {topic} refused: {code}"
        delivery.heard = delivery.heard or code is None or code.value != NO_SUBSCRIBER
        return self._close_one(delivery)

    def lose(self) -> list[Delivery]:
        """The connection ended: these have no answer and will get none. Oldest first."""
        lost = list(self._under_way)
        self._under_way.clear()
        self._messages.clear()
        self._early.clear()
        self.size = 0
        return lost

    def _close_one(self, delivery: Delivery) -> Delivery | None:
        delivery.open -= 1
        if delivery.open:
            return None
        del self._under_way[delivery]
        self.size -= delivery.size
        return delivery
