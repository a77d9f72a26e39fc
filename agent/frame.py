"""A camera's picture and when it was taken."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Literal

from engines.pixels import Image

Clock = Literal["rtcp", "device", "receive", "file"]


@dataclass(frozen=True)
class Timestamp:
    """When a picture was captured, and how that is known."""

    wall_ns: int
    """Capture time, ns since the Unix epoch, by the best clock there is (see `clock`)."""
    monotonic_ns: int
    """When its pixels reached this machine (receive time less the known decode delay) on `time.monotonic_ns`;
    for clock "file": the position in the recording, ns. Freshness and rates are decided on this clock alone."""
    clock: Clock
    """How wall_ns is known: the camera's RTCP report, a device's own stamp, our receive time, or a recording."""
    received_ns: int | None
    """Unix time when the decoded picture was in our hands; None for recordings."""

    @property
    def live(self) -> bool:
        """Whether age means anything: a recording has none."""
        return self.clock != "file"

    def age_ns(self, now_ns: int | None = None) -> int | None:
        """Age on the monotonic clock; None for recordings."""
        if not self.live:
            return None
        return (time.monotonic_ns() if now_ns is None else now_ns) - self.monotonic_ns


@dataclass(frozen=True)
class Frame:
    """One picture of one camera."""

    camera: str
    seq: int
    """Counts the frames of a camera from 0 since the agent started, over all reconnects."""
    captured: Timestamp
    image: Image
