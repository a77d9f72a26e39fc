"""A picture that stands still though the stream goes on, told from a scene in which nothing happens.

Of one picture nobody can say which it is. Most cameras' pixels never rest: noise changes some in every frame. But an
encoder that is told to save bits passes noise over, and then a quiet scene is the same to the bit, for seconds or for
hours. So each camera is compared with itself: how long its picture was still at most, by nature, is learned, and a
stillness is told that is clearly longer than that, once enough has been seen to know.
"""

from __future__ import annotations

from collections import deque
from statistics import median

import numpy as np

from agent.sight.glance import Glance, changes
from agent.sight.settings import BlindSection

LEAST_S = 5.0
"""No stillness shorter than this is told..."""
LEAST_LOOKS = 8
"""... nor one of fewer looks: of a camera that gives a picture a minute."""
FACTOR = 2.0
"""A stillness is told from so many times the longest one that was natural..."""
SEEN = 20
"""... when the camera has been watched for so many times as long as that takes."""
HARDLY = 0.1
"""Of the cells may change in a picture that stands still: those with a clock in them..."""
QUIETER = 3.0
"""... or all of them by so much less than they ever do, when an encoder refines it."""
LOWEST, REMEMBERED, RECKONED = 0.1, 240, 20
"""What they ever do is this quantile of so many looks, reckoned anew after so many."""
OTHER, OTHERS = 6.0, 0.03
"""Levels, and share of the cells: something is where it was not when the stillness began."""
DARKER = 0.75
"""Of its light leaves another picture: with the light goes the noise, and what is left an encoder may pass over."""
DAY_S = 86_400.0
GAP_S = 2.0
"""After so long without a look, or three times as long as usual, nothing is known of the time between."""
AWAKE_S = 5.0
"""How long is looked, after a stillness that was told, at how the picture goes on."""


class Stillness:
    """One definition of still, and what is learned of it."""

    def __init__(self, looks: int, patience_s: float | None = None) -> None:
        """It takes so many looks in a row that are not still to end it. `patience_s`: instead of what is learned."""
        self._looks, self._patience_s = looks, patience_s
        self.told = False
        self.run_s = 0.0
        """How long it has been still."""
        self._longest = [0.0, 0.0]
        """Of this day and of the one before, s."""
        self._day_s = 0.0
        self._typical = 0.0
        """Share of the cells that change from look to look, mean of the last minute that was not still."""
        self.begin_anew()

    def begin_anew(self) -> None:
        """The light is another one: what is seen from now on is to be learned first. Longest times stay known."""
        self._watched_s = self.run_s = 0.0
        self._run_looks = self._other = 0
        self._awake: list[float] = []
        self._awake_s = self._told_s = 0.0
        self.told = False

    @property
    def patience_s(self) -> float:
        """How long it must be still to be told."""
        return self._patience_s or max(LEAST_S, FACTOR * max(self._longest) + 1)

    def take(self, still: bool, share: float, step_s: float) -> None:
        """The next look, `step_s` after the last one; in that share of the cells something changed."""
        self._day_s += step_s
        if self._day_s > DAY_S:
            self._longest, self._day_s = [0.0, self._longest[0]], 0.0
        self._other = 0 if still else self._other + 1
        if still or (self._run_looks and self._other < self._looks):
            self.run_s += step_s
            self._run_looks += still
            if self._patience_s is None:
                enough = self._run_looks >= LEAST_LOOKS and self._watched_s >= SEEN * self.patience_s
            else:
                enough = True
            self.told = self.told or (enough and self.run_s >= self.patience_s)
        else:
            self._ended(step_s)
            self._typical += (share - self._typical) * min(1.0, step_s / 60)
        if self._told_s:
            self._awakes(share, step_s)

    def interrupted(self) -> None:
        """There was a gap: a stillness before it says nothing of one after it."""
        self.run_s, self._run_looks, self._other, self._told_s = 0.0, 0, 0, 0.0
        self.told = False

    def _ended(self, step_s: float) -> None:
        """What was a stillness, or none, is over."""
        if self.told:
            self._told_s, self._awake, self._awake_s = self.run_s, [], 0.0
        else:
            self._longest[0] = max(self._longest[0], self.run_s if self._run_looks > 1 else 0.0)
            self._watched_s += self.run_s + step_s
        self.run_s, self._run_looks, self._other, self.told = 0.0, 0, 0, False

    def _awakes(self, share: float, step_s: float) -> None:
        """One that was told was natural all the same, if the picture does not come to its full life after it."""
        self._awake.append(share)
        self._awake_s += step_s
        if self._awake_s >= AWAKE_S:
            if median(self._awake) < self._typical / 2:
                self._longest[0] = max(self._longest[0], self._told_s)
            self._told_s = 0.0


class Frozen:
    """Two definitions: nothing changed at all; or hardly anything, but for a moment.

    The second is for a clock that is drawn into a picture that stands still, and for encoders that draw such a picture
    anew with each key frame and refine it until the next one. Who walks through shows that it is not so.
    """

    def __init__(self, settings: BlindSection) -> None:
        self._exact = Stillness(1, settings.frozen if isinstance(settings.frozen, float) else None)
        self._nearly = Stillness(3)
        self._last: Glance | None = None
        self._began: Glance | None = None
        """The last one before the present stillness of the second kind."""
        self._usual_s = 0.0
        """How far looks are apart."""
        self._amounts: deque[float] = deque(maxlen=REMEMBERED)
        self._least = 0.0
        """How much half of the cells change by, at least, from look to look when the picture is alive, levels."""
        self._lightest = 0.0
        """Level of the lightest picture that is learned from."""

    def begin_anew(self) -> None:
        """The light is another one."""
        self._lightest = 0.0
        self._exact.begin_anew()
        self._nearly.begin_anew()
        self._amounts.clear()
        self._least = 0.0

    @property
    def still_s(self) -> float:
        """How long the picture has been still."""
        return self._exact.run_s if self._exact.told else self._nearly.run_s

    def sees(self, glance: Glance) -> bool:
        """Whether the picture is frozen."""
        if glance.level < DARKER * self._lightest:  # dusk, too slow to be seen as a change of light
            self.begin_anew()
        self._lightest = max(self._lightest, glance.level)
        last, self._last = self._last, glance
        if last is None:
            return False
        step_s = (glance.at_ns - last.at_ns) / 1e9
        if last.samples.shape != glance.samples.shape or not 0 < step_s <= max(GAP_S, 3 * self._usual_s):
            self._exact.interrupted()
            self._nearly.interrupted()
        else:
            self._compare(last, glance, step_s)
        self._usual_s += (max(0.0, step_s) - self._usual_s) / 8
        return self._exact.told or self._nearly.told

    def _compare(self, last: Glance, glance: Glance, step_s: float) -> None:
        by = changes(last, glance)
        share, amount = float((by > 0).mean()), float(np.median(by))
        self._exact.take(share == 0, share, step_s)
        still = share <= HARDLY or amount < self._least / QUIETER
        if not still:
            self._amounts.append(amount)
            if len(self._amounts) % RECKONED == 0:
                self._least = float(np.quantile(self._amounts, LOWEST))
        if not self._nearly.run_s:
            self._began = last
        self._nearly.take(still and not _other(self._began, glance), share, step_s)


def _other(one: Glance | None, other: Glance) -> bool:
    """Whether something is in one that is not in the other."""
    if one is None:
        return False
    by = np.abs(one.cells - other.cells)[one.frame.seen]
    return float((by > OTHER).mean()) > OTHERS
