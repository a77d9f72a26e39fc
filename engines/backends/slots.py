"""Input memory for engines whose pictures are prepared on the CPU."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from engines.errors import BackendError, PictureError
from engines.pixels import Geometry, Picture, TensorWriter


class InputSlots:
    """`depth` canonical tensors, (max_batch, 3, H, W) uint8 RGB, handed out one by one."""

    def __init__(self, depth: int, max_batch: int, height: int, width: int) -> None:
        self.tensors = [np.zeros((max_batch, 3, height, width), np.uint8) for _ in range(depth)]
        self._free = list(range(depth))
        self._writer = TensorWriter()

    def fill(self, pictures: Sequence[Picture], geometries: Sequence[Geometry]) -> int:
        """Write pictures into a free slot and return its number."""
        tensor = self.tensors[0]
        if not 0 < len(pictures) <= len(tensor):
            raise PictureError(f"expected 1 to {len(tensor)} pictures, got {len(pictures)}")
        if len(geometries) != len(pictures):
            raise PictureError(f"expected {len(pictures)} geometries, got {len(geometries)}")
        if not self._free:
            raise BackendError(f"all {len(self.tensors)} slots are in flight: read and release a ticket first")
        slot = self._free[-1]
        for row, (picture, geometry) in enumerate(zip(pictures, geometries, strict=True)):
            if geometry.tensor != (tensor.shape[3], tensor.shape[2]):
                raise PictureError(
                    f"expected a geometry for {tensor.shape[3]}x{tensor.shape[2]}, got {geometry.tensor}"
                )
            self._writer.write(picture, geometry, self.tensors[slot][row])
        return self._free.pop()

    def rows(self, slot: int, count: int) -> NDArray[np.uint8]:
        """The part of a slot's tensor that was filled."""
        return self.tensors[slot][:count]

    def release(self, slot: int) -> None:
        """Take a slot back."""
        self._free.append(slot)
