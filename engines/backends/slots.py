"""What engines are asked, checked; and input memory for those whose pictures are prepared on the CPU."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from engines.errors import BackendError, PictureError
from engines.pixels import Geometry, Picture, TensorWriter

_Slot = TypeVar("_Slot")


def check_asked(pictures: Sequence[Picture], geometries: Sequence[Geometry], most: int, size: tuple[int, int]) -> None:
    """Raise PictureError unless these are 1 to `most` pictures, each with a geometry for a tensor of that size."""
    if not 0 < len(pictures) <= most:
        raise PictureError(f"expected 1 to {most} pictures, got {len(pictures)}")
    if len(geometries) != len(pictures):
        raise PictureError(f"expected {len(pictures)} geometries, got {len(geometries)}")
    for geometry in geometries:
        if geometry.tensor != size:
            raise PictureError(f"expected a geometry for {size[0]}x{size[1]}, got {geometry.tensor}")


def last_free(free: Sequence[_Slot], of: int) -> _Slot:
    """The slot to use next; it stays in the list. Raises BackendError where all `of` them are in flight."""
    if not free:
        raise BackendError(f"all {of} slots are in flight: read and release a ticket first")
    return free[-1]


class InputSlots:
    """`depth` canonical tensors, (max_batch, 3, H, W) uint8 RGB, handed out one by one."""

    def __init__(self, depth: int, max_batch: int, height: int, width: int) -> None:
        self.tensors = [np.zeros((max_batch, 3, height, width), np.uint8) for _ in range(depth)]
        self._free = list(range(depth))
        self._writer = TensorWriter()

    def fill(self, pictures: Sequence[Picture], geometries: Sequence[Geometry]) -> int:
        """Write pictures into a free slot and return its number."""
        most, _, height, width = self.tensors[0].shape
        check_asked(pictures, geometries, most, (width, height))
        slot = last_free(self._free, len(self.tensors))
        for row, (picture, geometry) in enumerate(zip(pictures, geometries, strict=True)):
            self._writer.write(picture, geometry, self.tensors[slot][row])
        return self._free.pop()

    def rows(self, slot: int, count: int) -> NDArray[np.uint8]:
        """The part of a slot's tensor that was filled."""
        return self.tensors[slot][:count]

    def release(self, slot: int) -> None:
        """Take a slot back."""
        self._free.append(slot)
