"""Something is missing: one incident from when it has not been seen for a while until it is back."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal

from agent.durations import Seconds
from agent.rules import Finding, Rule, Seen
from agent.rules._held import Held
from agent.rules._there import ThereConfig, wanted_rows
from agent.values import Count


class Config(ThereConfig):
    """`{type: absence, labels: [person], after: 1m, back_after: 500ms}`."""

    type: Literal["absence"] = "absence"
    least: Count = 1
    """Fewer than so many at once are missing."""
    after: Seconds = 10.0
    """Not seen for so long, it is missing."""
    back_after: Seconds = 0.5
    """Seen in every frame for so long, it is back."""

    def build(self, name: str, tracked: str | None) -> Rule:
        """See RuleConfig."""
        return Absence(self, name, self.use or tracked or "")


class Absence(Rule):
    """Knows whether it is missing."""

    kind = "absence"

    def __init__(self, config: Config, name: str, use: str) -> None:
        self.name, self.use, self._config = name, use, config
        self._missing = Held(config.after, config.back_after)
        self._last_ns: int | None = None
        """When it was seen last, or the first frame."""

    def see(self, seen: Seen) -> Iterator[Finding]:
        """A start when it is missing, an end when it is back."""
        rows = wanted_rows(seen, self._config)
        few = len(rows) < self._config.least
        if self._last_ns is None or (not few and not self._missing.yes):
            self._last_ns = seen.at_ns
        if self._missing.turns(few, seen.at_ns):
            missing_s = round((seen.at_ns - self._last_ns) / 1e9, 3)
            if self._missing.yes:
                yield Finding("start", self.kind, None, data={"missing_s": missing_s})
            else:
                yield Finding("end", self.kind, rows[0], "over", {"missing_s": missing_s})
                self._last_ns = seen.at_ns

    def forget(self) -> None:
        """It is not missing yet."""
        self._missing.forget()
        self._last_ns = None
