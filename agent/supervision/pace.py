"""When an engine hangs and when it fails: judged by its own pace, and by how often in a row."""

from __future__ import annotations

import time

LEAST_S = 4.0
"""Nothing is called hung before: a machine that swaps or is put to sleep makes everybody wait. With a look each tenth
of a second, engines that take up to 0.4 s for a batch are found hanging within 5 s."""
TIMES = 10
MOST_MORE_S = 60.0
FIRST_S = 30.0
"""Of an engine of which nothing is known: the first batch loads and allocates."""
_FORGETS = 0.98
"""What one slow batch allows fades with each that follows."""
FAILURES, FAILING_S = 3, 2.0


class Pace:
    """How long the engine takes for a batch, and so how long is too long. One thread writes, any reads."""

    def __init__(self, slowest_s: float | None = None) -> None:
        """`slowest_s`: of the batches of late; None: not known."""
        self.slowest_s = slowest_s

    def took(self, seconds: float) -> None:
        """For one batch, or from one to the next."""
        self.slowest_s = max(seconds, _FORGETS * (self.slowest_s or 0.0))

    @property
    def limit_s(self) -> float:
        """Ten times what it takes, so that one that takes 3 s for a picture, on a small machine, is left alone."""
        if self.slowest_s is None:
            return FIRST_S
        return max(LEAST_S, min(TIMES * self.slowest_s, self.slowest_s + MOST_MORE_S))


class Failures:
    """Batches that failed in a row, of whatever picture. One thread writes, any reads."""

    def __init__(self) -> None:
        self.last = ""
        self._row = 0
        self._since_ns = 0

    def one(self, error: Exception) -> None:
        """One more."""
        if not self._row:
            self._since_ns = time.monotonic_ns()
        self.last = str(error)
        self._row += 1

    def none(self) -> None:
        """A batch worked."""
        self._row = 0

    @property
    def failing(self) -> bool:
        """Not one picture that it cannot take, nor one bad moment."""
        return self._row >= FAILURES and time.monotonic_ns() - self._since_ns >= FAILING_S * 1e9
