"""One picture of a set."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from engines.pixels import Image

Way = Literal["bgr", "i420"]
"""Pixel format in which a picture goes into preparation: what OpenCV hands out, or what a video decoder does."""
Progress = Callable[[int, int], None]
"""Called with how many pictures are done, and of how many."""


@dataclass(frozen=True)
class Sample:
    """One picture of a set, read anew whenever it is wanted."""

    name: str
    """For people: its path in the folder; of a video, the video and the number of its frame. Unique in its set."""
    digest: str
    """Hex sha256 of its content; names and order of files mean nothing."""
    read: Callable[[], Image]
    """Raises DatasetError naming the picture."""


def nobody(done: int, total: int) -> None:
    """Progress that nobody wants to see."""
