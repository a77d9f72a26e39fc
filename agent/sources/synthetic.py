"""Pictures that are made, not taken: for trying a configuration, for tests, and for faults on demand."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from threading import Event
from typing import Literal

import numpy as np
from pydantic import Field

from agent.errors import SourceError
from agent.frame import Timestamp
from agent.sources import Intake, Pictures, SourceConfig
from engines.pixels import Image, PixelFormat, Plane

CELL = 16
"""Side of a barcode cell, pixels."""
BITS = 16


class Config(SourceConfig):
    """`{type: synthetic, width: 640, height: 360, rate: 30}`: a moving block, and the frame's number as a barcode."""

    type: Literal["synthetic"] = "synthetic"
    width: int = Field(default=640, ge=(BITS + 2) * CELL, le=8192)
    height: int = Field(default=360, ge=2 * CELL, le=8192)
    rate: float = Field(default=30.0, gt=0, le=1000)
    frames: int | None = Field(default=None, gt=0)
    """End after so many; none: never."""
    format: PixelFormat = "i420"
    pace: Literal["live", "lossless"] = "live"
    fail_open: bool = False
    """Cannot be opened."""
    fail_after: int | None = Field(default=None, gt=0)
    """Breaks after so many frames."""

    @property
    def lossless(self) -> bool:
        """See SourceConfig."""
        return self.pace == "lossless"

    @property
    def label(self) -> str:
        """What it is."""
        return f"synthetic {self.width}x{self.height}"

    @contextmanager
    def open(self, stop: Event, intake: Intake) -> Iterator[Pictures]:
        """See SourceConfig."""
        if self.fail_open:
            raise SourceError(f"{self.label}: was asked not to open")
        intake.facts.update(codec="synthetic", size=f"{self.width}x{self.height}", rate=f"{self.rate:g}")
        yield self._pictures(stop)

    def _pictures(self, stop: Event) -> Pictures:
        start_ns = time.monotonic_ns()
        index = 0
        while self.frames is None or index < self.frames:
            if index == self.fail_after:
                raise SourceError(f"{self.label}: was asked to break after {index} frames")
            position_ns = round(index * 1e9 / self.rate)
            if self.lossless:
                captured = Timestamp(position_ns, position_ns, "file", None)
            else:
                stop.wait(max(0.0, (start_ns + position_ns - time.monotonic_ns()) / 1e9))
                wall_ns = time.time_ns()
                captured = Timestamp(wall_ns, time.monotonic_ns(), "receive", wall_ns)
            if stop.is_set():
                return
            yield captured, picture(index, self.width, self.height, self.format)
            index += 1


def picture(index: int, width: int, height: int, pixels: PixelFormat) -> Image:
    """Frame number `index`: grey, a bright block that moves, and the number as black and white cells on top."""
    luma = np.full((height, width), 96, np.uint8)
    x = index * 8 % width
    luma[height // 2 : height // 2 + height // 4, x : x + width // 8] = 208
    cells = [1, 0, *((index >> bit) & 1 for bit in range(BITS))]
    luma[:CELL, : len(cells) * CELL] = np.repeat(np.array(cells, np.uint8) * 235, CELL)
    return Image(_planes(luma, pixels), pixels, "601", "full", (width, height))


def _planes(luma: Plane, pixels: PixelFormat) -> tuple[Plane, ...]:
    half = (-(-luma.shape[0] // 2), -(-luma.shape[1] // 2))
    if pixels == "i420":
        return luma, np.full(half, 128, np.uint8), np.full(half, 128, np.uint8)
    if pixels == "nv12":
        return luma, np.full((*half, 2), 128, np.uint8)
    return (luma,) if pixels == "gray" else (np.repeat(luma[:, :, None], 3, axis=2),)


def read_barcode(luma: Plane, cell: int = CELL) -> int | None:
    """The number in a barcode of `picture` (or of a clip with other cells); None if there is none."""
    row = luma[cell // 2, cell // 2 : (BITS + 2) * cell : cell]
    if len(row) < BITS + 2 or row[0] < 128 or row[1] >= 128:
        return None
    return int(sum(1 << bit for bit in range(BITS) if row[2 + bit] >= 128))
