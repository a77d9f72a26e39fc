"""Near duplicates: pictures that show the same, whatever their files are called.

Two pictures are compared as 16x16 means of luma. They are near duplicates if no cell of either is farther than
`APART` levels outside what the other has in the 3x3 cells around it: noise, compression, another size, a change of
light by a few levels and movements of less than a sixteenth of the picture do not make a picture a new one. A global
hash would call all frames of a camera that does not move the same, whoever walks through them.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import cast

import cv2
import numpy as np
from numpy.typing import NDArray

from calibration.errors import DatasetError
from calibration.pictures.sample import Progress, Sample, nobody
from engines.pixels import Image

_SIDE = 16
APART = 12
"""Levels. Copies of photographs at half the size, as a poor JPEG or with a sensor's noise are within 10, different
photographs farther apart than 40 (`scripts/prove ways`)."""
_FLAT = 4
"""Levels between the darkest and the brightest cell of a picture that shows nothing."""
_KERNEL = np.ones((3, 3), np.uint8)
_Cells = NDArray[np.int16]


@dataclass(frozen=True)
class Distinct:
    """A set without its near duplicates."""

    kept: tuple[Sample, ...]
    """In the order of digests; no two are near duplicates."""
    dropped: Mapping[str, str]
    """Name of each that was left out -> name of the one that was kept for it."""


def distinct(samples: Sequence[Sample], progress: Progress = nobody) -> Distinct:
    """Keep one of all pictures that show nearly the same: of several, the one of the lowest digest.

    Every picture is decoded once. Raises DatasetError for one that cannot be read, and for a set that says nothing:
    several pictures that are all the same, or all of a single colour.
    """
    ordered = sorted(samples, key=lambda sample: (sample.digest, sample.name))
    kept: list[Sample] = []
    dropped: dict[str, str] = {}
    seen = _Seen(len(ordered))
    flat = 0
    for sample, cells in zip(ordered, _thumbnails(ordered, progress), strict=True):
        flat += int(np.ptp(cells)) <= _FLAT
        if (like := seen.nearest(cells)) is not None:
            dropped[sample.name] = kept[like].name
        else:
            kept.append(sample)
            seen.add(cells)
    if flat == len(ordered) > 0:
        raise DatasetError(
            f"{_all(ordered)} black or of a single colour: they say nothing of what a model will see; "
            "take pictures like those of the cameras"
        )
    if len(kept) == 1 < len(ordered):
        raise DatasetError(
            f"{_all(ordered)} nearly the same as {kept[0].name}: take pictures of different scenes and times"
        )
    return Distinct(tuple(kept), dropped)


def apart(one: Image, other: Image) -> int:
    """How far two pictures are from being the same, in levels; see above."""
    a, b = (_thumbnail(image) for image in (one, other))
    return int(max(_outside(a, *_around(b)), _outside(b, *_around(a))))


@dataclass
class _Seen:
    """The thumbnails that were kept, and what they allow: for each cell the least and the most around it."""

    room: int
    count: int = 0
    cells: _Cells = field(init=False)
    low: _Cells = field(init=False)
    high: _Cells = field(init=False)

    def __post_init__(self) -> None:
        self.cells, self.low, self.high = (np.empty((self.room, _SIDE * _SIDE), np.int16) for _ in range(3))

    def add(self, cells: _Cells) -> None:
        """Keep one more."""
        for rows, row in zip((self.cells, self.low, self.high), (cells, *_around(cells)), strict=True):
            rows[self.count] = row
        self.count += 1

    def nearest(self, cells: _Cells) -> int | None:
        """Index of the kept one that is nearest among near duplicates, the first of several; None if there is none."""
        kept = slice(self.count)
        levels = _outside(cells, self.low[kept], self.high[kept])
        near = np.flatnonzero(levels <= APART)  # few: the other direction is looked at for them alone
        if not len(near):
            return None
        levels = np.maximum(levels[near], _outside(self.cells[near], *_around(cells)))
        best = int(levels.argmin())
        return int(near[best]) if levels[best] <= APART else None


def _outside(cells: _Cells, low: _Cells, high: _Cells) -> _Cells:
    """How far the farthest cell is from between `low` and `high`: rows against rows, or one against many."""
    return cast(_Cells, np.maximum(cells - high, low - cells).max(axis=-1, initial=0))


def _around(cells: _Cells) -> tuple[_Cells, _Cells]:
    """The least and the most of the 3x3 cells around each."""
    square = cells.reshape(_SIDE, _SIDE)
    return cv2.erode(square, _KERNEL).ravel(), cv2.dilate(square, _KERNEL).ravel()


def _thumbnails(samples: Sequence[Sample], progress: Progress) -> list[_Cells]:
    """(256,) of each. Decoding takes nearly all the time, and lets other threads run."""
    found: list[_Cells] = []
    pool = ThreadPoolExecutor(min(8, os.cpu_count() or 1))
    try:
        for cells in pool.map(lambda sample: _thumbnail(sample.read()), samples):
            found.append(cells)
            progress(len(found), len(samples))
    finally:
        pool.shutdown(cancel_futures=True)  # an unreadable picture and Ctrl-C end it at once
    return found


def _thumbnail(image: Image) -> _Cells:
    """(256,) means of luma, of the full range."""
    small = cv2.resize(image.planes[0], (_SIDE, _SIDE), interpolation=cv2.INTER_AREA)
    if image.format in ("bgr", "rgb"):
        small = cv2.cvtColor(small, cv2.COLOR_BGR2GRAY if image.format == "bgr" else cv2.COLOR_RGB2GRAY)
    levels = small.astype(np.float32).ravel()
    if image.format not in ("bgr", "rgb") and image.range == "limited":
        levels = (levels - 16) * (255 / 219)
    return cast(_Cells, np.clip(np.rint(levels), 0, 255).astype(np.int16))


def _all(samples: Sequence[Sample]) -> str:
    return f"all {len(samples)} pictures are" if len(samples) > 1 else "the only picture is"
