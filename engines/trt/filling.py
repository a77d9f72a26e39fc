"""How pictures become a slot's input tensor: written by the CPU and uploaded, or uploaded and written by the GPU."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence

from engines.cuda.driver import Driver
from engines.pixels import Geometry, Picture, TensorWriter
from engines.trt.slots import Slot, Streams


class Filling(ABC):
    """One of the two ways."""

    on_device: bool
    """Staging has device memory of its own: what is uploaded is not the tensor yet."""
    said: str
    """Which way, for status; and why not the other."""

    @abstractmethod
    def write(self, slot: Slot, pictures: Sequence[Picture], geometries: Sequence[Geometry], room: int) -> None:
        """Write into the slot's pinned memory what `start` needs; `room`: pictures there is to be memory for.

        Raises PictureError, OutOfDeviceMemory; the slot is as it was then.
        """

    @abstractmethod
    def start(self, slot: Slot, count: int, streams: Streams) -> None:
        """Put upload and preparation into the streams: the network may follow in the one of computations."""


class FillingByCPU(Filling):
    """`TensorWriter` writes the tensor itself into pinned memory."""

    on_device = False

    def __init__(self, driver: Driver, height: int, width: int, said: str = "cpu") -> None:
        self._driver, self.said = driver, said
        self._writer = TensorWriter()
        self._row = (3, height, width)
        self._bytes = 3 * height * width

    def write(self, slot: Slot, pictures: Sequence[Picture], geometries: Sequence[Geometry], room: int) -> None:  # noqa: ARG002  # the slot holds them all from the start
        """See Filling."""
        slot.staged = len(pictures) * self._bytes
        rows = slot.staging.view[: slot.staged].reshape(-1, *self._row)
        for row, picture, geometry in zip(rows, pictures, geometries, strict=True):
            self._writer.write(picture, geometry, row)

    def start(self, slot: Slot, count: int, streams: Streams) -> None:  # noqa: ARG002  # see write
        """See Filling."""
        driver = self._driver
        driver.copy_in(slot.input, slot.staging.view[: slot.staged], streams.upload)
        driver.record(slot.uploaded, streams.upload)
        driver.wait(streams.compute, slot.uploaded)
