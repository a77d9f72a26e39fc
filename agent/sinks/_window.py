"""How many events may be on their way at once, so that live results need not wait behind them.

More each time an answer came soon, half when one came late: what waits on the way to the broker stays short, however
slow that way is (the idea of TCP Vegas: Brakmo and Peterson 1995).
"""

from __future__ import annotations

FIRST = 8
LEAST = 4
"""Events are small: so many delay no result by much."""
BYTES = 64 * 1024
"""Of all events on their way, except that one always may be."""


class Window:
    """Guarded by its owner."""

    def __init__(self, most: int) -> None:
        """`most`: what the broker takes at once."""
        self._most = max(1, most)
        self.limit = min(FIRST, self._most)
        self._shrunk_ns = 0

    def has_room(self, count: int, size: int) -> bool:
        """One more may follow `count` events of together `size` bytes."""
        return count == 0 or (count < self.limit and size < BYTES)

    def answered(self, begun_ns: int, now_ns: int, soon_ns: int) -> None:
        """An event handed over at `begun_ns` was answered; within `soon_ns` is soon."""
        if now_ns - begun_ns <= soon_ns:
            self.limit = min(self.limit + 1, self._most)
        elif begun_ns > self._shrunk_ns:  # what was on its way before says nothing new
            self.limit = min(max(LEAST, self.limit // 2), self._most)
            self._shrunk_ns = now_ns
