"""Runs checks side by side, none longer than its limit, and gives their findings in order."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace

from agent.doctor.findings import Finding, problem
from agent.doctor.room import no_answer
from agent.secrets import redact


@dataclass(frozen=True)
class Check:
    """One thing to look at."""

    topic: str
    look: Callable[[], Iterable[Finding]]
    limit_s: float = 5.0
    if_stuck: str = "sightwire doctor"
    """What to try when the check does not end: usually, what hangs for others too."""


def examine(checks: Sequence[Check]) -> list[Finding]:
    """Findings of all checks, in their order. Returns when all have ended or used up their time; never raises."""
    started_s = time.monotonic()
    looks = [_Look(check) for check in checks]
    return [finding for look in looks for finding in look.findings(started_s)]


class _Look:
    """A check in a thread of its own. The thread of a check that hangs is left to the end of the process."""

    def __init__(self, check: Check) -> None:
        self._check = check
        self._found: list[Finding] = []
        self._thread = threading.Thread(target=self._run, name=f"doctor-{check.topic}", daemon=True)
        self._thread.start()

    def _run(self) -> None:
        try:
            for finding in self._check.look():
                self._found.append(finding)
        except Exception as error:  # noqa: BLE001 - whatever is wrong with a check, the others are still worth reading
            text = f"check failed: {type(error).__name__}: {str(error)[:200]}"
            mend = "if nothing else is wrong here, report this line: it is a mistake of sightwire's own"
            self._found.append(problem(self._check.topic, text, mend))

    def findings(self, started_s: float) -> list[Finding]:
        limit_s = self._check.limit_s
        self._thread.join(max(0.0, started_s + limit_s - time.monotonic()))
        stuck = self._thread.is_alive()
        found = list(self._found)
        if stuck:
            found.append(problem(self._check.topic, no_answer(limit_s), self._check.if_stuck))
        return [replace(f, text=_line(f.text), mend=f.mend and _line(f.mend)) for f in found]


def _line(text: str) -> str:
    """One line, without credentials: what others say may have more of both."""
    return redact(" ".join(text.split()))
