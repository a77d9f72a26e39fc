"""What one batch in flight has to itself: memory on both sides, events, and a context for each size of batch."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from itertools import accumulate
from typing import Any

import numpy as np
from numpy.typing import NDArray

from engines.base import TensorSpec
from engines.cuda.driver import Driver, Handle
from engines.errors import BackendError, EngineLost
from engines.trt.contexts import Network

_ALIGNED = 256
_GROWN = 1 << 20
"""Staging grows by whole MiB."""
log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Streams:
    """Uploads, the network, downloads: three of each engine, so that each works while the others do."""

    upload: Handle
    compute: Handle
    download: Handle


class Staging:
    """Pinned memory that pictures are written into, and device memory that it is uploaded to, if it has its own."""

    def __init__(self, driver: Driver, size: int, *, on_device: bool) -> None:
        self._driver = driver
        self.size = 0
        self._on_device = on_device
        self._taken = ExitStack()
        self._take(size)

    def _take(self, size: int) -> None:
        with ExitStack() as taken:
            pinned = self._driver.pin(size)
            taken.callback(self._driver.unpin, pinned)
            address = 0
            if self._on_device:
                address = self._driver.allocate(size)
                taken.callback(self._driver.free, address)
            self._taken.close()
            self._taken = taken.pop_all()
        self.view: NDArray[np.uint8] = pinned.view
        self.address = address
        self.size = size

    def grow(self, size: int) -> None:
        """Hold `size` bytes at least; nothing may be under way. Raises OutOfDeviceMemory, and stays as it was."""
        self._take(-(-size // _GROWN) * _GROWN)
        log.info("staging for pictures grew to %d MiB", self.size >> 20)

    def close(self) -> None:
        """Give it back."""
        self._taken.close()


@dataclass(frozen=True, eq=False)
class Output:
    """One output: where it is on the device, and the pinned memory that it is copied to."""

    spec: TensorSpec
    address: int
    row: int
    """Bytes of one picture's."""
    pinned: NDArray[np.uint8]
    array: NDArray[Any]
    """The same memory as rows, (most, ...)."""


@dataclass(eq=False)
class Run:
    """One size of batch: an execution context with its addresses, and what it does as a graph, if that could be."""

    context: Any
    graph: Handle | None = None


@dataclass(eq=False)
class Slot:
    """One of the batches in flight."""

    number: int
    input: int
    """Address of the network's input, (most, 3, H, W) uint8."""
    input_size: int
    """Its bytes."""
    outputs: tuple[Output, ...]
    staging: Staging
    uploaded: Handle
    computed: Handle
    finished: Handle
    """Events: after the upload, after the network, after the outputs have come."""
    runs: dict[int, Run] = field(default_factory=dict)
    staged: int = 0
    """Bytes of staging that the prepared batch takes."""
    busy: bool = False
    """It was started, and nobody has waited for its end."""


def open_slot(number: int, driver: Driver, network: Network, most: int, taken: ExitStack, *, on_device: bool) -> Slot:
    """A slot for batches of up to `most`; `taken` gives all of it back. Raises OutOfDeviceMemory.

    `on_device`: staging has device memory of its own.
    """

    def allocate(size: int) -> int:
        address = driver.allocate(size)
        taken.callback(driver.free, address)
        return address

    def event() -> Handle:
        made = driver.event()
        taken.callback(driver.destroy_event, made)
        return made

    rows = [_row(spec) for spec in network.outputs]
    starts = [0, *accumulate(aligned(row * most) for row in rows)]
    device = allocate(starts[-1])
    pinned = driver.pin(starts[-1])
    taken.callback(driver.unpin, pinned)
    outputs = []
    for spec, row, start in zip(network.outputs, rows, starts, strict=False):
        flat = pinned.view[start : start + row * most]
        array = flat.view(spec.dtype).reshape(most, *spec.shape[1:])
        outputs.append(Output(spec, device + start, row, flat, array))
    size = _row(network.input) * most
    staging = Staging(driver, size, on_device=on_device)
    taken.callback(staging.close)
    return Slot(number, allocate(size), size, tuple(outputs), staging, event(), event(), event())


def open_runs(
    slots: Sequence[Slot], driver: Driver, network: Network, sizes: Sequence[int], stream: int, taken: ExitStack
) -> None:
    """Give each slot a context for each size of batch, and all of them one block of memory to work in.

    Raises BackendError; OutOfDeviceMemory.
    """
    for slot in slots:
        taken.callback(slot.runs.clear)
        addresses = {network.input.name: slot.input, **{output.spec.name: output.address for output in slot.outputs}}
        for size in sizes:
            slot.runs[size] = Run(network.context(size, addresses, stream))
    contexts = [run.context for slot in slots for run in slot.runs.values()]
    memory = aligned(max(1, *(network.memory(context, max(sizes)) for context in contexts)))
    address = driver.allocate(memory)
    taken.callback(driver.free, address)
    for context in contexts:
        network.give(context, address, memory)


def capture(run: Run, driver: Driver, network: Network, stream: Handle, taken: ExitStack) -> str | None:
    """Make a graph of what the run's context does, which must have run once; return why there is none.

    Raises EngineLost.
    """
    address = driver.stream_address(stream)
    can = getattr(run.context, "is_stream_capturable", None)
    if can is not None and not can(address):
        return "TensorRT says that this network cannot be captured"
    try:
        driver.begin_capture(stream)
        try:
            network.execute(run.context, address)
        finally:
            graph = driver.end_capture(stream)
            taken.callback(driver.destroy_graph, graph)
    except EngineLost:
        raise
    except BackendError as error:
        return str(error)
    run.graph = graph
    return None


def _row(spec: TensorSpec) -> int:
    """Bytes of one picture's part of a tensor."""
    return int(np.prod(spec.shape[1:])) * spec.dtype.itemsize


def aligned(size: int) -> int:
    """So many bytes, and as many more as keep what follows aligned as TensorRT wants it."""
    return -(-size // _ALIGNED) * _ALIGNED
