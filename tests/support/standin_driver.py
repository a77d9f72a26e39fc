"""A stand-in for CUDA in this process, for tests of what drives it: order, counts, faults, leaks. It is no CUDA.

Memory is host memory. A stream is a list of work that is done as late as the interface allows: only when someone waits
for an event is that done which has to be done before it, and nothing else. What is not ordered by streams and events is
therefore out of order, each time.
"""

from __future__ import annotations

import ctypes
import itertools
import threading
from collections import Counter, deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from engines.cuda.driver import Driver, Facts, Handle, Pinned
from engines.cuda.errors import CudaError, DeviceLost, OutOfDeviceMemory

Kernel = Callable[[tuple[int, int, int], tuple[int, int, int], Sequence[int]], None]
"""Called with grid, block and arguments, addresses of host memory."""
_ALIGNED = 256
_FREEING = {"free", "unpin", "destroy_stream", "destroy_event", "destroy_graph", "unload"}


@dataclass(eq=False)
class Event:
    recorded: int = 0
    happened: int = 0
    stream: Stream | None = None


@dataclass(eq=False)
class Stream:
    address: int
    driver: StandInDriver
    work: deque[Callable[[], None]] = field(default_factory=deque)
    noted: list[Callable[[], None]] | None = None
    """What a capture has seen; None: none is under way."""

    def put(self, function: Callable[[], None]) -> None:
        (self.work if self.noted is None else self.noted).append(function)

    def step(self) -> None:
        self.work.popleft()()

    def drain(self) -> None:
        while self.work:
            self.step()


