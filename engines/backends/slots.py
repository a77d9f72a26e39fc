"""Input memory for engines whose pictures are prepared on the CPU."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from engines.errors import BackendError
from engines.pixels import Geometry, Picture, TensorWriter, check_batch


class InputSlots:
    """`depth` canonical tensors, (max_batch, 3, H, W) uint8 RGB, handed out one by one."""

    def __init__(self, depth: int, max_batch: int, height: int, width: int) -> None:
        self.tensors = [np.zeros((max_batch, 3, height, width), np.uint8) for _ in range(depth)]
        self._free = list(range(depth))
        self._writer = TensorWriter()

    def fill(self, pictures: Sequence[Picture], geometries: Sequence[Geometry]) -> int:
        """Write pictures into a free slot and return its number."""
        most, _, height, width = self.tensors[0].shape
        check_batch(pictures, geometries, most, (width, height))
        if not self._free:
            raise BackendError(f"all {len(self.tensors)} slots are in flight: read and release a ticket first")
        rows = self.tensors[self._free[-1]]
        for row, picture, geometry in zip(rows[: len(pictures)], pictures, geometries, strict=True):
            self._writer.write(picture, geometry, row)
        return self._free.pop()

    def rows(self, slot: int, count: int) -> NDArray[np.uint8]:
        """The part of a slot's tensor that was filled."""
        return self.tensors[slot][:count]

    def release(self, slot: int) -> None:
        """Take a slot back."""
        self._free.append(slot)
