"""Whether the whole process stood still: stopped by a debugger, or its machine by another one.

Every thread is overdue then, and none of them hangs: what they waited for comes as soon as they run again.
"""

from __future__ import annotations

import time

_STOOD_STILL_S = 1.0
_PATIENCE_S = 2.0
"""For threads to go on."""


class Standstill:
    """Of who looks after threads each tenth of a second."""

    def __init__(self) -> None:
        self._looked_s = time.monotonic()
        self._patient_until_s = 0.0

    def begin(self) -> None:
        """From now on it is looked; whatever took long before was no standstill."""
        self._looked_s = time.monotonic()

    def over(self) -> bool:
        """Whether who is overdue now hangs. To be asked at each look."""
        now, before = time.monotonic(), self._looked_s
        self._looked_s = now
        if now - before > _STOOD_STILL_S:
            self._patient_until_s = now + _PATIENCE_S
        return now >= self._patient_until_s
