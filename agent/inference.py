"""The loop of an engine's thread: take what waits, keep the engine busy, hand the results to their owners."""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from dataclasses import dataclass

from agent.flow import Mailbox, Request
from agent.supervision.progress import Progress
from engines.base import Ticket
from engines.errors import EngineError
from engines.model import Model
from engines.pixels import Geometry, Picture

log = logging.getLogger(__name__)


GLANCE_S = 0.0005
"""While a batch is under way and there is room for another: how long to look for requests before looking whether it is
done. Waiting for the batch instead would leave a newcomer, and an idle stream, waiting as well."""


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

    def __init__(self, name: str, model: Model, mailbox: Mailbox, linger_s: float = 0.0) -> None:
        self._name, self._model, self._mailbox, self._linger_s = name, model, mailbox, linger_s
        self._waiting: deque[_Row] = deque()
        self._flights: deque[_Flight] = deque()
        self._unread: dict[Request, int] = {}
        self._failed: set[Request] = set()
        self._complained = ""
        self.progress = Progress()

    def run(self, stop: threading.Event) -> None:  # noqa: ARG002  # ends when its mailbox is closed and drained
        """Until the mailbox is closed and everything in it has an outcome."""
        while True:
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

    def _take(self, wait_s: float) -> None:
        engine = self._model.engine
        streams = max(1, int(engine.description.get("streams", 1)))  # the one beyond them waits in the device's queue
        idle = max(0.0, 1 - len(self._flights) / streams)
        for request in self._mailbox.take(engine.max_batch, wait_s, self._linger_s, idle):
            now_ns = time.monotonic_ns()
            if request.stale(now_ns):
                request.ended(request, "stale")
                continue
            request.timing.wait = now_ns - request.offered_ns
            image = request.frame.image
            try:
                rows = [_Row(request, i, self._model.geometry(image, r)) for i, r in enumerate(request.regions)]
            except EngineError as error:
                self._complain(request, error)
                request.ended(request, "failed")
                continue
            request.results = [None] * len(rows)
            self._unread[request] = len(rows)
            self._waiting.extend(rows)

    def _launch(self) -> None:
        engine = self._model.engine
        rows = [self._waiting.popleft() for _ in range(min(engine.max_batch, len(self._waiting)))]
        started_ns = time.monotonic_ns()
        try:
            pictures = [Picture(r.request.frame.image, r.request.regions[r.index]) for r in rows]
            batch = engine.prepare(pictures, [r.geometry for r in rows])
            submitted_ns = time.monotonic_ns()
            ticket = engine.submit(batch)
        except EngineError as error:
            self._fail(rows, error)
            return
        name = self._model.name
        for request in {row.request for row in rows}:
            request.timing.prepare += submitted_ns - started_ns
            request.model = name
        self._flights.append(_Flight(rows, ticket, submitted_ns))

    def _land(self, flight: _Flight) -> None:
        try:
            raw = flight.ticket.result()
            done_ns = time.monotonic_ns()
            results = self._model.read(raw, [row.geometry for row in flight.rows])
        except EngineError as error:
            self._fail(flight.rows, error)
            return
        finally:
            flight.ticket.release()
        read_ns = time.monotonic_ns()
        for request in {row.request for row in flight.rows}:
            request.timing.infer += done_ns - flight.submitted_ns
            request.timing.read += read_ns - done_ns
        for row, result in zip(flight.rows, results, strict=True):
            row.request.results[row.index] = result
            self._settle(row.request)

    def _fail(self, rows: list[_Row], error: EngineError) -> None:
        self._complain(rows[0].request, error)
        for row in rows:
            self._failed.add(row.request)
            self._settle(row.request)

    def _settle(self, request: Request) -> None:
        """One region has its answer; the last one ends the request."""
        self._unread[request] -= 1
        if self._unread[request]:
            return
        del self._unread[request]
        failed = request in self._failed
        self._failed.discard(request)
        request.ended(request, "failed" if failed else "inferred")

    def _complain(self, request: Request, error: EngineError) -> None:
        """Say each fault once, not thirty times a second; the counters say how often."""
        if str(error) != self._complained:
            self._complained = str(error)
            log.error("%s: frame %d of %s: %s", self._name, request.frame.seq, request.key[0], error)
