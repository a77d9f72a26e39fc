"""Which frame becomes an incident's picture: the newest of the best, one waiting for each incident."""

from __future__ import annotations

import math
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass, field

from agent.frame import Frame
from engines.results import Detections, Result

BETTER = 1.25
"""A picture is replaced by one that is worth so much more: each costs some ms and a file's writing."""
_CUT_OFF = 0.5
"""What an object is worth that the picture's edge cuts, as a share of one that is all there."""
_EDGE = 0.005
"""Share of the picture's side: a box that comes so near touches its edge."""
MOST_INCIDENTS = 1000
"""Of one camera, that are remembered: those of moments are never ended."""


@dataclass(frozen=True, eq=False)
class Candidate:
    """A frame that waits to become a picture."""

    name: str
    """Of the file."""
    incident: str
    frame: Frame
    result: Result | None
    """What is drawn on it."""
    labels: Sequence[str]

    @property
    def bytes(self) -> int:
        """Of its pixels."""
        return sum(plane.nbytes for plane in self.frame.image.planes)


@dataclass(eq=False)
class Standing:
    """What there is of one incident."""

    worth: float = 0.0
    """Of the best frame so far."""
    waiting: Candidate | None = None
    making: bool = False
    """It has been taken, and is being encoded."""
    made: bool = False
    over: bool = False

    @property
    def promised(self) -> bool:
        """There is a picture, or there will be one."""
        return self.made or self.making or self.waiting is not None


@dataclass(eq=False)
class Choice:
    """The incidents of one camera. Guarded by its owner."""

    incidents: OrderedDict[str, Standing] = field(default_factory=OrderedDict)
    waiting: OrderedDict[str, Candidate] = field(default_factory=OrderedDict)
    """Incident -> what waits, longest waiting first."""

    def wait(self, candidate: Candidate, worth: float) -> Candidate | None:
        """Let a candidate wait; returns the one of its incident that it replaces."""
        standing = self.incidents.setdefault(candidate.incident, Standing())
        standing.worth, before, standing.waiting = worth, standing.waiting, candidate
        self.waiting[candidate.incident] = candidate  # which keeps its place in line
        if len(self.incidents) > MOST_INCIDENTS:
            self._forget_oldest()
        return before

    def take(self) -> Candidate:
        """The next one to encode: an incident without any picture goes first."""
        first = next((name for name in self.waiting if not self.incidents[name].made), next(iter(self.waiting)))
        self.incidents[first].waiting, self.incidents[first].making = None, True
        return self.waiting.pop(first)

    def made(self, candidate: Candidate, worked: bool) -> None:
        """What was taken is a picture now, or could not become one."""
        standing = self.incidents.get(candidate.incident)
        if standing is None:
            return
        standing.making = False
        standing.made |= worked
        if not worked and standing.waiting is None:
            standing.worth = 0.0  # the next frame may have better luck
        if standing.over and standing.waiting is None:
            del self.incidents[candidate.incident]

    def ended(self, incident: str) -> bool:
        """No more frames will be offered for it; whether it has a picture or will have one."""
        standing = self.incidents.get(incident)
        if standing is None:
            return False
        standing.over = True
        if standing.waiting is None and not standing.making:
            del self.incidents[incident]
        return standing.promised

    def _forget_oldest(self) -> None:
        done = (name for name, each in self.incidents.items() if each.waiting is None and not each.making)
        oldest = next(done, None)
        if oldest is not None:
            del self.incidents[oldest]


def worth(result: Result, row: int | None, score: float, size: tuple[int, int]) -> float:
    """How good a picture of it a frame is: the score, times the share of the picture's side that the object takes."""
    if row is None or not isinstance(result, Detections):
        return score
    left, top, right, bottom = result.xyxy[row].tolist()
    width, height = size
    share = max(0.0, right - left) * max(0.0, bottom - top) / (width * height)
    x, y = width * _EDGE, height * _EDGE
    cut = left < x or top < y or right > width - x or bottom > height - y
    return score * math.sqrt(share) * (_CUT_OFF if cut else 1.0)
