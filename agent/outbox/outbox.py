# ruff: noqa: D102
"""Events that wait for their sinks, in memory: stands in until the durable one is merged."""

from __future__ import annotations

import threading
import time
import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from agent.messages import EventPayload
from agent.outbox.settings import EventsSection


@dataclass(frozen=True)
class Stored:
    """One event."""

    seq: int
    event: EventPayload
    expires_ns: int


class Outbox:
    """See the agreed interface."""

    def __init__(self, settings: EventsSection, agent: str, sinks: Sequence[str]) -> None:
        self.boot_id = uuid.uuid4().hex
        self._settings, self._agent = settings, agent
        self._changed = threading.Condition()
        self._events: list[Stored] = []
        self._owed: dict[str, set[int]] = {name: set() for name in sinks}
        self._seq = 0

    @classmethod
    def in_memory(cls, agent: str, sinks: Sequence[str]) -> Outbox:
        return cls(EventsSection(), agent, sinks)

    def start(self) -> None:
        """Ready."""

    def put(self, event: EventPayload) -> int:
        with self._changed:
            self._seq += 1
            event = event.model_copy(update={"event_seq": self._seq, "boot_id": self.boot_id})
            self._events.append(Stored(self._seq, event, time.time_ns() + 10**15))
            for owed in self._owed.values():
                owed.add(self._seq)
            self._changed.notify_all()
            return self._seq

    def next(self, sink: str, after_seq: int, limit: int, timeout_s: float) -> list[Stored]:
        def waiting() -> list[Stored]:
            return [e for e in self._events[after_seq:] if e.seq in self._owed[sink]][:limit]

        with self._changed:
            self._changed.wait_for(waiting, timeout_s)
            return waiting()

    def settle(self, sink: str, seq: int, answer: str) -> None:  # noqa: ARG002
        with self._changed:
            self._owed[sink].discard(seq)
            self._changed.notify_all()

    def refused(self, sink: str, seq: int, reason: str) -> None:
        """Stays."""

    def counts(self) -> dict[str, Any]:
        with self._changed:
            waiting = max((len(owed) for owed in self._owed.values()), default=0)
            return {
                "made": self._seq,
                "acknowledged": self._seq - waiting,
                "expired": 0,
                "dropped": 0,
                "waiting": waiting,
            }

    def state(self) -> dict[str, Any]:
        return {"path": None, "state": "memory", "waiting": self.counts()["waiting"]}

    def close(self, deadline_s: float) -> None:
        """Nothing to do."""
