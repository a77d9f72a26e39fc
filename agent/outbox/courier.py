"""From the outbox to one sink: events in order, until the sink has answered to each.

What a connection took with it is read from the outbox again, before anything newer: so the order of first arrivals is
that of the events, and what was dropped meanwhile is not delivered after all.
An event that is refused, or that nobody heard where that matters, blocks nobody: it stays in the outbox and is tried
again now and then, behind newer ones if need be.
"""

from __future__ import annotations

import contextlib
import logging
import threading
import time
from collections import deque
from queue import Empty, SimpleQueue
from typing import Literal

from agent.errors import Transient
from agent.outbox.aside import Aside
from agent.outbox.outbox import Outbox, Stored
from agent.sinks import Answer, Message, Sink

log = logging.getLogger(__name__)

BATCH = 64
"""Events read from the outbox at once, while the sink takes them."""
MOST_UNDER_WAY = 1024
"""Handed over and not answered, for a sink that has no bound of its own."""
LOOK_S = 0.02
"""Answers are looked for so often while there are any to come; the outbox waits longer before it commits."""
IDLE_S = 0.25
RETRY_S = 60.0
"""What was refused or not heard is tried again so often, and when the sink has connected again."""
NOTICE_S = 1.0
"""So often it is looked whether the sink has connected again."""
PAUSE_S = 0.1
"""Before a sink that takes nothing is asked again."""
LAST_WORDS_S = 2.0
"""When asked to stop, what is there is delivered for so long."""
QUIET_S = 0.15
"""When asked to stop: nothing new for so long is the end. Longer than the outbox waits before it commits."""


