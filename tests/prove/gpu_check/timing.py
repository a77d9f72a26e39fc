"""How long things take on a GPU, by the host's clock: many in a row, and one wait at the end."""

from __future__ import annotations

import time
from collections.abc import Callable

from engines.cuda.driver import Driver, Handle

QUEUED = 4
"""Batches that wait in a stream: enough for it never to run dry."""


class Lane:
    """A stream that is kept busy, and never by more than a few."""

    def __init__(self, driver: Driver) -> None:
        self._driver = driver
        self.stream: Handle = driver.stream()
        self._events = [driver.event() for _ in range(QUEUED)]

    def seconds(self, start: Callable[[int], None], times: int) -> float:
        """Call `start` with 0, 1, ..., each putting something into the stream; seconds until all of it is done."""
        began = time.perf_counter()
        for number in range(times):
            event = self._events[number % QUEUED]
            if number >= QUEUED:
                self._driver.synchronise(event)
            start(number)
            self._driver.record(event, self.stream)
        self._driver.synchronise(self._events[(times - 1) % QUEUED])
        return time.perf_counter() - began

    def each(self, start: Callable[[int], None], seconds: float) -> float:
        """Seconds that one takes, of as many as fill about so many seconds; what the first one costs is left out."""
        self.seconds(start, 1)
        one = self.seconds(start, 2) / 2
        times = max(2, min(100_000, round(seconds / max(one, 1e-6))))
        return self.seconds(start, times) / times

    def close(self) -> None:
        """Give everything back."""
        for event in self._events:
            self._driver.destroy_event(event)
        self._driver.destroy_stream(self.stream)
