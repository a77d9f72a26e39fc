"""How fast memory is copied, to measure everything else by."""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from contextlib import ExitStack

from engines.cuda.driver import Driver
from tests.prove.gpu_check.timing import Lane

MIB = 1 << 20


def bandwidths(driver: Driver, seconds: float, most: int) -> dict[str, float]:
    """GB/s: pinned memory to the device, back, and within the device (bytes copied; each is read and written)."""
    size = min(most, driver.free_memory() // 16 // MIB * MIB)
    with ExitStack() as taken:
        lane = Lane(driver)
        taken.callback(lane.close)
        one, other = driver.allocate(size), driver.allocate(size)
        taken.callback(driver.free, one)
        taken.callback(driver.free, other)
        pinned = driver.pin(size)
        taken.callback(driver.unpin, pinned)
        within = _within(driver, lane, other, one, size)
        each = {
            "host_to_device": lane.each(lambda _: driver.copy_in(one, pinned.view, lane.stream), seconds),
            "device_to_host": lane.each(lambda _: driver.copy_out(pinned.view, one, lane.stream), seconds),
            "device_to_device": lane.each(lambda _: within(), seconds),
        }
    return {name: size / one_takes / 1e9 for name, one_takes in each.items()}


def _within(driver: Driver, lane: Lane, to: int, source: int, size: int) -> Callable[[], None]:
    """A copy from device to device; the engines need none, so `Driver` has none."""
    copy = ctypes.CDLL("libcuda.so.1").cuMemcpyDtoDAsync_v2
    copy.argtypes = ctypes.c_uint64, ctypes.c_uint64, ctypes.c_size_t, ctypes.c_void_p
    stream = driver.stream_address(lane.stream)

    def start() -> None:
        if status := copy(to, source, size, stream):
            raise RuntimeError(f"cuMemcpyDtoDAsync gave {status}")

    return start
