"""`Driver` by NVIDIA's cuda-python, 12.6 and later."""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from contextlib import suppress
from typing import Any

import numpy as np
from numpy.typing import NDArray

from engines.cuda.driver import Driver, Facts, Handle, Pinned
from engines.cuda.errors import DeviceLost
from engines.cuda.probe import LIBRARY, check

_NOT_READY = 600
_NON_BLOCKING, _PORTABLE = 1, 1
_BLOCKING_SYNC, _DISABLE_TIMING = 1, 2


class CudaPython(Driver):
    """See Driver."""

    graphs = True

    def __init__(self, cuda: Any, version: str, facts: Facts, ordinal: int) -> None:
        """`cuda`: the module `cuda.bindings.driver`, or its forerunner `cuda.cuda`."""
        self.binding = f"cuda-python {version}"
        self.facts = facts
        self._cuda = cuda
        self._lib = ctypes.CDLL(LIBRARY)
        # Its own cuEventSynchronize keeps the GIL before version 13.
        self._wait_for = self._lib.cuEventSynchronize
        self._wait_for.argtypes = [ctypes.c_void_p]
        self._thread_local = cuda.CUstreamCaptureMode.CU_STREAM_CAPTURE_MODE_THREAD_LOCAL
        self._call("cuInit", 0)
        self._device = self._call("cuDeviceGet", ordinal)
        self._context = self._call("cuDevicePrimaryCtxRetain", self._device)
        self.make_current()

    def _call(self, name: str, *arguments: Any) -> Any:
        code, *results = getattr(self._cuda, name)(*arguments)
        if code:
            check(self._lib, name, int(code))
        return results[0] if len(results) == 1 else results

    def _free(self, name: str, *arguments: Any) -> None:
        """What was lost with its device needs no freeing, and cannot be freed."""
        with suppress(DeviceLost):
            self._call(name, *arguments)

    def make_current(self) -> None:
        """See Driver."""
        self._call("cuCtxSetCurrent", self._context)

    def free_memory(self) -> int:
        """See Driver."""
        return int(self._call("cuMemGetInfo")[0])

    def allocate(self, size: int) -> int:
        """See Driver."""
        return int(self._call("cuMemAlloc", size))

    def free(self, address: int) -> None:
        """See Driver."""
        self._free("cuMemFree", address)

    def pin(self, size: int) -> Pinned:
        """See Driver."""
        address = int(self._call("cuMemHostAlloc", size, _PORTABLE))
        return Pinned(np.ctypeslib.as_array((ctypes.c_uint8 * size).from_address(address)), address)

    def unpin(self, pinned: Pinned) -> None:
        """See Driver."""
        self._free("cuMemFreeHost", pinned.handle)

    def stream(self) -> Handle:
        """See Driver."""
        return self._call("cuStreamCreate", _NON_BLOCKING)

    def stream_address(self, stream: Handle) -> int:
        """See Driver."""
        return int(stream)

    def destroy_stream(self, stream: Handle) -> None:
        """See Driver."""
        self._free("cuStreamDestroy", stream)

    def event(self) -> Handle:
        """See Driver."""
        return self._call("cuEventCreate", _BLOCKING_SYNC | _DISABLE_TIMING)

    def record(self, event: Handle, stream: Handle) -> None:
        """See Driver."""
        self._call("cuEventRecord", event, stream)

    def wait(self, stream: Handle, event: Handle) -> None:
        """See Driver."""
        self._call("cuStreamWaitEvent", stream, event, 0)

    def done(self, event: Handle) -> bool:
        """See Driver."""
        code = int(self._cuda.cuEventQuery(event)[0])
        if code == _NOT_READY:
            return False
        check(self._lib, "cuEventQuery", code)
        return True

    def synchronise(self, event: Handle) -> None:
        """See Driver."""
        check(self._lib, "cuEventSynchronize", self._wait_for(int(event)))

    def destroy_event(self, event: Handle) -> None:
        """See Driver."""
        self._free("cuEventDestroy", event)

    def copy_in(self, address: int, source: NDArray[np.uint8], stream: Handle) -> None:
        """See Driver."""
        self._call("cuMemcpyHtoDAsync", address, source.ctypes.data, source.nbytes, stream)

    def copy_out(self, target: NDArray[np.uint8], address: int, stream: Handle) -> None:
        """See Driver."""
        self._call("cuMemcpyDtoHAsync", target.ctypes.data, address, target.nbytes, stream)

    def begin_capture(self, stream: Handle) -> None:
        """See Driver."""
        self._call("cuStreamBeginCapture", stream, self._thread_local)

    def end_capture(self, stream: Handle) -> Handle:
        """See Driver."""
        graph = self._call("cuStreamEndCapture", stream)
        try:
            return self._call("cuGraphInstantiate", graph, 0)
        finally:
            self._free("cuGraphDestroy", graph)

    def launch_graph(self, graph: Handle, stream: Handle) -> None:
        """See Driver."""
        self._call("cuGraphLaunch", graph, stream)

    def destroy_graph(self, graph: Handle) -> None:
        """See Driver."""
        self._free("cuGraphExecDestroy", graph)

    def load(self, cubin: bytes) -> Handle:
        """See Driver."""
        return self._call("cuModuleLoadData", cubin)

    def function(self, module: Handle, name: str) -> Handle:
        """See Driver."""
        return self._call("cuModuleGetFunction", module, name.encode())

    def launch(
        self,
        function: Handle,
        grid: tuple[int, int, int],
        block: tuple[int, int, int],
        arguments: Sequence[int],
        stream: Handle,
    ) -> None:
        """See Driver."""
        values = np.array(arguments, np.uint64)
        pointers = values.ctypes.data + np.arange(len(values), dtype=np.uint64) * np.uint64(values.itemsize)
        self._call("cuLaunchKernel", function, *grid, *block, 0, stream, pointers.ctypes.data, 0)

    def unload(self, module: Handle) -> None:
        """See Driver."""
        self._free("cuModuleUnload", module)

    def close(self) -> None:
        """See Driver."""
        if self._context is not None:
            self._context = None
            self._free("cuDevicePrimaryCtxRelease", self._device)