class StandInDriver(Driver):
    """`calls` counts; `failing` names calls that fail, `limit` bounds device and pinned memory in bytes.

    `lost`: from now on every call says that the device is gone.
    """

    binding = "stand-in"
    graphs = True
    streams: ClassVar[dict[int, Stream]] = {}
    """All that are open, of every such driver, by their addresses."""
    _numbers = itertools.count(4096)
    _currents: ClassVar[Any] = threading.local()
    """`device`: the one whose context is current in the thread, as set by any such driver."""

    def __init__(self, limit: int | None = None, kernels: dict[str, Kernel] | None = None, device: int = 0) -> None:
        self.facts = Facts("Stand-in GPU", (8, 7), 1 << 33, True, "13.0")
        self.calls: Counter[str] = Counter()
        self.failing: set[str] = set()
        self.lost = False
        self.fail_after = -2
        """So many calls succeed before one fails; below -1: all do."""
        self.limit = limit
        self.closed = False
        self.log: list[str] = []
        """Work in the order in which it was done."""
        self._kernels, self._device = kernels or {}, device
        self._thread = threading.local()
        self._memory: dict[int, tuple[int, Any]] = {}
        self._held: set[Any] = set()
        self._own_streams: set[int] = set()

    def _called(self, name: str) -> bool:
        """Whether there is anything to be done: not where it is only freed on a device that is gone."""
        assert not self.closed, f"{name} after close"
        assert getattr(self._thread, "current", False), f"{name}: no current context in this thread"
        assert self._currents.device == self._device, f"{name}: another device is current in this thread"
        self.calls[name] += 1
        self.fail_after -= 1
        if self.lost:
            if name in _FREEING:
                return False
            raise DeviceLost(f"{name}: the device is gone (stand-in)")
        if name in self.failing or self.fail_after == -1:
            raise CudaError(f"{name} failed, as asked (stand-in)")
        return True

    @property
    def held(self) -> int:
        """How many things were taken and not given back."""
        return len(self._memory) + len(self._held) + len(self._own_streams)

    def make_current(self) -> None:
        self.calls["make_current"] += 1
        self._thread.current = True
        self._currents.device = self._device

    def free_memory(self) -> int:
        return (self.limit or 1 << 32) - sum(size for size, _ in self._memory.values())

    def _take(self, size: int) -> int:
        if size > self.free_memory():
            raise OutOfDeviceMemory(f"{size} bytes of device memory are not to be had (stand-in)")
        buffer = (ctypes.c_uint8 * (size + _ALIGNED))()
        ctypes.memset(buffer, 0x5C, len(buffer))
        address = -(-ctypes.addressof(buffer) // _ALIGNED) * _ALIGNED
        self._memory[address] = (size, buffer)
        return address

    def allocate(self, size: int) -> int:
        self._called("allocate")
        return self._take(size)

    def free(self, address: int) -> None:
        if not self._called("free"):
            return
        for stream in self._own_streams:
            self.streams[stream].drain()  # as cuMemFree does
        del self._memory[address]

    def pin(self, size: int) -> Pinned:
        self._called("pin")
        address = self._take(size)
        view = np.frombuffer((ctypes.c_uint8 * size).from_address(address), np.uint8)
        return Pinned(view, address)

    def unpin(self, pinned: Pinned) -> None:
        if not self._called("unpin"):
            return
        del self._memory[pinned.handle]

    def stream(self) -> Handle:
        self._called("stream")
        made = Stream(next(self._numbers), self)
        self.streams[made.address] = made
        self._own_streams.add(made.address)
        return made

    def stream_address(self, stream: Handle) -> int:
        return int(stream.address)

    def destroy_stream(self, stream: Handle) -> None:
        if not self._called("destroy_stream"):
            return
        stream.drain()
        self._own_streams.remove(stream.address)
        del self.streams[stream.address]

    def event(self) -> Handle:
        self._called("event")
        made = Event()
        self._held.add(made)
        return made

    def record(self, event: Handle, stream: Handle) -> None:
        self._called("record")
        event.recorded += 1
        event.stream, number = stream, event.recorded
        stream.put(lambda: setattr(event, "happened", number))

    def wait(self, stream: Handle, event: Handle) -> None:
        self._called("wait")
        number = event.recorded
        stream.put(lambda: self._until(event, number))

    def _until(self, event: Event, number: int) -> None:
        while event.happened < number:
            assert event.stream is not None
            event.stream.step()

    def done(self, event: Handle) -> bool:
        """Each question gets one more piece of work done."""
        self._called("done")
        if event.happened < event.recorded:
            event.stream.step()
        return bool(event.happened >= event.recorded)

    def synchronise(self, event: Handle) -> None:
        self._called("synchronise")
        self._until(event, event.recorded)

    def destroy_event(self, event: Handle) -> None:
        if not self._called("destroy_event"):
            return
        self._held.remove(event)

    def _is_held(self, address: int, size: int) -> bool:
        return any(a <= address and address + size <= a + known for a, (known, _) in self._memory.items())

    def copy_in(self, address: int, source: NDArray[np.uint8], stream: Handle) -> None:
        self._called("copy_in")
        self._copy(address, source.ctypes.data, source, stream, "upload")

    def copy_out(self, target: NDArray[np.uint8], address: int, stream: Handle) -> None:
        self._called("copy_out")
        self._copy(target.ctypes.data, address, target, stream, "download")

    def _copy(self, to: int, source: int, array: NDArray[np.uint8], stream: Stream, name: str) -> None:
        assert array.flags.c_contiguous
        assert array.dtype == np.uint8
        size = array.nbytes
        assert self._is_held(to, size), f"{name} of {size} bytes to memory that nobody holds"
        assert self._is_held(source, size), f"{name} of {size} bytes from memory that nobody holds"
        stream.put(lambda: (self.log.append(name), ctypes.memmove(to, source, size))[0])

    def begin_capture(self, stream: Handle) -> None:
        self._called("begin_capture")
        assert stream.noted is None
        stream.noted = []

    def end_capture(self, stream: Handle) -> Handle:
        noted, stream.noted = stream.noted, None
        assert noted is not None
        self._called("end_capture")
        if not noted:
            raise CudaError("nothing was captured (stand-in)")
        graph = tuple(noted)
        self._held.add(graph)
        return graph

    def launch_graph(self, graph: Handle, stream: Handle) -> None:
        self._called("launch_graph")
        assert graph in self._held
        for function in graph:
            stream.put(function)

    def destroy_graph(self, graph: Handle) -> None:
        if not self._called("destroy_graph"):
            return
        self._held.remove(graph)

    def load(self, cubin: bytes) -> Handle:
        self._called("load")
        module = ("module", cubin, id(cubin))
        self._held.add(module)
        return module

    def function(self, module: Handle, name: str) -> Handle:
        self._called("function")
        return self._kernels[name]

    def launch(
        self,
        function: Handle,
        grid: tuple[int, int, int],
        block: tuple[int, int, int],
        arguments: Sequence[int],
        stream: Handle,
    ) -> None:
        self._called("launch")
        stream.put(lambda: (self.log.append("kernel"), function(grid, block, list(arguments)))[0])

    def unload(self, module: Handle) -> None:
        if not self._called("unload"):
            return
        self._held.remove(module)

    def close(self) -> None:
        self.calls["close"] += 1
        self.closed = True

    @classmethod
    def host_function(cls, address: int, function: Callable[[], None]) -> None:
        """For the stand-in `trt` namespace: `streams.launch`."""
        stream = cls.streams[address]
        stream.put(lambda: (stream.driver.log.append("network"), function())[0])

    @classmethod
    def captured(cls, address: int) -> bool:
        """Likewise: `streams.captured`."""
        return cls.streams[address].noted is not None
