"""The seam between us and CUDA: the part of its driver API that an engine needs, on one device.

Handles (streams, events, graphs, modules, functions) are whatever the binding calls them; addresses are plain integers.
Every call raises CudaError (`engines.cuda.errors`) that says what happened and what to do; DeviceLost where nothing
will work any more. On a lost device freeing does nothing and raises nothing: what was there went with its context.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Handle = Any


@dataclass(frozen=True)
class Facts:
    """What a device is."""

    name: str
    """As its driver says it: `NVIDIA GeForce RTX 4090`, `Orin`."""
    compute_capability: tuple[int, int]
    """Major and minor, (8, 7)."""
    memory: int
    """Bytes; on a Jetson, of the whole machine."""
    integrated: bool
    """It shares the machine's memory."""
    driver: str
    """The CUDA version that the driver takes, `13.0`."""


@dataclass(frozen=True, eq=False)
class Pinned:
    """Host memory that the device reads and writes at full speed, and by itself."""

    view: NDArray[np.uint8]
    """All of it, (size,)."""
    handle: Handle
    """What keeps it alive."""


class Driver(ABC):
    """One device's retained primary context. Any thread may call after `make_current`; one at a time."""

    binding: str
    """Which package, and its version: `cuda-python 13.4.4`."""
    facts: Facts
    graphs: bool
    """Whether the binding has CUDA graphs; where it has not, the four calls about them raise CudaError."""

    @abstractmethod
    def make_current(self) -> None:
        """Let the calling thread use the context; cheap, and needed again where it used that of another device."""

    @abstractmethod
    def free_memory(self) -> int:
        """Bytes of device memory that nobody uses."""

    @abstractmethod
    def allocate(self, size: int) -> int:
        """Address of `size` bytes on the device. Raises OutOfDeviceMemory."""

    @abstractmethod
    def free(self, address: int) -> None:
        """Give device memory back; nothing under way may use it."""

    @abstractmethod
    def pin(self, size: int) -> Pinned:
        """`size` bytes of pinned host memory. Raises OutOfDeviceMemory."""

    @abstractmethod
    def unpin(self, pinned: Pinned) -> None:
        """Give pinned memory back; its view must not be touched again."""

    @abstractmethod
    def stream(self) -> Handle:
        """A new stream that does not wait for the default one."""

    @abstractmethod
    def stream_address(self, stream: Handle) -> int:
        """What other libraries (TensorRT) know the stream by."""

    @abstractmethod
    def destroy_stream(self, stream: Handle) -> None:
        """After what is in it."""

    @abstractmethod
    def event(self) -> Handle:
        """A new event, without time stamps, whose waiters sleep and do not spin."""

    @abstractmethod
    def record(self, event: Handle, stream: Handle) -> None:
        """The event happens when all that is in the stream now is done."""

    @abstractmethod
    def wait(self, stream: Handle, event: Handle) -> None:
        """What is put into the stream from now on waits for the event; the caller does not."""

    @abstractmethod
    def done(self, event: Handle) -> bool:
        """Whether it has happened. Raises CudaError if what was recorded before it failed."""

    @abstractmethod
    def synchronise(self, event: Handle) -> None:
        """Wait for it, with the GIL let go. Raises CudaError if what was recorded before it failed."""

    @abstractmethod
    def destroy_event(self, event: Handle) -> None:
        """Free it."""

    @abstractmethod
    def copy_in(self, address: int, source: NDArray[np.uint8], stream: Handle) -> None:
        """Start a copy from pinned memory, contiguous, to the device."""

    @abstractmethod
    def copy_out(self, target: NDArray[np.uint8], address: int, stream: Handle) -> None:
        """Start a copy from the device to pinned memory, contiguous."""

    @abstractmethod
    def begin_capture(self, stream: Handle) -> None:
        """From now on the stream's work is noted and not done. Only this thread's calls are looked at."""

    @abstractmethod
    def end_capture(self, stream: Handle) -> Handle:
        """What was noted, ready to be launched as a whole."""

    @abstractmethod
    def launch_graph(self, graph: Handle, stream: Handle) -> None:
        """Put all of it into the stream."""

    @abstractmethod
    def destroy_graph(self, graph: Handle) -> None:
        """Free it."""

    @abstractmethod
    def load(self, cubin: bytes) -> Handle:
        """A module of compiled kernels."""

    @abstractmethod
    def function(self, module: Handle, name: str) -> Handle:
        """A kernel of it."""

    @abstractmethod
    def launch(
        self,
        function: Handle,
        grid: tuple[int, int, int],
        block: tuple[int, int, int],
        arguments: Sequence[int],
        stream: Handle,
    ) -> None:
        """Start a kernel whose arguments are all 64-bit: addresses."""

    @abstractmethod
    def unload(self, module: Handle) -> None:
        """Free a module."""

    @abstractmethod
    def close(self) -> None:
        """Release the primary context. Everything above must have been freed."""
