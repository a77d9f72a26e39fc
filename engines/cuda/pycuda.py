"""`Driver` by pycuda, which Jetsons often have. It has no graphs.

pycuda keeps a stack of contexts for each thread, aborts the program if one is not empty when its thread ends, and
cleans up what it made only where it finds the context that it was made in. So each call here pushes the context and
pops it again, and what pycuda makes is kept in a `_Held` that lets go of it in such a call.
"""

from __future__ import annotations

import ctypes
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import Any

import numpy as np
from numpy.typing import NDArray

from engines.cuda.driver import Driver, Facts, Handle, Pinned
from engines.cuda.errors import CudaError, DeviceLost, translate
from engines.cuda.probe import LIBRARY, check, said

_NON_BLOCKING = 1
_UNKNOWN = 999


class _Held:
    """One of pycuda's objects, let go of when we say so."""

    def __init__(self, it: Any) -> None:
        self.it = it
        self.parts: list[_Held] = []
        """What keeps it alive: functions keep their module."""


class PyCuda(Driver):
    """See Driver."""

    graphs = False

    def __init__(self, drv: Any, version: str, facts: Facts, ordinal: int) -> None:
        """`drv`: the module `pycuda.driver`."""
        self.binding = f"pycuda {version}"
        self.facts = facts
        self._drv = drv
        self._lib = ctypes.CDLL(LIBRARY)
        self._allocations: dict[int, _Held] = {}
        self._lost = False
        self._dropped: list[Any] = []
        """To be destroyed; on a lost device when its context is known to be gone."""
        with self._translated():
            drv.init()
            self._context = drv.Device(ordinal).retain_primary_context()
        # At the end of a program that did not close it pycuda would release it in a wrong way, and complain: it stays.
        ctypes.pythonapi.Py_IncRef(ctypes.py_object(self._context))
        self.make_current()

    @contextmanager
    def _current(self) -> Iterator[None]:
        with self._translated():
            self._context.push()
            try:
                yield
            finally:
                self._drv.Context.pop()

    @contextmanager
    def _translated(self) -> Iterator[None]:
        try:
            yield
        except self._drv.Error as error:
            translated = self._translate(str(error))
            self._lost = self._lost or isinstance(translated, DeviceLost)
            raise translated from None

    def _translate(self, message: str) -> CudaError:
        """What pycuda tells is the call and the driver's text of the error, and perhaps more, but not its code."""
        call, _, text = message.partition(" failed: ")
        codes = {said(self._lib, "cuGetErrorString", code): code for code in range(1, _UNKNOWN + 1)}
        known = max((known for known in codes if text.startswith(known)), key=len)
        code = codes[known] if known else _UNKNOWN
        return translate(code, said(self._lib, "cuGetErrorName", code), call, text)

    def _drop(self, held: _Held) -> None:
        """Destroy one of pycuda's objects, which it does when nobody refers to it any more."""
        for part in held.parts:
            part.it = None
        self._dropped.append(held.it)
        held.it = None
        if not self._lost:
            with suppress(DeviceLost), self._current():
                self._dropped.clear()

    def make_current(self) -> None:
        """See Driver."""
        check(self._lib, "cuCtxSetCurrent", self._lib.cuCtxSetCurrent(ctypes.c_void_p(self._context.handle)))

    def free_memory(self) -> int:
        """See Driver."""
        with self._current():
            return int(self._drv.mem_get_info()[0])

    def allocate(self, size: int) -> int:
        """See Driver."""
        with self._current():
            made = self._drv.mem_alloc(size)
            address = int(made)
            self._allocations[address] = _Held(made)
            del made
        return address

    def free(self, address: int) -> None:
        """See Driver."""
        self._drop(self._allocations.pop(address))

    def pin(self, size: int) -> Pinned:
        """See Driver."""
        with self._current():
            view = self._drv.pagelocked_empty(size, np.uint8, mem_flags=self._drv.host_alloc_flags.PORTABLE)
        return Pinned(view, view.base)

    def unpin(self, pinned: Pinned) -> None:
        """See Driver."""
        if not self._lost:
            with suppress(DeviceLost), self._current():
                pinned.handle.free()

    def stream(self) -> Handle:
        """See Driver."""
        with self._current():
            return _Held(self._drv.Stream(_NON_BLOCKING))

    def stream_address(self, stream: Handle) -> int:
        """See Driver."""
        return int(stream.it.handle)

    def destroy_stream(self, stream: Handle) -> None:
        """See Driver."""
        self._drop(stream)

    def event(self) -> Handle:
        """See Driver."""
        flags = self._drv.event_flags
        with self._current():
            return _Held(self._drv.Event(flags.BLOCKING_SYNC | flags.DISABLE_TIMING))

    def record(self, event: Handle, stream: Handle) -> None:
        """See Driver."""
        with self._current():
            event.it.record(stream.it)

    def wait(self, stream: Handle, event: Handle) -> None:
        """See Driver."""
        with self._current():
            stream.it.wait_for_event(event.it)

    def done(self, event: Handle) -> bool:
        """See Driver."""
        with self._current():
            return bool(event.it.query())

    def synchronise(self, event: Handle) -> None:
        """See Driver."""
        with self._current():
            event.it.synchronize()

    def destroy_event(self, event: Handle) -> None:
        """See Driver."""
        self._drop(event)

    def copy_in(self, address: int, source: NDArray[np.uint8], stream: Handle) -> None:
        """See Driver."""
        with self._current():
            self._drv.memcpy_htod_async(address, source, stream.it)

    def copy_out(self, target: NDArray[np.uint8], address: int, stream: Handle) -> None:
        """See Driver."""
        with self._current():
            self._drv.memcpy_dtoh_async(target, address, stream.it)

    def begin_capture(self, stream: Handle) -> None:  # noqa: ARG002
        """See Driver."""
        raise self._no_graphs()

    def end_capture(self, stream: Handle) -> Handle:  # noqa: ARG002
        """See Driver."""
        raise self._no_graphs()

    def launch_graph(self, graph: Handle, stream: Handle) -> None:  # noqa: ARG002
        """See Driver."""
        raise self._no_graphs()

    def destroy_graph(self, graph: Handle) -> None:  # noqa: ARG002
        """See Driver."""
        raise self._no_graphs()

    def _no_graphs(self) -> CudaError:
        return CudaError(f"{self.binding} has no CUDA graphs: cuda-python has them")

    def load(self, cubin: bytes) -> Handle:
        """See Driver."""
        with self._current():
            return _Held(self._drv.module_from_buffer(cubin))

    def function(self, module: Handle, name: str) -> Handle:
        """See Driver."""
        with self._current():
            found = _Held(module.it.get_function(name))
        module.parts.append(found)
        return found

    def launch(
        self,
        function: Handle,
        grid: tuple[int, int, int],
        block: tuple[int, int, int],
        arguments: Sequence[int],
        stream: Handle,
    ) -> None:
        """See Driver."""
        with self._current():
            function.it.prepare("P" * len(arguments))
            function.it.prepared_async_call(grid, block, stream.it, *arguments)

    def unload(self, module: Handle) -> None:
        """See Driver."""
        self._drop(module)

    def close(self) -> None:
        """See Driver."""
        if self._context is None:
            return
        context, self._context = self._context, None
        with suppress(DeviceLost), self._translated():
            context.push()
            context.detach()
            # What is of no use any more leaves pycuda's own stack when this looks at it; CUDA's is our part.
            self._drv.Context.get_current()
            self._lib.cuCtxPopCurrent_v2(ctypes.byref(ctypes.c_void_p()))
        self._dropped.clear()
