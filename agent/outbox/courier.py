"""From the outbox to one sink: stands in until the real one is merged."""

from __future__ import annotations

import threading
from typing import Any

from agent.outbox.outbox import Outbox
from agent.sinks import Message, Sink


class Courier:
    """One event after the other."""

    def __init__(self, outbox: Outbox, name: str, sink: Sink) -> None:
        self._outbox, self._name, self._sink = outbox, name, sink

    def run(self, stop: threading.Event) -> None:
        """Until `stop`."""
        after = 0
        while not stop.is_set():
            for stored in self._outbox.next(self._name, after, 100, 0.1):
                event, after = stored.event, stored.seq
                topic = f"{event.camera}/events" if event.camera else "events"

                def answered(answer: Any, reason: str | None, seq: int = stored.seq) -> None:  # noqa: ARG001
                    self._outbox.settle(self._name, seq, answer)

                self._sink.deliver(Message(topic, event, qos=1), answered)
