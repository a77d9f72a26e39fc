"""A yes or no that does not flap."""

from __future__ import annotations


class Held:
    """Turns to yes (or back to no) only when that has been so in every frame for long enough."""

    def __init__(self, yes_after_s: float, no_after_s: float) -> None:
        self._after_ns = {True: round(yes_after_s * 1e9), False: round(no_after_s * 1e9)}
        self.yes = False
        self.since_ns = 0
        """When that began for which it has turned."""
        self._other_since_ns: int | None = None

    def turns(self, value: bool, at_ns: int) -> bool:
        """Whether the next frame turns it."""
        if value == self.yes:
            self._other_since_ns = None
            return False
        if self._other_since_ns is None:
            self._other_since_ns = at_ns
        if at_ns - self._other_since_ns < self._after_ns[value]:
            return False
        self.yes, self.since_ns, self._other_since_ns = value, self._other_since_ns, None
        return True

    def forget(self) -> None:
        """No, since for ever."""
        self.yes, self._other_since_ns = False, None
