"""The model is not sure: a human should have a look."""

from __future__ import annotations

from collections.abc import Hashable, Iterator, Mapping
from dataclasses import dataclass
from typing import Annotated, Literal

from pydantic import Field

from agent.durations import Seconds
from agent.rules import Finding, Rule, Seen
from agent.rules._held import Held
from agent.rules._there import EitherConfig, of_labels
from agent.values import Score
from engines.results import Classification

RECOVERY = 0.05
"""A picture that was undecided is decided again when its score is better by so much than what was asked."""


class Config(EitherConfig):
    """`{type: undecided, use: scene, under: 0.6, lead: 0.2, after: 2s}`."""

    type: Literal["undecided"] = "undecided"
    under: Score = 0.6
    """Scores under this are not sure."""
    lead: Annotated[float, Field(ge=0, lt=1)] = 0.0
    """Classes: nor is a best one that beats the second by less."""
    after: Seconds = 2.0
    """Not sure for so long (of a tracked object: since it was first seen), it asks; sure for so long, it is over."""

    def build(self, name: str, tracked: str | None) -> Rule:
        """See RuleConfig."""
        use = self.use or tracked or ""
        return UndecidedObjects(self, name, use) if use == tracked else Undecided(self, name, use)


class Undecided(Rule):
    """A picture's class, or whatever objects it shows: one incident."""

    kind = "undecided"

    def __init__(self, config: Config, name: str, use: str) -> None:
        self.name, self.use, self._config = name, use, config
        self._asking = Held(config.after, config.after)
        self._showing: dict[Hashable, int] = {}

    def see(self, seen: Seen) -> Iterator[Finding]:
        """A start when it asks, an end when it does no longer."""
        rows = of_labels(seen, range(len(seen.result)), self._config)
        scores = sorted((float(score) for score in seen.result.score[rows]), reverse=True)
        least = self._config.under + RECOVERY * self._asking.yes
        if isinstance(seen.result, Classification):
            best, second = [*scores, 0.0, 0.0][:2]
            lead = self._config.lead + RECOVERY * (self._asking.yes and self._config.lead > 0)
            unsure = best < least or best - second < lead
            told, doubtful = best, rows
        else:
            doubtful = [row for row in rows if seen.result.score[row] < least]
            unsure, told = bool(doubtful), max((float(seen.result.score[row]) for row in doubtful), default=0.0)
        turns = self._asking.turns(unsure, seen.at_ns)
        if not (turns or self._asking.yes):
            return
        row = max(doubtful or rows, key=lambda row: float(seen.result.score[row]), default=None)
        self._showing = {self.kind: row} if row is not None and unsure and self._asking.yes else {}
        if turns and self._asking.yes:
            data = {"score": round(told, 4), "under": self._config.under}
            yield Finding("start", self.kind, row, data=data, since_ns=self._asking.since_ns)
        elif turns:
            yield Finding("end", self.kind, row, "over")

    def forget(self) -> None:
        """Nothing is asked."""
        self._asking.forget()
        self._showing = {}

    @property
    def showing(self) -> Mapping[Hashable, int]:
        """The best of what is doubtful."""
        return self._showing


@dataclass(eq=False)
class _Doubt:
    """One object that has never been sure."""

    since_ns: int
    best: float = 0.0
    asked: bool = False


class UndecidedObjects(Rule):
    """Objects that are followed: an incident for each whose best score so far is not enough."""

    kind = "undecided"

    def __init__(self, config: Config, name: str, use: str) -> None:
        self.name, self.use, self._config = name, use, config
        self._after_ns = round(config.after * 1e9)
        self._doubts: dict[int, _Doubt] = {}
        self._sure: set[int] = set()

    def see(self, seen: Seen) -> Iterator[Finding]:
        """A start for each object that it asks about, an end when one good look at it was had, or it is gone."""
        if seen.track is None:
            return
        tracks, scores = seen.track.tolist(), seen.result.score.tolist()
        for row in of_labels(seen, range(len(seen.result)), self._config):
            track, score = tracks[row], scores[row]
            if not track or track in self._sure:
                continue
            doubt = self._doubts.setdefault(track, _Doubt(seen.at_ns))
            doubt.best = max(doubt.best, score)
            data = {"score": round(doubt.best, 4), "under": self._config.under}
            if score >= self._config.under:
                self._sure.add(track)
                if self._doubts.pop(track).asked:
                    yield Finding("end", track, row, "over", data)
            elif not doubt.asked and seen.at_ns - doubt.since_ns >= self._after_ns:
                doubt.asked = True
                yield Finding("start", track, row, data=data)
        present = {*seen.present, *tracks}
        for track in sorted(self._doubts.keys() - present):
            if self._doubts.pop(track).asked:
                yield Finding("end", track, None, "gone")
        self._sure &= present

    def forget(self) -> None:
        """Nobody is known."""
        self._doubts.clear()
        self._sure.clear()
