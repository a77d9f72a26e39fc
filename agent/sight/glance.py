"""A frame made small: what blindness and motion are judged from, for one pass over its luma."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, cast

import cv2
import numpy as np
from numpy.typing import DTypeLike, NDArray

from agent.view import Region, pixels
from engines.pixels import Image, Plane

FINE_PIXELS = 320 * 180
"""`fine` has at least so many, and less than four times as many, unless the frame itself is smaller."""
CELL = 12
"""Side of a cell, pixels of `small`."""
LEAST_SIDE = 4 * CELL
"""Of a frame, pixels."""
SAMPLES = 16_000
"""About so many pixels of the frame are kept as they are."""
SAMPLE_CELL = 8
"""Side of a cell of samples."""
FEW = 0.05
"""Of the cells."""

Grid = NDArray[np.bool_]
Means = NDArray[np.float32]


@dataclass(frozen=True, eq=False)
class Glance:
    """One frame. Levels are those of luma as it came, in its own range."""

    at_ns: int
    """The camera's own time."""
    fine: Plane
    """Luma, halved by 2x2 means as often as `FINE_PIXELS` allows."""
    small: Plane
    """Once more halved."""
    samples: Plane
    """Single pixels of the frame, untouched: every one of an even grid."""
    colour: float
    """Mean distance of chroma from grey, levels; 0: none."""
    limited: bool
    """Black is 16 and white 235."""
    frame: Areas

    @cached_property
    def cells(self) -> Means:
        """(rows, columns) mean luma of each cell, 0 to 255 between black and white."""
        means = cell_means(self.small.astype(np.float32))
        return (means - 16) * (255 / 219) if self.limited else means

    @cached_property
    def level(self) -> float:
        """Mean luma of what may be looked at, 0 to 255 between black and white."""
        return float(self.cells[self.frame.seen].mean())


@dataclass(frozen=True, eq=False)
class Areas:
    """Which parts of pictures of one size may be looked at: masks say which may not."""

    seen: Grid
    """Cells of `small` that are not masked (for the most part)."""
    samples: Grid
    """Cells of `samples`."""


class Lens:
    """Makes glances of one camera's frames."""

    def __init__(self, crop: Region | None = None, masks: Sequence[Sequence[tuple[float, float]]] = ()) -> None:
        self._crop = crop
        self._masks = [np.array(polygon, np.float64) for polygon in masks]
        self._unmasked_small = np.empty((0, 0), np.uint8)
        self._areas: tuple[tuple[tuple[int, ...], tuple[int, ...]], Areas] | None = None

    def glance(self, image: Image, at_ns: int) -> Glance | None:
        """None where there is too little to look at, or nothing may be."""
        image = self._cropped(image)
        if min(image.size) < LEAST_SIDE:
            return None
        luma = _luma(image)
        fine = _fine(luma)
        step = max(1, round((luma.size / SAMPLES) ** 0.5))
        samples = _whole_cells(luma[step // 2 :: step, step // 2 :: step])
        areas = self._of(fine.shape, samples.shape)
        if not areas.seen.any():
            return None
        limited = image.range == "limited" and image.format not in ("bgr", "rgb")
        return Glance(at_ns, fine, _halved(fine), samples, _colour(image), limited, areas)

    def small(self, image: Image) -> Plane:
        """Only that of a glance, black where nothing may be looked at."""
        small = _halved(_fine(_luma(self._cropped(image))))
        if self._masks:
            if self._unmasked_small.shape != small.shape:
                self._unmasked_small = self._unmasked(small.shape, np.uint8)
            small = small * self._unmasked_small
        return small

    def _cropped(self, image: Image) -> Image:
        return image if self._crop is None else image.cropped(pixels(self._crop, image.size))

    def _of(self, fine: tuple[int, ...], samples: tuple[int, ...]) -> Areas:
        if self._areas is None or self._areas[0] != (fine, samples):
            small = (fine[0] // 2, fine[1] // 2)
            seen = cell_means(self._unmasked(small, np.float32)) >= 0.5
            rows = self._unmasked(samples, np.uint8).reshape(-1, SAMPLE_CELL, samples[1] // SAMPLE_CELL, SAMPLE_CELL)
            sampled = rows.mean(axis=(1, 3)) >= 0.5
            self._areas = (fine, samples), Areas(seen, sampled)
        return self._areas[1]

    def _unmasked(self, shape: tuple[int, ...], kind: DTypeLike) -> NDArray[Any]:
        """1 where a picture of that shape may be looked at."""
        out: NDArray[Any] = np.ones(shape, kind)
        for polygon in self._masks:
            cv2.fillPoly(out, [np.rint(polygon * (shape[1], shape[0])).astype(np.int32)], 0)
        return out


def cell_means(values: NDArray[np.float32], cell: int = CELL) -> Means:
    """(H, W) -> the mean of each cell of that side; what is left over at the right and below belongs to none."""
    rows, columns = values.shape[0] // cell, values.shape[1] // cell
    # Adding up in two steps takes half the time of cv2's resize.
    lines = values[: rows * cell, : columns * cell].reshape(rows, cell, columns * cell).sum(axis=1)
    return cast(Means, lines.reshape(rows, columns, cell).sum(axis=2) / np.float32(cell * cell))


def changes(one: Glance, other: Glance) -> tuple[NDArray[np.float32], float]:
    """Of samples that are not masked: mean change in each cell, levels; and the share of them that changed at all.

    The second is without the few cells that have the most of those: a clock, or somebody far away.
    """
    by = cv2.absdiff(one.samples, other.samples)
    where = one.frame.samples
    some = np.sort(cell_means((by > 0).astype(np.float32), SAMPLE_CELL)[where])
    rest = some[: len(some) - int(len(some) * FEW)]
    return cell_means(by.astype(np.float32), SAMPLE_CELL)[where], float(rest.mean()) if rest.size else 0.0


def _fine(luma: Plane) -> Plane:
    while luma.size >= 4 * FINE_PIXELS:
        luma = _halved(luma)
    return luma


def _halved(plane: Plane) -> Plane:
    height, width = plane.shape[0] // 2, plane.shape[1] // 2
    if not (height and width):
        return plane
    return cast(Plane, cv2.resize(plane[: 2 * height, : 2 * width], (width, height), interpolation=cv2.INTER_AREA))


def _whole_cells(samples: Plane) -> Plane:
    rows, columns = samples.shape[0] // SAMPLE_CELL * SAMPLE_CELL, samples.shape[1] // SAMPLE_CELL * SAMPLE_CELL
    return np.ascontiguousarray(samples[:rows, :columns])


def _luma(image: Image) -> Plane:
    """The Y plane; of BGR and RGB the green of every second pixel, which costs a tenth of a conversion."""
    if image.format not in ("bgr", "rgb"):
        return image.planes[0]
    step = 2 if image.planes[0].size >= 3 * 4 * FINE_PIXELS else 1
    return np.ascontiguousarray(image.planes[0][::step, ::step, 1])


def _colour(image: Image) -> float:
    if image.format == "gray":
        return 0.0
    height, width = image.planes[-1].shape[:2]
    step = max(1, min(height, width) // 32)
    if image.format in ("bgr", "rgb"):
        some = np.ascontiguousarray(image.planes[0][::step, ::step])
        return float(cv2.norm(some[..., 0], some[..., 1], cv2.NORM_L1)) / (some.size / 3)
    some = np.concatenate([plane[::step, ::step].ravel() for plane in image.planes[1:]])
    return float(cv2.norm(some, np.full_like(some, 128), cv2.NORM_L1)) / some.size
