"""Threads that are looked after: named, counted, restarted with backoff when a fault of ours ends them."""

from __future__ import annotations

import logging
import random
import threading
import time
from collections.abc import Callable, Iterable

from agent.supervision.progress import Progress

log = logging.getLogger(__name__)


class Backoff:
    """Growing waits between tries, with jitter so that a hundred agents do not come back in the same second."""

    def __init__(self, first_s: float, most_s: float, jitter: tuple[float, float] = (0.5, 1)) -> None:
        """`jitter`: a wait is between these shares of its step."""
        self._first_s, self._most_s, self._jitter = first_s, most_s, jitter
        self._next_s = first_s

    def next_s(self) -> float:
        """How long to wait before the next try, by the current step; then the step doubles."""
        step_s = self._next_s
        self._next_s = min(self._most_s, step_s * 2)
        return step_s * random.uniform(*self._jitter)

    def reset(self) -> None:
        """It worked: the next wait is the first again."""
        self._next_s = self._first_s


class Worker:
    """One thread running `work(stop)` until it returns. An unexpected exception is logged and `work` is run again."""

    def __init__(self, name: str, work: Callable[[threading.Event], None], progress: Progress | None = None) -> None:
        """`progress`: what `work` says of itself."""
        self.name = name
        self.progress = progress or Progress()
        self.stop = threading.Event()
        self.restarts = 0
        self._work = work
        # Daemon: a reader stuck in a driver must not keep a stopped agent alive; `join` says if that happened.
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    def join(self, deadline_s: float) -> bool:
        """Wait for the end; False if it was not reached within `deadline_s`."""
        self._thread.join(deadline_s)
        return not self._thread.is_alive()

    @property
    def alive(self) -> bool:
        """Whether the thread still runs."""
        return self._thread.is_alive()

    def _run(self) -> None:
        backoff = Backoff(0.5, 30)
        while True:
            started = time.monotonic()
            try:
                self._work(self.stop)
                return
            except Exception:
                log.exception("%s: stopped by a fault of ours; it is started again", self.name)
            self.restarts += 1
            if time.monotonic() - started > 60:
                backoff.reset()
            if self.stop.wait(backoff.next_s()):
                return


def join(workers: Iterable[Worker], timeout_s: float) -> None:
    """Wait for them to end, so long in all; those that do not are left behind, and said."""
    end_s = time.monotonic() + timeout_s
    for worker in workers:
        if not worker.join(max(0.0, end_s - time.monotonic())):
            log.warning("%s: does not end; left behind", worker.name)
