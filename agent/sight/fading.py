"""A sensor that stands still behind an encoder that does not.

For a while the encoder still has something to send: it refines the picture, and draws it anew with each key frame. But
there is no new noise in it any more, so there is less from second to second, and soon less than this camera's picture
ever changed by. That is asked of the liveliest look of five seconds, because by nature most are nearly still behind
some encoders, and all but key frames behind others; and of the quiet looks between.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass

import numpy as np

from agent.sight.glance import Means

WINDOW_NS = 5_000_000_000
"""More than most cameras have between two key frames. Of those with less this learns what is between them."""
LEAST_LOOKS = 8
"""A window with fewer says nothing: of a camera that gives a picture a second."""
KNOWN_S = 100.0
"""So long a camera must have been watched."""
LATER_NS = 10_000_000_000
"""What is seen is learned so much later: what fades must not be measured by itself."""
HOUR_S = 3600.0
ALIVE = 0.25
"""Levels: a camera whose picture ever changed by less, for five seconds, has no life that could fade."""
FADED, QUIET = 0.85, 0.33
"""Of the least it ever was is the liveliest look, and of theirs are the quiet ones: both at once..."""
HALF = 0.6
"""... or the first alone."""
PROOFS = ((30.0, 0.25), (10.0, HALF), (0.0, 1.0))
"""So long after it was told it has come down to that, or it was natural. Encoders have nothing left to send by then."""
MOVES, MOVING = 6.0, 0.02
"""Levels, and share of the cells, within a window: who moves is no frozen picture, but makes encoders thrifty."""


@dataclass(frozen=True, eq=False)
class Look:
    """What one was like."""

    at_ns: int
    amount: float
    """What half of the cells changed by at least, levels."""
    share: float
    """Of the samples, that changed at all."""
    cells: Means
    """As in a glance, those that may be looked at."""


@dataclass
class Least:
    """The least of this hour and of the one before."""

    peak: float = np.inf
    """Of the liveliest looks of all windows."""
    quiet: float = np.inf
    """Of their quiet looks."""

    def take(self, peak: float, quiet: float) -> None:
        """The next window."""
        self.peak, self.quiet = min(self.peak, peak), min(self.quiet, quiet)


class Fading:
    """Learns how little a camera's picture changes by nature, and tells when it is less."""

    def __init__(self) -> None:
        self.begin_anew()

    def begin_anew(self) -> None:
        """The light is another one, and so is its noise."""
        self._hours, self._hour_s = (Least(), Least()), 0.0
        self._known_s = 0.0
        self._alive_ns = 0
        self.interrupted()

    def interrupted(self) -> None:
        """There was a gap."""
        self._looks: deque[Look] = deque()
        self._later: deque[tuple[int, float, float]] = deque()
        """(time, peak, quiet) of the windows that are to be learned."""
        self._told_s = 0.0
        self.told = False
        self.still_s = 0.0
        """Since the last look that was as lively as ever."""

    def take(self, look: Look, step_s: float) -> None:
        """The next look, `step_s` after the last one."""
        self._looks.append(look)
        least = self._least()
        if look.amount >= least.peak or least.peak == np.inf:
            self._alive_ns = look.at_ns
        self.still_s = (look.at_ns - self._alive_ns) / 1e9
        self._known_s += 0.0 if self.told else step_s
        if not self._whole(step_s):
            return
        peak = max(look.amount for look in self._looks)
        quiet = sorted(look.share for look in self._looks)[len(self._looks) // 3]
        if self.told:
            self._told_s += step_s
            if peak > least.peak * next(most for since_s, most in PROOFS if self._told_s >= since_s):
                self._hours[0].take(peak, np.inf)
                self.interrupted()
        elif self._known_s >= KNOWN_S and least.peak >= ALIVE and _faded(peak, quiet, least) and not self._moves():
            self.told = True
            self._later.clear()
        else:
            self._learn(look.at_ns, peak, quiet, step_s)

    def _whole(self, step_s: float) -> bool:
        """Whether the looks are those of a whole window. Drops older ones."""
        looks, at_ns = self._looks, self._looks[-1].at_ns
        spans = at_ns - looks[0].at_ns + step_s * 1e9 >= WINDOW_NS
        while at_ns - looks[0].at_ns >= WINDOW_NS:
            looks.popleft()
        return spans and len(looks) >= LEAST_LOOKS

    def _moves(self) -> bool:
        by = np.abs(self._looks[-1].cells - self._looks[0].cells)
        return float((by > MOVES).mean()) > MOVING

    def _learn(self, at_ns: int, peak: float, quiet: float, step_s: float) -> None:
        self._hour_s += step_s
        if self._hour_s > HOUR_S:
            self._hours, self._hour_s = (Least(), self._hours[0]), 0.0
        self._later.append((at_ns, peak, quiet))
        while at_ns - self._later[0][0] >= LATER_NS:
            self._hours[0].take(*self._later.popleft()[1:])

    def _least(self) -> Least:
        now, before = self._hours
        return Least(min(now.peak, before.peak), min(now.quiet, before.quiet))


def _faded(peak: float, quiet: float, least: Least) -> bool:
    return peak <= HALF * least.peak or (peak <= FADED * least.peak and quiet <= QUIET * least.quiet)
