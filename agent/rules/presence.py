"""Something is there: one incident from when it is seen until it has not been seen for a while."""

from __future__ import annotations

from collections.abc import Hashable, Iterator, Mapping
from typing import Literal

from agent.durations import Seconds
from agent.rules import Finding, Rule, Seen
from agent.rules._held import Held
from agent.rules._there import ThereConfig, wanted_rows
from agent.values import Count


class Config(ThereConfig):
    """`{type: presence, labels: [person], after: 500ms, gone_after: 5s}`."""

    type: Literal["presence"] = "presence"
    least: Count = 1
    """So many at once."""
    after: Seconds = 0.5
    """Seen in every frame for so long, it is there."""
    gone_after: Seconds = 5.0
    """Not seen for so long, it is gone."""

    def build(self, name: str, tracked: str | None) -> Rule:
        """See RuleConfig."""
        return Presence(self, name, self.use or tracked or "")


class Presence(Rule):
    """Knows whether it is there."""

    kind = "presence"

    def __init__(self, config: Config, name: str, use: str) -> None:
        self.name, self.use, self._config = name, use, config
        self._there = Held(config.after, config.gone_after)
        self._since_ns = self._last_ns = 0
        self._showing: dict[Hashable, int] = {}

    def see(self, seen: Seen) -> Iterator[Finding]:
        """A start when it is there, an end when it is gone."""
        rows = wanted_rows(seen, self._config)
        enough = len(rows) >= self._config.least
        turns = self._there.turns(enough, seen.at_ns)
        if enough:
            self._last_ns = seen.at_ns
        self._showing = {self.kind: rows[0]} if enough and self._there.yes else {}
        if turns and self._there.yes:
            self._since_ns = self._there.since_ns
            yield Finding("start", self.kind, rows[0], data={"count": len(rows)}, since_ns=self._since_ns)
        elif turns:
            there_s = round((self._last_ns - self._since_ns) / 1e9, 3)
            yield Finding("end", self.kind, None, "gone", {"there_s": there_s})

    def forget(self) -> None:
        """It is not there."""
        self._there.forget()
        self._showing = {}

    @property
    def showing(self) -> Mapping[Hashable, int]:
        """The best of what is there."""
        return self._showing
