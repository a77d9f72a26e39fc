"""Where frames wait for an engine: the newest of each camera and use, never a queue.

Every request that is offered ends in exactly one outcome, and every outcome is counted:

    offered == inferred + not_due + replaced + stale + failed + disabled          (plus `waiting` while running)
"""

from __future__ import annotations

import threading
import time
from collections import OrderedDict, deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Literal

from agent.frame import Frame
from engines.pixels import Box
from engines.results import Result

Outcome = Literal["inferred", "not_due", "replaced", "stale", "failed", "disabled"]
OUTCOMES: tuple[Outcome, ...] = ("inferred", "not_due", "replaced", "stale", "failed", "disabled")
Key = tuple[str, str]
"""(camera, use)"""


class Account:
    """Counts of one (camera, use): what was offered and what became of it."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._offered = 0
        self._outcomes: dict[Outcome, int] = dict.fromkeys(OUTCOMES, 0)

    def offered(self) -> None:
        """One more came in."""
        with self._lock:
            self._offered += 1

    def ended(self, outcome: Outcome) -> None:
        """One of them ended so."""
        with self._lock:
            self._outcomes[outcome] += 1

    def counts(self) -> dict[str, int]:
        """Everything counted, with `waiting` for what has no outcome yet: 0 after a clean stop."""
        with self._lock:
            waiting = self._offered - sum(self._outcomes.values())
            return {"offered": self._offered, **{str(k): n for k, n in self._outcomes.items()}, "waiting": waiting}


@dataclass
class Timing:
    """Where the time of one request went, ns."""

    wait: int = 0
    prepare: int = 0
    infer: int = 0
    read: int = 0


@dataclass(eq=False)
class Request:
    """One frame for one use: the regions an engine is asked about, and who waits for the answer."""

    key: Key
    frame: Frame
    regions: tuple[Box | None, ...]
    lossless: bool
    max_age_ns: int
    """Older live frames are not inferred."""
    ended: Callable[[Request, Outcome], None]
    """Called once, from whatever thread ends it."""
    offered_ns: int = field(default_factory=time.monotonic_ns)
    model: str = ""
    """What looked at it, as it stands in payloads: `person-ssdlite@int8`; once an engine has taken it."""
    results: list[Result | None] = field(default_factory=list)
    """One for each region, once inferred."""
    timing: Timing = field(default_factory=Timing)

    def stale(self, now_ns: int) -> bool:
        """Whether its pixels are too old to be worth a result."""
        age_ns = self.frame.captured.age_ns(now_ns)
        return age_ns is not None and age_ns > self.max_age_ns


class Mailbox:
    """The requests waiting for one engine: one slot a (camera, use).

    A newer live request replaces the older one and keeps its place in line, so that a fast camera cannot push a slow
    one back. Requests of recordings are never replaced; their camera bounds how many there are.
    """

    def __init__(self) -> None:
        self._slots: OrderedDict[Key, deque[Request]] = OrderedDict()
        self._changed = threading.Condition()
        self._closed = False

    def offer(self, request: Request) -> None:
        """Put a request into its slot; ends the one it replaces, or this one if the mailbox is closed."""
        loser: tuple[Request, Outcome] | None = None
        with self._changed:
            if self._closed:
                loser = (request, "disabled")
            else:
                slot = self._slots.setdefault(request.key, deque())
                if slot and not request.lossless:
                    loser = (slot.pop(), "replaced")
                slot.append(request)
                self._changed.notify()
        if loser:
            loser[0].ended(*loser)

    def take(self, limit: int, timeout_s: float, linger_s: float = 0.0) -> list[Request]:
        """At most one request a slot and `limit` in all, oldest first.

        Waits up to `timeout_s` for the first; then up to `linger_s` for more, where a batch is worth waiting for.
        Empty when nothing came in time, or when the mailbox is closed and drained.
        """
        with self._changed:
            self._changed.wait_for(lambda: self._slots or self._closed, timeout_s)
            if self._slots and linger_s and len(self._slots) < limit:
                self._changed.wait_for(lambda: len(self._slots) >= limit or self._closed, linger_s)
            taken = []
            for key in list(self._slots)[:limit]:
                slot = self._slots.pop(key)
                taken.append(slot.popleft())
                if slot:
                    self._slots[key] = slot  # the rest of a recording goes to the end of the line
            return taken

    def sweep(self) -> None:
        """End what has grown stale: nobody takes anything at the moment."""
        now_ns = time.monotonic_ns()
        with self._changed:
            gone = [request for slot in self._slots.values() for request in slot if request.stale(now_ns)]
            for request in gone:
                slot = self._slots[request.key]
                slot.remove(request)
                if not slot:
                    del self._slots[request.key]
        for request in gone:
            request.ended(request, "stale")

    def close(self) -> None:
        """Accept nothing more; what waits can still be taken."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()

    @property
    def drained(self) -> bool:
        """Closed, and nothing waits."""
        with self._changed:
            return self._closed and not self._slots
