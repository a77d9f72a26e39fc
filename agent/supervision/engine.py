"""One engine at work, and what is done when it hangs or fails: given up, and another one opened for the same mailbox.

Nobody can stop a thread that is stuck in a driver. It is left there, with the model that it was using; what it had ends
as failed at once, and when it comes back it finds that, closes its model and ends. Cameras notice nothing: they offer
to the same mailbox, where newest wins goes on. The first time the same backend is opened, again and again the next
one of `BackendConfig.instead`; where there is none, the same at growing intervals. Everything happens in threads of
their own: the main thread, which calls `look`, waits for nothing.

Each thread that is left behind keeps its engine's memory. With `MOST_HUNG` of them there is no further try: only a new
process can help, and whoever watches over this one (`stuck`) is to see to that.
"""

from __future__ import annotations

import logging
import time
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

from agent.flow import Mailbox
from agent.inference import HAND_OVER, Inference
from agent.models import ModelOrder
from agent.supervision.opening import Opening, close_aside
from agent.supervision.pace import Pace
from agent.workers import Backoff, Worker, join
from engines.backends import BackendConfig
from engines.model import Model
from engines.standing_in import StandIn

log = logging.getLogger(__name__)

MOST_HUNG = 3
RECENT_S = 600.0
"""How long a fault counts: after that an engine's next one is its first again."""
_WAITS_S = 1.0, 60.0
"""Between tries of the only backend, or when all have been tried."""
_GRACE_S = 0.05
"""For a thread that is about to end."""
_AGAIN_S, _AGAIN_MOST_S = 60.0, 3600.0
"""How long another backend serves before the one that was wanted is tried again."""


