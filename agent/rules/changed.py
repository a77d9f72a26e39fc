"""A picture's class is another one than before."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Literal

from pydantic import Field

from agent.durations import Seconds
from agent.rules import Finding, Kinds, Rule, RuleConfig, Seen
from agent.values import Score
from engines.results import Classification


class Config(RuleConfig):
    """`{type: changed, use: scene, labels: [open, closed], hold: 2s}`."""

    type: Literal["changed"] = "changed"
    use: str
    score: Score = 0.5
    """Least score with which a class can become the present one."""
    lead: Annotated[float, Field(ge=0, lt=1)] = 0.1
    """By so much it must beat the present one to begin with; by so much it may fall below `score` on the way."""
    hold: Seconds = 2.0
    """The best in every frame for so long, it becomes the present one."""

    def build(self, name: str, tracked: str | None) -> Rule:  # noqa: ARG002  # nothing is followed in classes
        """See RuleConfig."""
        return Changed(self, name)

    @property
    def looks_at(self) -> str | None:
        """See RuleConfig."""
        return self.use

    @property
    def understands(self) -> Kinds:
        """Classes only."""
        return (Classification,)


class Changed(Rule):
    """Knows the present class, and which one is about to become it."""

    kind = "changed"

    def __init__(self, config: Config, name: str) -> None:
        self.name, self.use, self._config = name, config.use, config
        self._now: str | None = None
        self._now_since_ns = 0
        self._next: str | None = None
        self._next_since_ns = 0

    def see(self, seen: Seen) -> Iterator[Finding]:
        """A moment when the class has changed; the first one changes from null."""
        names = [seen.labels[label] for label in seen.result.label.tolist()]
        wanted = [row for row, name in enumerate(names) if self._config.labels is None or name in self._config.labels]
        scores = {names[row]: float(seen.result.score[row]) for row in wanted}
        best = max(wanted, key=lambda row: scores[names[row]], default=None)
        if best is None or not self._may_come(names[best], scores):
            self._next = None
            return
        if names[best] != self._next:
            self._next, self._next_since_ns = names[best], seen.at_ns
        if seen.at_ns - self._next_since_ns >= round(self._config.hold * 1e9):
            data: dict[str, str | float | None] = {"from": self._now, "to": self._next}
            if self._now is not None:
                data["lasted_s"] = round((self._next_since_ns - self._now_since_ns) / 1e9, 3)
            self._now, self._now_since_ns, self._next = self._next, self._next_since_ns, None
            yield Finding("moment", self.kind, best, data=data)

    def forget(self) -> None:
        """No class is the present one."""
        self._now = self._next = None

    def _may_come(self, best: str, scores: dict[str, float]) -> bool:
        """Whether the best class can be on its way to becoming the present one."""
        least, lead = self._config.score, self._config.lead
        if best == self._now:
            return False
        if best == self._next:
            return scores[best] >= least - lead
        return scores[best] >= least and scores[best] - scores.get(self._now or "", 0.0) >= lead
