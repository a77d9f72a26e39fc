"""From results to sinks: each sink has a thread of its own, and what waits for it is the newest of each topic."""

from __future__ import annotations

import logging
import threading
import time
from collections import OrderedDict, deque
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Literal

from agent.errors import Transient
from agent.messages import Blob
from agent.sinks import Message, Sink
from agent.supervision.progress import Progress

log = logging.getLogger(__name__)

SEND_S = 30.0
"""A sink that takes longer for one message is stuck: one that cannot send has other ways to say so."""
Fate = Literal["sent", "replaced", "stale", "failed"]


class Sender:
    """One sink and what waits for it: `made == sent + replaced + stale + failed + waiting`.

    A newer live message replaces the one of its topic that still waits. Messages of recordings are not replaced: their
    camera bounds how many there are.
    """

    def __init__(self, sink: Sink) -> None:
        self.sink = sink
        self.progress = Progress()
        self._slots: OrderedDict[str, deque[Message]] = OrderedDict()
        self._changed = threading.Condition()
        self._closed = False
        self._made = 0
        self._fates: dict[Fate, int] = {"sent": 0, "replaced": 0, "stale": 0, "failed": 0}
        self._complaints: dict[str, str] = {}

    def put(self, message: Message) -> None:
        """Take a message; never waits. One that comes after `close` has failed."""
        loser: Message | None = None
        fate: Fate = "replaced"
        with self._changed:
            self._made += 1
            if self._closed:
                loser, fate = message, "failed"
            else:
                slot = self._slots.setdefault(message.topic, deque())
                if slot and not message.lossless:
                    loser = slot.pop()
                slot.append(message)
                self._changed.notify()
        if loser:
            self._settle(loser, fate)

    def run(self, stop: threading.Event) -> None:  # noqa: ARG002  # ends when closed and drained, or past its deadline
        """Until `close`: hand over what waits, oldest topic first, state before measurements."""
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._slots or self._closed, 1.0)
                if not self._slots:
                    if self._closed:
                        return
                    continue
                message = self._pop_state()
            if message is None:
                if not self.sink.ready(0.25):
                    self._drop_stale()
                    continue
                message = self._pop_oldest()
            if message is not None:
                self._hand_over(message)

    def close(self) -> None:
        """No more will come: `run` returns when everything is handed over."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()

    def give_up(self) -> None:
        """What a sink did not take until now has failed."""
        with self._changed:
            left = [message for slot in self._slots.values() for message in slot]
            self._slots.clear()
            self._changed.notify_all()
        for message in left:
            self._settle(message, "failed")

    def counts(self) -> dict[str, int]:
        """Everything counted; `waiting` is 0 after a clean stop."""
        with self._changed:
            waiting = self._made - sum(self._fates.values())
            return {"made": self._made, **{str(k): n for k, n in self._fates.items()}, "waiting": waiting}

    def _pop_state(self) -> Message | None:
        for topic, slot in self._slots.items():
            if slot[0].retain and slot[0].max_age_ns is None:
                return self._pop(topic)
        return None

    def _pop_oldest(self) -> Message | None:
        with self._changed:
            return self._pop(next(iter(self._slots))) if self._slots else None

    def _pop(self, topic: str) -> Message:
        slot = self._slots.pop(topic)
        message = slot.popleft()
        if slot:
            self._slots[topic] = slot
        return message

    def _drop_stale(self) -> None:
        """While the sink is not ready, what grows too old must not sit in a slot for ever."""
        now_ns = time.monotonic_ns()
        gone: list[Message] = []
        with self._changed:
            for topic in list(self._slots):
                slot = self._slots[topic]
                while slot and _stale(slot[0], now_ns):
                    gone.append(slot.popleft())
                if not slot:
                    del self._slots[topic]
        for message in gone:
            self._settle(message, "stale")

    def _hand_over(self, message: Message) -> None:
        if _stale(message, time.monotonic_ns()):
            self._settle(message, "stale")
            return
        self.progress.begin("send", SEND_S)
        try:
            self.sink.send(message)
        except Transient as error:
            if self._complaints.get(message.topic) != str(error):  # once a topic, not thirty times a second
                self._complaints[message.topic] = str(error)
                log.warning("%s: %s: %s", self.sink.name, message.topic, error)
            self._settle(message, "failed")
        else:
            self._complaints.pop(message.topic, None)
            self._settle(message, "sent")
        finally:
            self.progress.done()

    def _settle(self, message: Message, fate: Fate) -> None:
        with self._changed:
            self._fates[fate] += 1
        if message.settled:
            message.settled()


def _stale(message: Message, now_ns: int) -> bool:
    return message.max_age_ns is not None and now_ns - message.born_ns > message.max_age_ns


class Outlets:
    """All senders of the agent: what is published goes to each of them. State is remembered for those that come."""

    def __init__(self, senders: Sequence[Sender]) -> None:
        self._lock = threading.Lock()
        """Held while state is given to the senders, which calls nobody back: state has no `settled`."""
        self._senders = tuple(senders)
        self._state: dict[str, Message] = {}
        self._results: set[str] = set()
        """Topics of results that brokers keep."""

    def publish(self, message: Message, settled: Callable[[], None] | None = None) -> None:
        """Give the message to every sink; `settled` is called when the last of them has sent or dropped it."""
        if message.retain and message.max_age_ns is None:
            with self._lock:
                self._state[message.topic] = message
                for sender in self._senders:
                    sender.put(message)
            return
        senders = self._senders
        if settled:
            message = replace(message, settled=_Countdown(len(senders), settled))
            if not senders:
                settled()
        if message.retain and message.topic not in self._results:
            with self._lock:
                self._results.add(message.topic)
        for sender in senders:
            sender.put(message)

    def add(self, sender: Sender) -> None:
        """One more sender: it is told all state first."""
        with self._lock:
            for message in self._state.values():
                sender.put(message)
            self._senders = (*self._senders, sender)

    def remove(self, sender: Sender) -> None:
        """One that is given nothing more."""
        with self._lock:
            self._senders = tuple(each for each in self._senders if each is not sender)

    def clear(self, topic: str) -> None:
        """Have brokers forget what they keep of a topic and of those below it: what is empty is not retained."""
        with self._lock:
            topics = {said for said in (*self._state, *self._results) if f"{said}/".startswith(f"{topic}/")}
            self._state = {said: message for said, message in self._state.items() if said not in topics}
            self._results -= topics
            senders = self._senders
        for said in sorted(topics):
            for sender in senders:
                sender.put(Message(said, Blob(data=b"", content_type=""), retain=True, qos=1))


class _Countdown:
    """Calls `done` at the n-th call."""

    def __init__(self, count: int, done: Callable[[], None]) -> None:
        self._count, self._done, self._lock = count, done, threading.Lock()

    def __call__(self) -> None:
        with self._lock:
            self._count -= 1
            last = self._count == 0
        if last:
            self._done()
