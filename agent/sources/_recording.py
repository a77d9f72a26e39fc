"""Recordings played back: every picture, or in real time like a camera."""

from __future__ import annotations

import time
from collections.abc import Iterator
from threading import Event
from typing import Literal

from agent.frame import Timestamp
from agent.sources import Pictures
from engines.pixels import Image

Pace = Literal["lossless", "live"]
"""lossless: every picture, none faster than it is looked at; live: in real time, newest wins."""


def recorded(frames: Iterator[tuple[int, Image]], began_ns: int) -> Pictures:
    """(position in ns, picture) with the recording's own time; it began at `began_ns`, Unix time."""
    for position_ns, image in frames:
        yield Timestamp(began_ns + position_ns, position_ns, "file", None), image


def paced(frames: Iterator[tuple[int, Image]], stop: Event) -> Pictures:
    """Each when its time has come; a machine that cannot keep up gets it late, as with any decoder."""
    start_ns: int | None = None
    for position_ns, image in frames:
        now_ns = time.monotonic_ns()
        if start_ns is None:
            start_ns = now_ns - position_ns
        if stop.wait(max(0.0, (start_ns + position_ns - now_ns) / 1e9)):
            return
        wall_ns, now_ns = time.time_ns(), time.monotonic_ns()
        yield Timestamp(wall_ns, now_ns, "receive", wall_ns), image
