"""An engine that answers at once while a better one is made ready, which then takes over; and the way back.

The first engine serves from the start. A thread makes the next one: builds, loads, warms and proves it. When that is
ready, the next `prepare` goes to it; tickets of the engine before are read out as usual, and it is closed with its last
one. No first one is made if the next one is ready within `patience_s`, which ends as soon as something is reported of
its making: that takes longer. If the next one cannot be made, the first serves on; what cannot be made at the moment
(`passing`) is tried again later. If the one that serves is lost, what it had under way fails, a new first engine takes
over, and the next one is tried again, at growing intervals.

`description` is that of the engine that serves, with words about the other one:

    next            what is being made, and how far it is: `tensorrt: building since 08:12 UTC`
    instead_of      what was wanted and does not serve: it could not be made, or was lost
    because         why not
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from engines.base import Batch, Engine, Raw, TensorSpec, Ticket
from engines.errors import BackendError, EngineError, EngineLost
from engines.pixels import Geometry, Picture

Report = Callable[[str], None]
"""Told what is being done that takes its time, in a word or two: `building`. Not how far it is: each word is a status
message."""
MakeNext = Callable[[Report, threading.Event], Engine]
"""Makes the successor, in another thread than will use it; returns or raises soon after the event is set.

Raises EngineError.
"""

_AGAIN_S, _AGAIN_MOST_S = 60.0, 3600.0
"""After a loss: how long until the next try, doubled with each loss."""
_LATER_S = 600.0
"""How long until that is tried again which cannot be made at the moment, doubled with each time: who tries may build
for half an hour before memory runs out."""
_FIRST_AGAIN_S = 10.0
"""How long until a first engine that could not be made anew is tried again."""
_FIRST_S = 60.0
"""How long that may take: a small machine compiles."""
_CLOSE_S = 5.0
"""How long `close` waits for what hangs in a driver."""


@dataclass(eq=False)
class _Tenant:
    """An engine that serves, or has served and is not closed yet."""

    engine: Engine
    succeeded: bool
    """It is one that `make_next` made."""
    under_way: int = 0
    """Batches prepared and not released."""
    lost: bool = False
    left: bool = False
    """Another one serves now."""


@dataclass(frozen=True)
class _Prepared(Batch):
    tenant: _Tenant
    batch: Batch
    """As the tenant's engine knows it."""


