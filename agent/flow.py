"""Where frames wait for an engine: the newest of each camera and use, never a queue.

Floors that are due come first, the earliest before the others; then start-time fair queueing decides who is next
(Goyal, Vin and Cheng, SIGCOMM 1996).

Every request that is offered ends in exactly one outcome, and every outcome is counted:

    offered == inferred + not_due + replaced + stale + failed + disabled          (plus `waiting` while running)
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from operator import attrgetter
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


@dataclass(frozen=True)
class Share:
    """What a camera gets of an engine that cannot keep up."""

    weight: float = 1.0
    """Of the engine's time, against the other cameras' weights."""
    floor: float = 0.0
    """Pictures a second that come before weights."""


EQUAL = Share()


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
    share: Share = EQUAL
    offered_ns: int = field(default_factory=time.monotonic_ns)
    model: str = ""
    """What looked at it, as it stands in payloads: `person-ssdlite@int8`; once an engine has taken it."""
    results: list[Result | None] = field(default_factory=list)
    """One for each region, once inferred."""
    timing: Timing = field(default_factory=Timing)
    paused_ns: int = 0
    """How long in all the picture has stood still for this use: for a tracker, time stood still with it."""

    def stale(self, now_ns: int) -> bool:
        """Whether its pixels are too old to be worth a result."""
        age_ns = self.frame.captured.age_ns(now_ns)
        return age_ns is not None and age_ns > self.max_age_ns


FLOOR_TURNS = 7
"""So many turns in a row go to floors at most, while others wait: floors that are too high starve nobody."""
CATCH_UP_NS = 1_000_000_000
"""What a floor was owed longer ago than this, or than one picture of it, it is not owed any more."""
_NEVER_NS = 1 << 63
_start, _due = attrgetter("start"), attrgetter("due_ns")


@dataclass(eq=False)
class _Slot:
    """One (camera, use): what waits, and its place among the others, which it keeps while nothing waits."""

    requests: deque[Request] = field(default_factory=deque)
    start: float = 0.0
    """Of what waits, in virtual time: the least is next."""
    finish: float = 0.0
    """Of what was taken last: its start, and its regions divided by its weight."""
    due_ns: int = _NEVER_NS
    """When the floor wants it taken, `time.monotonic_ns`."""


@dataclass(frozen=True)
class Work:
    """What a mailbox has seen since it was made; a run is one region through the network."""

    asked: int
    """Runs that were offered."""
    taken: int
    """Runs that the engine took."""
    idle_ns: int
    """How long the engine waited for requests; while it was partly busy, that part is left out."""


class Mailbox:
    """The requests waiting for one engine: one slot a (camera, use).

    A newer live request replaces the older one and keeps its place in line. Requests of recordings are never replaced;
    their camera bounds how many there are.

    While slots have something waiting, the engine's runs are divided among them by weight, whoever offers how often: a
    request with five regions pays for five. What a slot does not use is the others'; it may catch up by one request.
    """

    def __init__(self, clock: Callable[[], int] = time.monotonic_ns) -> None:
        self._clock = clock
        self._slots: dict[Key, _Slot] = {}
        self._waiting: dict[Key, _Slot] = {}
        """Those with requests, in the order in which they came to wait."""
        self._now = 0.0
        """Virtual time: the start of what was taken by weight last."""
        self._floors = 0
        """How many turns in a row went to floors."""
        self._any_floor = False
        """Whether a floor was ever asked for: where none is, nobody looks for one."""
        self._changed = threading.Condition()
        self._closed = False
        self._asked = self._taken = self._idle_ns = 0
        self._idle_since_ns: int | None = None
        self._idle_share = 1.0

    def offer(self, request: Request) -> None:
        """Put a request into its slot; ends the one it replaces, or this one if the mailbox is closed."""
        loser: tuple[Request, Outcome] | None = None
        with self._changed:
            if self._closed:
                loser = (request, "disabled")
            else:
                self._asked += len(request.regions)
                slot = self._waiting.get(request.key)
                if slot is None:
                    slot = self._slots.setdefault(request.key, _Slot())
                    slot.requests.append(request)
                    self._line_up(slot)
                    self._changed.notify()
                else:
                    if not request.lossless:
                        loser = (slot.requests.pop(), "replaced")
                    slot.requests.append(request)
        if loser:
            loser[0].ended(*loser)

    def take(self, limit: int, timeout_s: float, linger_s: float = 0.0, idle: float = 1.0) -> list[Request]:
        """At most one request a slot and `limit` in all: whose floor is due, then by weight.

        Waits up to `timeout_s` for the first; then up to `linger_s` for more, where a batch is worth waiting for.
        Empty when nothing came in time, or when the mailbox is closed and drained. `idle`: the share of the engine that
        has nothing to do meanwhile.
        """
        with self._changed:
            if not self._waiting and not self._closed:
                self._idle_since_ns, self._idle_share = self._clock(), idle
                self._changed.wait_for(lambda: self._waiting or self._closed, timeout_s)
                self._idle_ns, self._idle_since_ns = self._idle_until_now(), None
            if linger_s and self._waiting and len(self._waiting) < limit:
                self._changed.wait_for(lambda: len(self._waiting) >= limit or self._closed, linger_s)
            taken: list[Request] = []
            more: list[_Slot] = []
            while self._waiting and len(taken) < limit:
                slot = self._next()
                taken.append(slot.requests.popleft())
                if slot.requests:
                    more.append(slot)  # the rest of a recording
            for slot in more:
                self._line_up(slot)
            return taken

    def sweep(self) -> None:
        """End what has grown stale: nobody takes anything at the moment."""
        now_ns = time.monotonic_ns()
        gone: list[Request] = []
        with self._changed:
            for key, slot in list(self._waiting.items()):
                stale = [request for request in slot.requests if request.stale(now_ns)]
                for request in stale:
                    slot.requests.remove(request)
                if not slot.requests:
                    del self._waiting[key]
                gone += stale
        for request in gone:
            request.ended(request, "stale")

    def _line_up(self, slot: _Slot) -> None:
        """Let a slot wait that has not, or whose request was taken: behind that, or if that is long ago, in front."""
        request = slot.requests[0]
        slot.start = max(slot.finish, self._now - len(request.regions) / request.share.weight)
        if not request.share.floor:
            slot.due_ns = _NEVER_NS
        elif slot.due_ns == _NEVER_NS:
            slot.due_ns, self._any_floor = 0, True
        self._waiting[request.key] = slot

    def _next(self) -> _Slot:
        """The slot whose turn it is, no more among those that wait, and charged for its request."""
        waiting = self._waiting.values()
        slot = min(waiting, key=_due) if self._any_floor and self._floors < FLOOR_TURNS else None
        if slot is not None and slot.due_ns <= self._clock():
            self._floors += 1
        else:
            self._floors = 0
            slot = min(waiting, key=_start)
            self._now = max(self._now, slot.start)
        request = slot.requests[0]
        runs, share = len(request.regions), request.share
        self._taken += runs
        # Not in debt for what a floor gave: a slot gets the larger of floor and weight, now and when others go.
        slot.finish = min(slot.start, self._now) + runs / share.weight
        if share.floor:
            now_ns, step_ns = self._clock(), round(1e9 / share.floor)
            # Taken early, it is due a step from now; behind, it catches up, but not on a night without frames.
            behind_ns = max(step_ns, CATCH_UP_NS)
            slot.due_ns = (now_ns if slot.due_ns > now_ns else max(slot.due_ns, now_ns - behind_ns)) + step_ns
        del self._waiting[request.key]
        return slot

    def work(self) -> Work:
        """What it has seen until now."""
        with self._changed:
            return Work(self._asked, self._taken, self._idle_until_now())

    def _idle_until_now(self) -> int:
        since_ns = self._idle_since_ns
        return self._idle_ns + (0 if since_ns is None else round((self._clock() - since_ns) * self._idle_share))

    def close(self) -> None:
        """Accept nothing more; what waits can still be taken."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()

    @property
    def drained(self) -> bool:
        """Closed, and nothing waits."""
        with self._changed:
            return self._closed and not self._waiting
