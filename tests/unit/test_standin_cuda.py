"""The stand-in for CUDA's driver tells what a program does wrong, and tests that run on it fail for it."""

from __future__ import annotations

import ctypes
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from engines.cuda.binding import open_driver
from tests.support.standin_cuda import Device, environment, on_standin, read_report


@on_standin()
def forgetful() -> None:
    driver = open_driver()
    driver.allocate(1)
    driver.event()
    driver.close()


@on_standin()
def careless() -> None:
    driver = open_driver()
    address = driver.allocate(8)
    ctypes.memset(address, 0, 9)
    driver.free(address)
    driver.close()


@on_standin()
def crashing() -> None:
    ctypes.memset(0, 0, 1)


@on_standin()
def wrong() -> None:
    seen = 41
    assert seen == 42


@pytest.mark.usefixtures("standin_cuda")
@pytest.mark.parametrize(
    ("function", "told"),
    [
        (forgetful, r"leaked: \{'allocations': 1, 'events': 1\}"),
        (careless, "1 writes beyond the end of memory"),
        (crashing, "SIGSEGV"),
        (wrong, "seen = 41"),
    ],
)
def test_what_is_done_wrongly_fails_the_test(function: Any, told: str) -> None:
    with pytest.raises(pytest.fail.Exception, match=told):
        function()


@on_standin()
def test_what_cuda_forbids_is_refused() -> None:
    driver = open_driver()
    lib = ctypes.CDLL("libcuda.so.1")
    stream, memory, pinned = driver.stream(), driver.allocate(8), driver.pin(9)
    handle = ctypes.c_void_p(driver.stream_address(stream))
    source = ctypes.c_void_p(pinned.view.ctypes.data)
    assert lib.cuMemcpyHtoDAsync_v2(ctypes.c_uint64(memory), source, ctypes.c_size_t(9), handle) == 1  # it ends before
    lib.cuCtxSetCurrent(None)
    assert lib.cuMemFree_v2(ctypes.c_uint64(memory)) == 201  # no context
    driver.make_current()
    driver.free(memory)
    assert lib.cuMemFree_v2(ctypes.c_uint64(memory)) == 1  # twice
    driver.destroy_stream(stream)
    assert lib.cuStreamSynchronize(handle) == 400  # no stream any more
    driver.unpin(pinned)
    driver.close()


def test_a_program_leaves_a_report(tmp_path: Path) -> None:
    code = "from engines.cuda.binding import open_driver; driver = open_driver(1); driver.allocate(1)"
    variables = {**environment(tmp_path, Device(), Device("second")), "PYTHONPATH": os.pathsep.join(sys.path)}
    subprocess.run([sys.executable, "-c", code], env=variables, check=True, timeout=60)
    report = read_report(tmp_path)
    assert (report["alive"]["allocations"], report["calls"]["cuMemAlloc_v2"]) == (1, 1)
