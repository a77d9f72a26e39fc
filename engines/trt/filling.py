"""How pictures become a slot's input tensor: written by the CPU and uploaded, or uploaded and written by the GPU."""

from __future__ import annotations

import logging
import math
from abc import ABC, abstractmethod
from collections.abc import Sequence
from contextlib import ExitStack
from typing import Literal

from engines.cuda.driver import Driver, Handle
from engines.cuda.errors import CudaError, OutOfDeviceMemory
from engines.cuda.preparing import BLOCK, KERNEL, grid, stage
from engines.errors import EngineLost
from engines.pixels import Geometry, Picture, TensorWriter
from engines.trt.passport import Plan
from engines.trt.slots import Slot, Streams

Prepare = Literal["gpu", "cpu"]
log = logging.getLogger(__name__)


class Filling(ABC):
    """One of the two ways."""

    on_device: bool
    """What is uploaded is not the tensor yet: staging has device memory of its own."""
    said: str
    """Which way, for status; and why not the other."""

    @abstractmethod
    def write(self, slot: Slot, pictures: Sequence[Picture], geometries: Sequence[Geometry]) -> None:
        """Write into the slot's pinned memory what `start` needs. The batch was looked at (`check_batch`).

        Raises PictureError: the slot is as it was; EngineLost.
        """

    @abstractmethod
    def start(self, slot: Slot, count: int, streams: Streams) -> None:
        """Put upload and preparation into the streams: the network may follow in that of computations."""


class FillingByCPU(Filling):
    """`TensorWriter` writes the tensor itself into pinned memory."""

    on_device = False

    def __init__(self, driver: Driver, size: tuple[int, int], said: str = "cpu") -> None:
        self._driver, self.said = driver, said
        self._row = (3, size[1], size[0])
        self._writer = TensorWriter()

    def write(self, slot: Slot, pictures: Sequence[Picture], geometries: Sequence[Geometry]) -> None:
        """See Filling. There is room for the largest batch from the start."""
        channels, height, width = self._row
        slot.staged = len(pictures) * channels * height * width
        rows = slot.staging.view[: slot.staged].reshape(len(pictures), *self._row)
        for row, picture, geometry in zip(rows, pictures, geometries, strict=True):
            self._writer.write(picture, geometry, row)

    def start(self, slot: Slot, count: int, streams: Streams) -> None:  # noqa: ARG002  # what was written says it
        """See Filling."""
        _upload(self._driver, slot, slot.input, streams)


class FillingByGPU(Filling):
    """The planes themselves are uploaded, and the plan's kernel does the rest.

    Pictures for which there is no memory are written by the CPU: there has been room for the tensor from the start.
    """

    on_device = True
    said = "gpu"

    def __init__(self, driver: Driver, size: tuple[int, int], kernel: Handle) -> None:
        self._driver, self._size, self._kernel = driver, size, kernel
        self._cpu = FillingByCPU(driver, size)
        self._by_cpu: set[int] = set()
        """Slots whose batch the CPU has written."""
        self._too_much: float = math.inf
        """Bytes of staging that were not to be had; asking each time would take longer than the CPU does."""

    def write(self, slot: Slot, pictures: Sequence[Picture], geometries: Sequence[Geometry]) -> None:
        """See Filling. Memory grows when more or larger pictures come than ever: for 1, 2, 4, ... of them."""
        count = len(pictures)
        staged = stage(pictures, geometries, self._size, count)
        if staged.size > slot.staging.size and not self._grown(
            slot, (staged.size << (count - 1).bit_length()) // count
        ):
            self._cpu.write(slot, pictures, geometries)
            self._by_cpu.add(slot.number)
            return
        staged.write(slot.staging.view)
        slot.staged = staged.size
        self._by_cpu.discard(slot.number)

    def start(self, slot: Slot, count: int, streams: Streams) -> None:
        """See Filling."""
        if slot.number in self._by_cpu:
            self._cpu.start(slot, count, streams)
            return
        _upload(self._driver, slot, slot.staging.address, streams)
        addresses = (slot.staging.address, slot.input)
        self._driver.launch(self._kernel, grid(self._size, count), BLOCK, addresses, streams.compute)

    def _grown(self, slot: Slot, size: int) -> bool:
        if size >= self._too_much:
            return False
        try:
            slot.staging.grow(size)
        except OutOfDeviceMemory as error:
            self._too_much = size
            log.warning("pictures as large as these are prepared on the CPU from now on: %s", error)
            return False
        return True


def filling(driver: Driver, plan: Plan, size: tuple[int, int], prepare: Prepare, taken: ExitStack) -> Filling:
    """The way that was asked for; the CPU's, which says why, where the GPU's is not to be had. `taken` frees it.

    Raises EngineLost.
    """
    if prepare == "cpu":
        return FillingByCPU(driver, size)
    if plan.cubin is None:
        return FillingByCPU(driver, size, "cpu: there is no kernel that prepares on the GPU: see `sightwire doctor`")
    try:
        module = driver.load(plan.cubin)
        taken.callback(driver.unload, module)
        return FillingByGPU(driver, size, driver.function(module, KERNEL))
    except EngineLost:
        raise
    except CudaError as error:
        log.warning("%s: pictures are prepared on the CPU: %s", plan.path, error)
        return FillingByCPU(driver, size, f"cpu: {error}")


def _upload(driver: Driver, slot: Slot, address: int, streams: Streams) -> None:
    driver.copy_in(address, slot.staging.view[: slot.staged], streams.upload)
    driver.record(slot.uploaded, streams.upload)
    driver.wait(streams.compute, slot.uploaded)
