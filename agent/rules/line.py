"""A line across the picture: what crosses it, and in which direction."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal

from agent.rules import Finding, Rule, RuleConfig, Seen
from agent.values import Point


class Config(RuleConfig):
    """`door: {points: [[0.2, 0.5], [0.8, 0.5]]}`."""

    type: Literal["line"] = "line"
    points: tuple[Point, Point]

    @property
    def needs_tracks(self) -> bool:
        """Always: one object crosses once."""
        return True

    def build(self, name: str, tracked: str | None) -> Rule:
        """See RuleConfig."""
        return Line(name, tracked or "")


class Line(Rule):
    """Knows on which side each track is."""

    kind = "line"

    def __init__(self, name: str, use: str) -> None:
        self.name, self.use = name, use

    def see(self, seen: Seen) -> Iterable[Finding]:  # noqa: ARG002
        """To be written."""
        return ()

    def forget(self) -> None:
        """Nobody has a side."""
