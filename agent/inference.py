"""The loop of an engine's thread: take what waits, keep the engine busy, hand the results to their owners.

It says of itself how long the engine may take (`progress`) and how often in a row it failed (`failures`); whoever
looks after it may `abandon` it from another thread. What it has then ends as failed, at once and only once: when its
thread comes back, nobody waits for that any more.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from dataclasses import dataclass

from agent.flow import Mailbox, Outcome, Request
from agent.supervision.opening import CLOSE_S, close_quietly
from agent.supervision.pace import Failures, Pace
from agent.supervision.progress import Progress
from engines.base import Ticket
from engines.errors import BackendError, EngineError, PictureError, first_line
from engines.model import Model
from engines.pixels import Geometry, Picture

log = logging.getLogger(__name__)


GLANCE_S = 0.0005
"""While a batch is under way and there is room for another: how long to look for requests before looking whether it is
done. Waiting for the batch instead would leave a newcomer, and an idle stream, waiting as well."""
INFER, HAND_OVER = "infer", "hand over"
HAND_OVER_S = 30.0
"""How long cameras, rules and sinks may take with results: they queue, so this is a fault of ours or a dead disk."""


@dataclass(eq=False)
class _Row:
    """One region of one request, on its way to a row of a batch."""

    request: Request
    index: int
    geometry: Geometry


@dataclass(eq=False)
class _Flight:
    rows: list[_Row]
    ticket: Ticket
    submitted_ns: int


class Inference:
    """Serves one mailbox with one model; `run` is the thread's work."""

    def __init__(
        self, name: str, model: Model, mailbox: Mailbox, linger_s: float = 0.0, pace: Pace | None = None
    ) -> None:
        """`pace`: what is known of the engine already."""
        self._name, self._model, self._mailbox, self._linger_s = name, model, mailbox, linger_s
        self._waiting: deque[_Row] = deque()
        self._flights: deque[_Flight] = deque()
        self._complained = ""
        self._begun_ns = 0
        self._lock = threading.Lock()
        # What follows is guarded by _lock.
        self._unread: dict[Request, int] = {}
        self._failed: set[Request] = set()
        self._abandoned = False
        self.pace, self.failures, self.progress = pace or Pace(), Failures(), Progress()
        model.engine.slow = self.progress.begin

    def run(self, stop: threading.Event) -> None:  # noqa: ARG002  # ends when its mailbox is closed and drained
        """Until the mailbox is closed and everything in it has an outcome, or until nobody waits for it any more."""
        try:
            self._serve()
        finally:
            self.progress.done()

    def _serve(self) -> None:
        if self._flights:  # a fault of ours ended this before
            self._begin()
        while not self._abandoned:
            # Asked anew each time: the engine may be another one by now (`engines.handover`).
            room = len(self._flights) < self._model.engine.depth
            if room and not self._waiting:
                self._take(wait_s=GLANCE_S if self._flights else 0.5)
            if room and self._waiting:
                self._launch()
            elif self._flights and (not room or self._flights[0].ticket.done() or self._mailbox.drained):
                self._land(self._flights.popleft())
            elif not self._flights and self._mailbox.drained:
                return
        self._leave()

    @property
    def abandoned(self) -> bool:
        """Whether its thread closes the model itself, when it comes back."""
        return self._abandoned

    def abandon(self) -> int:
        """End what it has as failed, and let its thread go when it comes back; return how much that was. Any thread."""
        with self._lock:
            self._abandoned = True
            left = list(self._unread)
            self._unread.clear()
            self._failed.clear()
        self._model.engine.abandon()
        for request in left:
            self._end(request, "failed")
        return len(left)

    def _end(self, request: Request, outcome: Outcome) -> None:
        """What goes wrong with one camera's answer is no other camera's matter."""
        try:
            request.ended(request, outcome)
        except Exception as error:
            if str(error) != self._complained:
                self._complained = str(error)
                log.exception("%s: a fault of ours in what becomes of frames of %s", self._name, request.key[0])

    def _leave(self) -> None:
        """Nobody else closes an engine that hung; this may hang, too."""
        self._flights.clear()
        self._waiting.clear()
        self.progress.begin("close", CLOSE_S)
        close_quietly(self._model)

    def _take(self, wait_s: float) -> None:
        engine = self._model.engine
        streams = max(1, int(engine.description.get("streams", 1)))  # the one beyond them waits in the device's queue
        idle = max(0.0, 1 - len(self._flights) / streams)
        for request in self._mailbox.take(engine.max_batch, wait_s, self._linger_s, idle):
            now_ns = time.monotonic_ns()
            if request.stale(now_ns):
                self._end(request, "stale")
                continue
            request.timing.wait = now_ns - request.offered_ns
            image = request.frame.image
            try:
                rows = [_Row(request, i, self._model.geometry(image, r)) for i, r in enumerate(request.regions)]
            except EngineError as error:
                self._complain(request, error)
                self._end(request, "failed")
                continue
            request.results = [None] * len(rows)
            with self._lock:
                abandoned = self._abandoned
                if not abandoned:
                    self._unread[request] = len(rows)
            if abandoned:
                self._end(request, "failed")
            else:
                self._waiting.extend(rows)

    def _launch(self) -> None:
        engine = self._model.engine
        rows = [self._waiting.popleft() for _ in range(min(engine.max_batch, len(self._waiting)))]
        if not self._flights:
            self._begin()
        started_ns = time.monotonic_ns()
        try:
            pictures = [Picture(r.request.frame.image, r.request.regions[r.index]) for r in rows]
            batch = engine.prepare(pictures, [r.geometry for r in rows])
            submitted_ns = time.monotonic_ns()
            ticket = engine.submit(batch)
        except Exception as error:  # noqa: BLE001  # whatever a backend raises, its frames need an outcome
            if not self._flights:
                self.progress.done()
            self._fail(rows, error)
            return
        name = self._model.name
        for request in {row.request for row in rows}:
            request.timing.prepare += submitted_ns - started_ns
            request.model = name
        self._flights.append(_Flight(rows, ticket, submitted_ns))

    def _land(self, flight: _Flight) -> None:
        failure: Exception | None = None
        try:
            raw = flight.ticket.result()
            done_ns = time.monotonic_ns()
            results = self._model.read(raw, [row.geometry for row in flight.rows])
        except Exception as error:  # noqa: BLE001  # as in _launch
            failure = error
        try:
            flight.ticket.release()
        except Exception as error:  # noqa: BLE001  # as in _launch
            failure = failure or error
        read_ns = time.monotonic_ns()
        self._measure(read_ns)
        self.progress.begin(HAND_OVER, HAND_OVER_S)
        if failure is None:
            self.failures.none()
            for request in {row.request for row in flight.rows}:
                request.timing.infer += done_ns - flight.submitted_ns
                request.timing.read += read_ns - done_ns
            for row, result in zip(flight.rows, results, strict=True):
                row.request.results[row.index] = result
                self._settle(row.request)
        else:
            self._fail(flight.rows, failure)
            failure = None  # its traceback has this frame: pictures would stay until the collector comes by
        self.progress.done()
        if self._flights:
            self._begin()

    def _begin(self) -> None:
        """From now on the engine has something to do, and comes forward within its time, or hangs."""
        self._begun_ns = time.monotonic_ns()
        self.progress.begin(INFER, self.pace.limit_s)

    def _measure(self, now_ns: int) -> None:
        doing = self.progress.doing
        if doing is not None and doing.what == INFER:  # not what an engine does beside: it makes another one ready, say
            self.pace.took((now_ns - self._begun_ns) / 1e9)

    def _fail(self, rows: list[_Row], error: Exception) -> None:
        if not isinstance(error, EngineError):
            fault = BackendError(f"a fault of the backend: {type(error).__name__}: {first_line(error)}")
            if str(fault) != self._complained:
                log.error("%s: %s", self._name, fault, exc_info=error)
            self._complained, error = str(fault), fault
        elif not self._abandoned:
            self._complain(rows[0].request, error)
        if not isinstance(error, PictureError):
            self.failures.one(error)
        with self._lock:
            self._failed.update(row.request for row in rows if row.request in self._unread)
        for row in rows:
            self._settle(row.request)

    def _settle(self, request: Request) -> None:
        """One region has its answer; the last one ends the request, unless that was done when this was abandoned."""
        with self._lock:
            left = self._unread.get(request, 0) - 1
            if left < 0:
                return
            if left:
                self._unread[request] = left
                return
            del self._unread[request]
            outcome: Outcome = "failed" if request in self._failed else "inferred"
            self._failed.discard(request)
        self._end(request, outcome)

    def _complain(self, request: Request, error: EngineError) -> None:
        """Say each fault once, not thirty times a second; the counters say how often."""
        if str(error) != self._complained:
            self._complained = str(error)
            # In words: whoever keeps the record would keep the exception's frames, and so the picture.
            log.error("%s: frame %d of %s: %s", self._name, request.frame.seq, request.key[0], self._complained)