class Courier:
    """One thread, `run`; the other methods may be called by any."""

    def __init__(
        self, outbox: Outbox, name: str, sink: Sink, no_subscriber: Literal["delete", "keep"] = "delete"
    ) -> None:
        """`name`: the sink's in the outbox."""
        self._outbox, self._name, self._sink = outbox, name, sink
        self.keeps_unheard = no_subscriber == "keep"
        """What is acknowledged, and nobody heard."""
        self._answers: SimpleQueue[tuple[Stored, Answer, str | None]] = SimpleQueue()
        self._under_way = 0
        self._held: set[int] = set()
        """Numbers of what is under way or put aside."""
        self._fresh: deque[Stored] = deque()
        """Read, and not handed over yet."""
        self._read_to = 0
        """Number of the last that was taken from there."""
        self._takes = False
        """The sink took the last event."""
        self._refused, self._unheard = Aside(), Aside()
        self._tried: dict[int, Aside] = {}
        """What is under way and was put aside before: where."""
        self._retry_s = self._notice_s = 0.0
        self._reconnects: object = None
        self._again = 0
        self._told: dict[str | None, str] = {}
        """Camera -> why its last one was not wanted, as the log has it."""

    def run(self, stop: threading.Event) -> None:
        """Deliver until `stop`, then what is there for at most LAST_WORDS_S."""
        end_s = None
        while end_s is None or time.monotonic() < end_s:
            if end_s is None and stop.is_set():
                end_s = time.monotonic() + LAST_WORDS_S
            self._take_answers()
            stored = self._choose(stopping=end_s is not None)
            if stored is not None:
                self._takes = self._hand_over(stored)
                if not self._takes:
                    if end_s is not None:  # what is left stays where it is
                        break
                    stop.wait(PAUSE_S)
            elif end_s is not None and not self._under_way:
                break
        self._take_answers()

    def counts(self) -> dict[str, int]:
        """How many wait for their answer, and to be tried again; how often a connection took one with it."""
        aside = len(self._refused) + len(self._unheard)
        return {"under_way": self._under_way, "aside": aside, "again": self._again}

    def _choose(self, stopping: bool) -> Stored | None:
        """The event to hand over next; None if there is none for the moment."""
        if self._under_way >= MOST_UNDER_WAY:
            with contextlib.suppress(Empty):
                self._take(*self._answers.get(timeout=LOOK_S))
            return None
        if not self._fresh:
            self._look_aside()
            aside = self._find_aside(self._refused) or self._find_aside(self._unheard)
            if aside is not None:
                return aside
            wait_s = LOOK_S if self._under_way else QUIET_S if stopping else IDLE_S
            # Of a sink that takes nothing, one is asked at a time: the outbox may yet drop what is not read.
            self._fresh.extend(self._outbox.next(self._name, self._read_to, BATCH if self._takes else 1, wait_s))
        while self._fresh:
            stored = self._fresh.popleft()
            self._read_to = stored.seq
            if stored.seq not in self._held and stored.expires_ns > time.monotonic_ns():
                return stored
        return None

    def _find_aside(self, aside: Aside) -> Stored | None:
        """One to be tried again, if there is one that the outbox has not dropped since."""
        while (number := aside.take()) is not None:
            stored = self._outbox.find(self._name, number)
            if stored is not None:
                aside.asked(stored.event.camera)
                self._tried[number] = aside
                return stored
            self._held.discard(number)
        return None

    def _hand_over(self, stored: Stored) -> bool:
        """False if the sink does not take it now."""
        event = stored.event
        topic = f"{event.camera}/events" if event.camera else "events"
        now_ns = time.monotonic_ns()
        message = Message(topic, event, qos=1, born_ns=now_ns, max_age_ns=stored.expires_ns - now_ns)
        self._held.add(stored.seq)
        self._under_way += 1
        try:
            self._sink.deliver(message, lambda answer, reason: self._answers.put((stored, answer, reason)))
        except Transient:
            self._read_again(stored)
            return False
        except BaseException:
            self._read_again(stored)
            raise
        return True

    def _read_again(self, stored: Stored) -> None:
        """It is to be handed over, before all that comes after it."""
        self._under_way -= 1
        aside = self._tried.pop(stored.seq, None)
        if aside is not None:
            aside.give_back(stored.event.camera, stored.seq)
            return
        self._held.discard(stored.seq)
        self._read_to = min(self._read_to, stored.seq - 1)
        self._fresh.clear()

    def _take_answers(self) -> None:
        with contextlib.suppress(Empty):
            while True:
                self._take(*self._answers.get_nowait())

    def _take(self, stored: Stored, answer: Answer, reason: str | None) -> None:
        if answer == "lost":
            self._again += 1
            self._read_again(stored)
            return
        self._under_way -= 1
        tried = self._tried.pop(stored.seq, None) is not None
        if answer == "refused":
            self._put_aside(self._refused, stored, reason or "refused")
        elif answer == "no_subscriber" and self.keeps_unheard:
            self._put_aside(self._unheard, stored, "nobody listens")
        else:
            self._held.discard(stored.seq)
            self._outbox.settle(self._name, stored.seq, answer)
            self._unheard.went_through(stored.event.camera)  # whoever hears this one hears the others
            if tried:
                self._refused.went_through(stored.event.camera)

    def _put_aside(self, aside: Aside, stored: Stored, reason: str) -> None:
        if reason != self._told.get(stored.event.camera):
            log.warning("%s: event %d stays: %s", self._name, stored.seq, reason)
        self._told[stored.event.camera] = reason
        if not len(self._refused) + len(self._unheard):
            self._retry_s = time.monotonic() + RETRY_S
        aside.put(stored.event.camera, stored.seq)
        self._outbox.refused(self._name, stored.seq, reason)

    def _look_aside(self) -> None:
        """Whether it is time to try again what was not wanted."""
        now_s = time.monotonic()
        if now_s < self._notice_s or not len(self._refused) + len(self._unheard):
            return
        self._notice_s = now_s + NOTICE_S
        before, self._reconnects = self._reconnects, self._sink.state().get("reconnects")
        if now_s >= self._retry_s or (before is not None and before != self._reconnects):
            self._retry_s = now_s + RETRY_S
            self._refused.retry()
            self._unheard.retry()
