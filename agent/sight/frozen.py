"""A picture that stands still though the stream goes on, told from a scene in which nothing happens.

Of one picture nobody can say which it is. Most cameras' pixels never rest: noise changes some in every frame. But an
encoder that is told to save bits passes noise over, and then a quiet scene is the same to the bit, for seconds or for
hours. So each camera is compared with itself: how long its picture was still at most, by nature, is learned, and a
stillness is told that is clearly longer than that, once enough has been seen to know.
"""

from __future__ import annotations

from statistics import median

import numpy as np

from agent.sight.fading import Fading, Look
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
DARKER = 0.75
"""Of its light leaves another picture: with the light goes the noise, and what is left an encoder may pass over."""
DAY_S = 86_400.0
GAP_S = 2.0
"""After so long without a look, or three times as long as usual, nothing is known of the time between."""
AWAKE_S = 5.0
"""How long is looked, after a stillness that was told, at how the picture goes on."""


class Stillness:
    """How long a picture has been still, and how long it was by nature."""

    def __init__(self, patience_s: float | None = None) -> None:
        """`patience_s`: it must be still for so long to be told, instead of what is learned."""
        self._patience_s = patience_s
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
        self._run_looks = 0
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
        if still:
            self.run_s += step_s
            self._run_looks += 1
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
        self.run_s, self._run_looks, self._told_s = 0.0, 0, 0.0
        self.told = False

    def _ended(self, step_s: float) -> None:
        """What was a stillness, or none, is over."""
        if self.told:
            self._told_s, self._awake, self._awake_s = self.run_s, [], 0.0
        else:
            self._longest[0] = max(self._longest[0], self.run_s if self._run_looks > 1 else 0.0)
            self._watched_s += self.run_s + step_s
        self.run_s, self._run_looks, self.told = 0.0, 0, False

    def _awakes(self, share: float, step_s: float) -> None:
        """One that was told was natural all the same, if the picture does not come to its full life after it."""
        self._awake.append(share)
        self._awake_s += step_s
        if self._awake_s >= AWAKE_S:
            if median(self._awake) < self._typical / 2:
                self._longest[0] = max(self._longest[0], self._told_s)
            self._told_s = 0.0


class Frozen:
    """Two definitions: nothing changes at all; or less and less does (`Fading`).

    The second is what an encoder at work makes of a sensor that stands still, with or without a clock drawn over it.
    """

    def __init__(self, settings: BlindSection) -> None:
        self._exact = Stillness(settings.frozen if isinstance(settings.frozen, float) else None)
        self._fading = Fading()
        self._last: Glance | None = None
        self._usual_s = 0.0
        """How far looks are apart."""
        self._lightest = 0.0
        """Level of the lightest picture that is learned from."""

    def begin_anew(self) -> None:
        """The light is another one."""
        self._lightest = 0.0
        self._exact.begin_anew()
        self._fading.begin_anew()

    @property
    def still_s(self) -> float:
        """How long the picture has been still."""
        return self._exact.run_s if self._exact.told else self._fading.still_s

    def sees(self, glance: Glance, *, other: bool = False) -> bool:
        """Whether the picture is frozen. `other`: it does not show what it should, so it may well change by less."""
        if glance.level < DARKER * self._lightest:  # dusk, too slow to be seen as a change of light
            self.begin_anew()
        self._lightest = max(self._lightest, glance.level)
        last, self._last = self._last, glance
        if last is None:
            return False
        step_s = (glance.at_ns - last.at_ns) / 1e9
        if last.samples.shape != glance.samples.shape or not 0 < step_s <= max(GAP_S, 3 * self._usual_s):
            self._exact.interrupted()
            self._fading.interrupted()
        else:
            by, samples = changes(last, glance)
            share = float((by > 0).mean())
            self._exact.take(share == 0, share, step_s)
            cells = glance.cells[glance.frame.seen]
            self._fading.take(Look(glance.at_ns, float(np.median(by)), samples, cells), step_s)
        if other:
            self._fading.interrupted()
        self._usual_s += (max(0.0, step_s) - self._usual_s) / 8
        return self._exact.told or self._fading.told
