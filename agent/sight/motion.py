"""Whether a picture shows anything that the last one a model looked at did not: if not, it need not look again.

Compared is with what was looked at last, not with the frame before: what moves slowly adds up until it is seen.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import cv2

from agent.frame import Frame
from agent.sight.glance import Lens
from agent.sight.settings import MotionSection
from agent.view import Region
from engines.pixels import Plane

LEAST = 5.0
"""Levels: a block (64 pixels of a small picture, 256 of a large one) that has changed by more shows something new..."""
NOISE = 6.0
"""... if that is so many times the mean change of all blocks as well: noise, and what an encoder makes of it."""
LIGHT = 2.0
"""Levels: the light has changed if the mean of all blocks has by so much."""
GLIMPSE_NS = 500_000_000
"""For a tracker a time without looking is so long at most: one who stood still all the while is not lost by it, but who
is not there in four looks in a row is gone."""


@dataclass(eq=False)
class _Looked:
    """How one use stands."""

    blocks: Plane
    """Of the picture that was looked at last."""
    at_ns: int
    """When that was."""
    moved_ns: int
    """When something had changed last."""
    passed_ns: int
    """When a picture was passed over last, if later than `at_ns`."""
    paused_ns: int = 0
    """All that trackers need not know of."""
    still: int = 0
    """Pictures that were passed over."""


class Gate:
    """Which pictures of one camera its uses need to look at. Used by its capture thread."""

    def __init__(
        self,
        settings: MotionSection,
        crop: Region | None = None,
        masks: Sequence[Sequence[tuple[float, float]]] = (),
    ) -> None:
        self._heartbeat_ns, self._hold_ns = round(settings.heartbeat * 1e9), round(settings.hold * 1e9)
        self._lens = Lens(crop, masks)
        self._uses: dict[str, _Looked] = {}
        self._seq: int | None = None
        """Of the frame that `_blocks` are of."""
        self._blocks: Plane | None = None
        self._away = False

    def away(self) -> None:
        """No frames for now: the next one is looked at. Any thread."""
        self._away = True

    def still(self, use: str, frame: Frame) -> bool:
        """Whether a frame that is due shows what that use has seen already; else it is taken to be looked at."""
        if self._away:
            self._away = False
            for one in self._uses.values():
                one.moved_ns = frame.captured.monotonic_ns
        at_ns, blocks = frame.captured.monotonic_ns, self._blocks_of(frame)
        if use not in self._uses:
            self._uses[use] = _Looked(blocks, at_ns, at_ns, at_ns)
            return False
        looked = self._uses[use]
        if looked.blocks.shape != blocks.shape or differ(looked.blocks, blocks):
            looked.moved_ns = at_ns
        quiet_ns, since_ns = at_ns - looked.moved_ns, at_ns - looked.at_ns
        if quiet_ns > self._hold_ns and 0 <= since_ns < self._heartbeat_ns:
            looked.passed_ns = at_ns
            looked.still += 1
            return True
        looked.paused_ns += max(0, looked.passed_ns - looked.at_ns - GLIMPSE_NS)
        looked.blocks, looked.at_ns, looked.passed_ns = blocks, at_ns, at_ns
        return False

    def paused_ns(self, use: str) -> int:
        """How much less time has passed for that use's tracker than for the camera."""
        return self._uses[use].paused_ns

    def counts(self, use: str) -> int:
        """How many of its pictures were passed over."""
        return self._uses[use].still if use in self._uses else 0

    def _blocks_of(self, frame: Frame) -> Plane:
        if self._seq != frame.seq or self._blocks is None:
            small = self._lens.small(frame.image)
            self._seq = frame.seq
            self._blocks = cv2.resize(small, None, fx=0.5, fy=0.5, interpolation=cv2.INTER_AREA)
        return self._blocks


def differ(one: Plane, other: Plane) -> bool:
    """Whether one shows anything that the other does not."""
    by = cv2.absdiff(one, other)
    mean = float(cv2.mean(by)[0])
    light = abs(float(cv2.mean(one)[0]) - float(cv2.mean(other)[0]))
    return light > LIGHT or float(by.max()) > max(LEAST, NOISE * mean)
