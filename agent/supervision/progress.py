"""What a thread is in the middle of, so that others see when it is stuck there.

A thread that waits for work, or between two tries, is not stuck. One that calls into a driver, a decoder or a disk
says so before, and how long that may take; whoever supervises it looks at `overdue_s` from another thread.
"""

from __future__ import annotations

import time
from dataclasses import dataclass


@dataclass(frozen=True)
class Doing:
    """One call that must return."""

    what: str
    since_ns: int
    """`time.monotonic_ns`"""
    within_s: float


class Progress:
    """Written by its thread, read by any: one attribute, replaced at once, so no lock on the hot path."""

    def __init__(self) -> None:
        self.doing: Doing | None = None
        """None: nothing that could hang."""

    def begin(self, what: str, within_s: float) -> None:
        """The thread goes into something that returns within `within_s`, or is stuck."""
        self.doing = Doing(what, time.monotonic_ns(), within_s)

    def done(self) -> None:
        """It came back."""
        self.doing = None

    def overdue_s(self) -> float:
        """How much longer than allowed the thread has been in there; 0 or less: it is not stuck."""
        doing = self.doing
        return 0.0 if doing is None else (time.monotonic_ns() - doing.since_ns) / 1e9 - doing.within_s