class EngineAtWork:
    """One entry of `models:`. Used by the main thread, `description` by any."""

    def __init__(
        self,
        name: str,
        model: Model,
        order: ModelOrder,
        linger_s: float = 0.0,
        *,
        serve: bool = True,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """`order`: what `model` is, to open it again; `serve`: as in `open_model`."""
        self.name, self.model, self.mailbox = name, model, Mailbox()
        self.restarts = 0
        self._order, self._linger_s, self._serve, self._clock = order, linger_s, serve, clock
        self._wanted = ""
        """What the backend that was asked for is called, once it has hung or failed."""
        self._instead: BackendConfig | None = None
        """What serves in its stead; None: itself."""
        self._faults: deque[float] = deque()
        self._waits, self._again_s = Backoff(*_WAITS_S), _AGAIN_S
        self._at_s = 0.0
        """When it is opened again, while nothing serves and nothing is being opened."""
        self._opening: Opening | None = None
        self._hung: list[Worker] = []
        self._words: dict[str, Any] = {}
        """For status, beside what the engine says of itself: replaced at once, never changed."""
        self._inference: Inference | None = None
        self._worker: Worker | None = None
        self._take_in(model, Pace())

    def ask(self, order: ModelOrder) -> None:
        """From now on make of its output what `order` says; the engine stays as it was ordered."""
        self._order = replace(self._order, options=order.options)
        self.model.task = self._order.task()

    def discard(self, timeout_s: float) -> None:
        """It was never started, and is not wanted."""
        close_aside(self.model).join(timeout_s)

    def start(self) -> None:
        """Serve."""
        assert self._worker is not None  # noqa: S101
        self._worker.start()

    @property
    def description(self) -> dict[str, Any]:
        """What status says of it: the engine's own words, and those about restarts."""
        words = self._words
        said: dict[str, Any] = dict(self.model.engine.description)
        if "state" in words:  # what that engine wanted to be is over
            said = {key: value for key, value in said.items() if key not in ("instead_of", "because", "next")}
        return said | words

    def counts(self) -> dict[str, int]:
        """For metrics."""
        return {"restarts": self.restarts, "hung": len(self._hung)}

    def stuck(self) -> Iterator[Worker]:
        """Threads that hang, and that nothing here replaces."""
        if self._gave_up:
            yield from self._hung
        worker = self._worker
        if worker and (doing := worker.progress.doing) and doing.what == HAND_OVER and worker.progress.overdue_s() > 0:
            yield worker

    @property
    def _gave_up(self) -> bool:
        return len(self._hung) >= MOST_HUNG

    # The main thread's look, each tenth of a second

    def look(self) -> None:
        """See whether it hangs or fails, and how far another one is."""
        if self._hung:
            self._hung = [worker for worker in self._hung if worker.alive]
        if self._inference and self._worker:
            self._judge(self._inference, self._worker)
            return
        self.mailbox.sweep()
        if self._opening:
            self._look_at(self._opening)
        elif self._clock() >= self._at_s and not self._gave_up:
            self._open()

    def _judge(self, inference: Inference, worker: Worker) -> None:
        doing = inference.progress.doing
        if doing is not None and doing.what != HAND_OVER and inference.progress.overdue_s() > 0:
            took_s = (time.monotonic_ns() - doing.since_ns) / 1e9
            self._give_up(inference, worker, f"it hangs ({doing.what}: no answer for {took_s:.1f} s)")
        elif inference.failures.failing:
            self._give_up(inference, worker, f"it fails again and again: {inference.failures.last}")

    def _give_up(self, inference: Inference, worker: Worker, why: str) -> None:
        self._hung.append(worker)  # until it has closed its model: what fails may hang there
        slowest_s = inference.pace.slowest_s
        if self._instead is None:
            self._wanted = self._backend.split()[0]
        lost = inference.abandon()
        self._inference, self._worker = None, None
        self._known_pace = Pace(slowest_s)
        log.error("models.%s: %s: %s; given up, with %d frame%s", self.name, self._backend, why, lost, "s"[: lost != 1])
        self._fault(why)

    def _fault(self, why: str) -> None:
        """Decide what is tried next, and when."""
        now = self._clock()
        while self._faults and now - self._faults[0] > RECENT_S:
            self._faults.popleft()
        if not self._faults:
            self._waits, self._again_s = Backoff(*_WAITS_S), _AGAIN_S
        self._faults.append(now)
        ladder = [None, *(other for other in self._order.backend.instead() if other.called != self._wanted)]
        wanted_served = self._instead is not None and "instead_of" not in self.model.engine.description
        if len(self._faults) > 1 and not wanted_served:
            rung = ladder.index(self._instead) if self._instead in ladder else -1
            self._instead = ladder[(rung + 1) % len(ladder)]
        wait_s = 0.0 if len(self._faults) <= len(ladder) else self._waits.next_s()
        self._at_s = now + wait_s
        words = {"state": "restarting", "because": why, "next": f"{self._planned}: tried again at {_clock(wait_s)}"}
        if self._gave_up:
            words = {"state": "stopped", "because": f"{why}; {MOST_HUNG} threads hang in it: {_ANEW}"}
            log.error("models.%s: %d threads hang in engines of it: %s", self.name, MOST_HUNG, _ANEW)
        self._words = {**self._counted(why), **words}

    def _open(self) -> None:
        self._words = {**self._words, "state": "restarting", "next": f"{self._planned}: opening since {_clock()}"}
        stand_in = None
        if self._instead is not None:
            because, again_s = str(self._words["because"]), self._again_s
            stand_in = StandIn(
                wanted=self._order.backend, serves=self._instead, name=self._wanted, because=because, again_s=again_s
            )
            self._again_s = min(2 * again_s, _AGAIN_MOST_S)
        serve = self._serve or stand_in is not None
        self._opening = Opening(self.name, lambda: self._order.open(stand_in, serve=serve))

    def _look_at(self, opening: Opening) -> None:
        if opening.worker.progress.overdue_s() > 0:
            doing = opening.worker.progress.doing
            why = f"it hangs while it is opened again ({doing.what if doing else 'open'})"
            opening.abandon()
            self._hung.append(opening.worker)
        elif opening.worker.alive:
            return
        elif opening.model is not None:
            self._opening = None
            self._begin(opening.model, opening.slowest_s)
            return
        else:
            why = f"it cannot be opened again: {opening.error or 'no reason given'}"
        self._opening = None
        log.error("models.%s: %s: %s", self.name, self._planned, why)
        self._fault(why)

    def _begin(self, model: Model, slowest_s: float | None) -> None:
        """It serves again."""
        self.restarts += 1
        model.task = self._order.task()  # it may be asked for something else by now
        known = self._known_pace.slowest_s if self._instead is None else None
        self._take_in(model, Pace(max(slowest_s or 0.0, known or 0.0) or None))
        self._words = self._counted(self._words.get("last_fault", ""))
        self.start()

    def _take_in(self, model: Model, pace: Pace) -> None:
        self.model, self._known_pace = model, pace
        self._inference = loop = Inference(self.name, model, self.mailbox, self._linger_s, pace)
        self._worker = Worker(f"engine-{self.name}", loop.run, loop.progress)

    def _counted(self, why: str) -> dict[str, Any]:
        return {"restarts": self.restarts, "last_fault": why} if why else {}

    @property
    def _backend(self) -> str:
        return str(self.model.engine.description["backend"])

    @property
    def _planned(self) -> str:
        return self._wanted if self._instead is None else self._instead.called

    # The end

    def give_up(self) -> None:
        """Nobody waits any longer: what it has ends as failed, and what waits for it."""
        self.mailbox.close()
        if self._opening:
            self._opening.abandon()
        if self._inference:
            self._inference.abandon()
        while requests := self.mailbox.take(1 << 30, 0):
            for request in requests:
                request.ended(request, "failed")

    def stop(self, deadline_s: float) -> None:
        """End it when what waits in its mailbox has an outcome, or at the deadline, on `time.monotonic`."""
        self.mailbox.close()
        worker, inference = self._worker, self._inference
        if worker is None or not worker.join(max(_GRACE_S, deadline_s - time.monotonic())):
            self.give_up()
        elif inference and not inference.abandoned:
            close_aside(self.model).join(max(_GRACE_S, deadline_s - time.monotonic()))
        if self._opening:
            join([self._opening.worker], max(_GRACE_S, deadline_s - time.monotonic()))
        join([*self._hung, *([worker] if worker else [])], _GRACE_S)


_ANEW = "only a new process helps, start the agent anew"


def _clock(in_s: float = 0.0) -> str:
    return time.strftime("%H:%M UTC", time.gmtime(time.time() + in_s))
