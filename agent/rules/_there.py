"""Whether objects or classes of some labels are there: what presence and absence have in common."""

from __future__ import annotations

from agent.rules import Kinds, RuleConfig, Seen
from agent.values import Score
from engines.results import Classification, Detections

LEAST_SCORE = 0.5
"""Of a class, where nothing else is said: a picture has its best classes also when none of them is good."""


class ThereConfig(RuleConfig):
    """Base of both."""

    use: str | None = None
    """What it looks at; default: the use whose objects are followed."""
    score: Score | None = None
    """Least score that counts. Default: of objects whatever is reported, of classes 0.5."""

    @property
    def looks_at(self) -> str | None:
        """See RuleConfig."""
        return self.use

    @property
    def understands(self) -> Kinds:
        """Both kinds."""
        return Detections, Classification


def wanted_rows(seen: Seen, config: ThereConfig) -> list[int]:
    """Rows of the wanted labels that count, best first; of a tracked use only those that are followed."""
    least = config.score or (LEAST_SCORE if isinstance(seen.result, Classification) else 0.0)
    rows = (seen.result.score >= least).nonzero()[0].tolist()
    if seen.track is not None:
        rows = [row for row in rows if seen.track[row]]
    if config.labels is not None:
        rows = [row for row in rows if seen.labels[seen.result.label[row]] in config.labels]
    return list(rows)
