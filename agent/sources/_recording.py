"""Recordings played back: every picture, or in real time like a camera."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from threading import Event
from typing import Literal

from agent.errors import SourceError
from agent.frame import Timestamp
from agent.sources import Pictures
from engines.pixels import Image

Pace = Literal["lossless", "live"]
"""lossless: every picture, none faster than it is looked at; live: in real time, newest wins."""


def played(
    once: Callable[[Event], Iterator[tuple[int, Image]]],
    again: Callable[[], None] | None,
    stop: Event,
    label: str,
    frame_ns: int,
) -> Iterator[tuple[int, Image]]:
    """(position in ns, picture) of all that `once` yields; then over and over if `again` opens it anew, time going on.

    Raises SourceError where a whole round brings no picture.
    """
    base_ns, last_ns = 0, -1
    while not stop.is_set():
        before_ns = last_ns
        for position_ns, image in once(stop):
            # A file whose stamps jump back must not make time go back.
            last_ns = max(base_ns + position_ns, last_ns + 1)
            yield last_ns, image
        if last_ns == before_ns and not stop.is_set():
            raise SourceError(f"{label}: no frame of it can be decoded")
        if again is None:
            return
        base_ns = last_ns + frame_ns
        again()


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