class HandoverEngine(Engine):
    """Owned by one thread, as every engine; `description` may be read by any."""

    def __init__(
        self,
        wanted: str,
        make_first: Callable[[], Engine],
        make_next: MakeNext,
        *,
        patience_s: float = 0.0,
        passing: tuple[type[EngineError], ...] = (),
        again_s: float = _AGAIN_S,
        later_s: float = _LATER_S,
        wait_s: float = 0.0,
        because: str = "",
        quiet: bool = False,
    ) -> None:
        """`wanted`: what the next engine is called in status; `passing`: errors after which it is tried again.

        `wait_s`: how long the first try of the next one waits, `because` of what. `quiet`: nothing is said of it before
        it reports something: it waits for what may never come.
        Raises what `make_first` raises.
        """
        self._passing, self._later_s = passing, later_s
        self._wanted, self._make_first, self._make_next = wanted, make_first, make_next
        self._again_s = again_s
        self._first_again = 0.0
        self._left: list[_Tenant] = []
        self._ready: Engine | None = None
        self._words = threading.Lock()
        """Of `description` and what it is made of: the making thread and the owner both say something."""
        self._said: dict[str, str | int] = {}
        self._next, self._because = "", because
        self._asides: list[threading.Thread] = []
        """Close what is lost: nobody waits for a driver that does not answer."""
        self._stop = threading.Event()
        self._spoken = threading.Event()
        """What is made takes longer, or is ready or refused."""
        self._making = self._start_making(wait_s, quiet=quiet)
        self._spoken.wait(patience_s if not wait_s else 0.0)
        self._serving = self._start()
        engine = self._serving.engine
        self.inputs, self.outputs = engine.inputs, engine.outputs
        self.max_batch, self.depth = engine.max_batch, engine.depth
        self._say(engine, next_="" if self._serving.succeeded else None)

    def _start(self) -> _Tenant:
        if self._ready is not None:
            successor, self._ready = self._ready, None
            return _Tenant(successor, succeeded=True)
        try:
            return _Tenant(self._make_first(), succeeded=False)
        except BaseException:
            self._stop_making()
            raise

    def prepare(self, pictures: Sequence[Picture], geometries: Sequence[Geometry]) -> Batch:
        """See Engine. The successor takes over here."""
        self._move(len(pictures))
        tenant = self._serving
        try:
            batch = tenant.engine.prepare(pictures, geometries)
        except EngineLost as error:
            self._lose(tenant, error)
            raise
        tenant.under_way += 1
        return _Prepared(batch.slot, batch.count, tenant, batch)

    def submit(self, batch: Batch) -> Ticket:
        """See Engine."""
        if not isinstance(batch, _Prepared):
            raise TypeError("a batch of another engine")
        try:
            ticket = batch.tenant.engine.submit(batch.batch)
        except EngineError as error:
            self._lose(batch.tenant, error)
            self._released(batch.tenant)
            raise
        return _HandedTicket(self, batch.tenant, ticket)

    def close(self) -> None:
        """See Engine. What is being made is stopped at once; a driver that does not answer is not waited for."""
        self._stop_making()
        for tenant in (*self._left, self._serving):
            self._close(tenant)
        self._left.clear()
        deadline = time.monotonic() + _CLOSE_S
        for aside in self._asides:
            aside.join(max(0.0, deadline - time.monotonic()))

    def abandon(self) -> None:
        """See Engine."""
        self._stop.set()
        for tenant in (*self._left, self._serving):
            tenant.engine.abandon()

    def _stop_making(self) -> None:
        self._stop.set()
        self._making.join(_CLOSE_S)  # if it hangs, what it makes is closed by whoever comes back with it
        with self._words:
            ready, self._ready = self._ready, None
        if ready is not None:
            ready.close()

    # The owner's thread

    def _move(self, count: int) -> None:
        """Let the engine serve that has to serve a batch of so many pictures now."""
        ready = self._ready
        if ready is not None and (wrong := self._differs(ready)):
            self._ready = None
            ready.close()
            self._say(next_="", because=wrong)
        elif ready is not None:
            # Whoever put them together may not have known yet that fewer fit: the old engine takes these.
            self.max_batch = ready.max_batch
            if count <= ready.max_batch or self._serving.lost:
                self._ready = None
                self._take_over(_Tenant(ready, succeeded=True))
        if self._serving.lost:
            self._take_over(_Tenant(self._first_anew(), succeeded=False))

    def _take_over(self, tenant: _Tenant) -> None:
        before, self._serving = self._serving, tenant
        self.max_batch, self.depth = tenant.engine.max_batch, tenant.engine.depth
        before.left = True
        self._left.append(before)
        self._close_if_done(before)
        if tenant.succeeded:
            self._say(tenant.engine, next_="", because="")
        else:
            self._say(tenant.engine)

    def _differs(self, successor: Engine) -> str:
        """Why it cannot stand in for the engine that serves; empty if it can."""
        for mine, its in ((self.inputs, successor.inputs), (self.outputs, successor.outputs)):
            if _rows(mine) != _rows(its):
                return f"expected {_listed(mine)}, got {_listed(its)}"
        return ""

    def _first_anew(self) -> Engine:
        """Raises BackendError, at once for a while after it was tried in vain."""
        if time.monotonic() < self._first_again:
            raise BackendError(f"no engine serves: {self._because}")
        self.slow("make the engine that stands in", _FIRST_S)
        try:
            return self._make_first()
        except EngineError as error:
            self._first_again = time.monotonic() + _FIRST_AGAIN_S
            self._say(because=f"it was lost, and no other engine can be made: {error}")
            raise

    def _lose(self, tenant: _Tenant, error: EngineError) -> None:
        """What to do about an engine's error: nothing, unless it is that the serving engine is lost."""
        if not isinstance(error, EngineLost) or tenant.lost or tenant is not self._serving:
            return
        tenant.lost = True
        self.max_batch = 1  # whatever takes over takes one: no batch is put together that is too large for it
        if not tenant.succeeded:
            return
        self._say(because=f"lost at {_clock()}: {error}")
        self._making.join()  # it ended when it had made this one
        self._making = self._start_making(self._again_s)
        self._again_s = min(2 * self._again_s, _AGAIN_MOST_S)

    def _released(self, tenant: _Tenant) -> None:
        tenant.under_way -= 1
        self._close_if_done(tenant)

    def _close_if_done(self, tenant: _Tenant) -> None:
        if tenant.left and not tenant.under_way and tenant in self._left:
            self._left.remove(tenant)
            self._close(tenant)

    def _close(self, tenant: _Tenant) -> None:
        if not tenant.lost:
            tenant.engine.close()
            return
        aside = threading.Thread(target=tenant.engine.close, name=f"close-{self._wanted}", daemon=True)
        self._asides = [thread for thread in self._asides if thread.is_alive()] + [aside]
        aside.start()

    # The thread that makes the successor

    def _start_making(self, wait_s: float, *, quiet: bool = False) -> threading.Thread:
        self._say(next_="" if quiet else self._planned(wait_s))
        thread = threading.Thread(target=self._make, args=(wait_s,), name=f"next-{self._wanted}", daemon=True)
        thread.start()
        return thread

    def _planned(self, wait_s: float) -> str:
        return f"{self._wanted}: " + (f"tried again at {_clock(wait_s)}" if wait_s else f"starting since {_clock()}")

    def _make(self, wait_s: float | None) -> None:
        while wait_s is not None and not self._stop.wait(wait_s):
            wait_s = self._try_making()
            self._spoken.set()

    def _try_making(self) -> float | None:
        """Return after how long it is to be tried again; None for never."""
        try:
            successor = self._make_next(self._report, self._stop)
        except EngineError as error:
            if self._stop.is_set():
                return None
            again_s = None
            if isinstance(error, self._passing):
                again_s, self._later_s = self._later_s, min(2 * self._later_s, _AGAIN_MOST_S)
            # Nothing will work on that device in this process, and asking each hour may harm what does.
            anew = "; it may work again when this program is started anew" if isinstance(error, EngineLost) else ""
            self._say(next_=self._planned(again_s) if again_s else "", because=f"{error}{anew}")
            return again_s
        except Exception as error:
            self._say(next_="", because=f"a fault of ours: {type(error).__name__}: {error}")
            self._spoken.set()
            raise
        self._say(next_=f"{self._wanted}: ready since {_clock()}")
        with self._words:
            late = self._stop.is_set()
            if not late:
                self._ready = successor
        if late:
            successor.close()
        return None

    def _report(self, words: str) -> None:
        self._say(next_=f"{self._wanted}: {words} since {_clock()}")
        self._spoken.set()

    # Either

    def _say(self, serving: Engine | None = None, next_: str | None = None, because: str | None = None) -> None:
        """Renew `description`, with what is given anew: another dictionary, so that readers need no lock."""
        with self._words:
            self._said = self._said if serving is None else serving.description
            self._next = self._next if next_ is None else next_
            self._because = self._because if because is None else because
            said = dict(self._said)
            if self._because:
                said |= {"instead_of": self._wanted, "because": self._because}
            if self._next:
                said["next"] = self._next
            self.description = said


class _HandedTicket:
    """A ticket of whichever engine took the batch."""

    def __init__(self, engine: HandoverEngine, tenant: _Tenant, ticket: Ticket) -> None:
        self._engine, self._tenant, self._ticket = engine, tenant, ticket

    def done(self) -> bool:
        try:
            return self._ticket.done()
        except EngineError:
            return True  # `result` says what it is

    def result(self) -> Raw:
        try:
            return self._ticket.result()
        except EngineError as error:
            self._engine._lose(self._tenant, error)
            raise

    def release(self) -> None:
        self._ticket.release()
        self._engine._released(self._tenant)


def _rows(specs: Sequence[TensorSpec]) -> dict[str, tuple[int, ...]]:
    """Name -> shape of one picture's row."""
    return {spec.name: spec.shape[1:] for spec in specs}


def _listed(specs: Sequence[TensorSpec]) -> str:
    return ", ".join(f"{name} {shape}" for name, shape in _rows(specs).items())


def _clock(in_s: float = 0.0) -> str:
    return time.strftime("%H:%M UTC", time.gmtime(time.time() + in_s))
