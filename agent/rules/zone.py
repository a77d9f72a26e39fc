"""An area of the picture: what enters it, leaves it, or stays."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal

import cv2
import numpy as np

from agent.rules import Finding, Rule, RuleConfig, Seen
from agent.values import Polygon
from engines.results import Detections


class Config(RuleConfig):
    """`gate: {polygon: [[0.1, 0.5], [0.6, 0.5], [0.6, 1], [0.1, 1]]}`."""

    type: Literal["zone"] = "zone"
    polygon: Polygon
    labels: tuple[str, ...] | None = None

    @property
    def needs_tracks(self) -> bool:
        """Always: one object enters once."""
        return True

    def build(self, name: str, tracked: str | None) -> Rule:
        """See RuleConfig."""
        return Zone(self, name, tracked or "")


class Zone(Rule):
    """Knows which tracks are inside."""

    kind = "zone"

    def __init__(self, config: Config, name: str, use: str) -> None:
        self.name, self.use = name, use
        self._polygon = np.array(config.polygon, np.float32)
        self._inside: set[int] = set()

    def see(self, seen: Seen) -> Iterable[Finding]:
        """Start for each track that came in, end for each that left or is gone."""
        if not isinstance(seen.result, Detections) or seen.track is None:
            return
        for row, track in enumerate(seen.track.tolist()):
            if not track:
                continue
            left, _, right, bottom = seen.result.xyxy[row].tolist()
            foot = ((left + right) / 2 / seen.size[0], bottom / seen.size[1])
            inside = cv2.pointPolygonTest(self._polygon, foot, False) >= 0
            if inside and track not in self._inside:
                self._inside.add(track)
                yield Finding("start", track, row)
            elif not inside and track in self._inside:
                self._inside.discard(track)
                yield Finding("end", track, row, "left")
        for track in self._inside - set(seen.present):
            self._inside.discard(track)
            yield Finding("end", track, None, "gone")

    def forget(self) -> None:
        """Nobody is inside."""
        self._inside.clear()
