"""Objects or classes of some labels: what the rules have in common that look at either."""

from __future__ import annotations

from collections.abc import Iterable

from agent.rules import Kinds, RuleConfig, Seen
from agent.values import Score
from engines.results import Classification, Detections

LEAST_SCORE = 0.5
"""Of a class, where nothing else is said: a picture has its best classes also when none of them is good."""


class EitherConfig(RuleConfig):
    """Base of those that look at objects or at classes."""

    use: str | None = None
    """What it looks at; default: the use whose objects are followed."""

    @property
    def looks_at(self) -> str | None:
        """See RuleConfig."""
        return self.use

    @property
    def understands(self) -> Kinds:
        """Both kinds."""
        return Detections, Classification


class ThereConfig(EitherConfig):
    """Base of presence and absence."""

    score: Score | None = None
    """Least score that counts. Default: of objects whatever is reported, of classes 0.5."""


def of_labels(seen: Seen, rows: Iterable[int], config: RuleConfig) -> list[int]:
    """Those of some rows that have a wanted label."""
    label, labels = seen.result.label, config.labels
    return [row for row in rows if labels is None or seen.labels[label[row]] in labels]


def wanted_rows(seen: Seen, config: ThereConfig) -> list[int]:
    """Rows of the wanted labels that count, best first; of a tracked use only those that are followed."""
    least = config.score or (LEAST_SCORE if isinstance(seen.result, Classification) else 0.0)
    rows = (seen.result.score >= least).nonzero()[0].tolist()
    if seen.track is not None:
        rows = [row for row in rows if seen.track[row]]
    return of_labels(seen, rows, config)
