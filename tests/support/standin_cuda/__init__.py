"""A stand-in for NVIDIA's driver: `libcuda.so.1` in C (libcuda.c), to test what we do with a GPU where there is none.

What it is: the driver API as far as we, cuda-python and pycuda call it. Device memory is host memory, each stream is a
thread that works in order, graphs are recorded and replayed, kernels are host functions. It is strict about contexts,
handles, bounds, what a capture forbids and what is left behind. Nothing it shows is a result about speed or accuracy.

A process sees it by LD_LIBRARY_PATH, which is read when a process starts: so tests run it in a child, in one of two
ways.

1. A test function, as a whole (fork of a process that has numpy loaded: about 20 ms):

       @on_standin(Device("Orin", (8, 7), memory_mb=7620, integrated=True), fail="cuMemAlloc:3=2")
       def test_what_is_left_over_is_freed(tmp_path: Path) -> None:
           driver = open_driver(0)
           ...

   Fixtures and parameters are evaluated in the parent, and must be picklable. The child's own `hold`, `release`,
   `fail`, `report` and `cubin` are below. The test fails if it leaves anything of CUDA's alive (`clean=False`: it may),
   if the child crashes, also while it ends, and if pycuda complains. `pytest.skip` and `pytest.fail` work.

2. Any program: `subprocess.run([...], env=environment(tmp_path))`, then `read_report(tmp_path)` once it has ended.

Errors: `fail="cuMemAlloc:3=2,kernel:1=719"`: the 3rd call of cuMemAlloc gives 2 (out of memory), the 1st kernel that
runs in a stream fails with 719. `cuStreamCreate:2+=1`: from the 2nd call on. `cuMemcpyHtoDAsync:1=700!`: and from then
on all calls for this device give that error, as after an illegal access: until the process ends, as with CUDA. Errors
of kernels are always such. Names are without `_v2`, calls are counted from the start of the process; `fail(...)` adds
more while it runs.

Kernels: `cubin(library, NAME=N)` is an image for `Driver.load`, of kernels that are in this host library. NAME with N
64-bit arguments is there as `int host_launch_NAME(unsigned gx, gy, gz, bx, by, bz, void **arguments)` with C linkage:
each of `arguments` points to one; anything but 0 is a kernel that failed. See tests/support/host_kernels.py.
"""

from __future__ import annotations

import ctypes
import functools
import hashlib
import json
import os
import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import pytest

from tests.support.cache import cache
from tests.support.needs import missing

_SOURCES = [Path(__file__).with_name(name) for name in ("libcuda.c", "errors.inc", "unsupported.inc")]
_FLAGS = ("-std=gnu11", "-Wall", "-Werror", "-O1", "-fPIC", "-shared", "-pthread", "-fvisibility=hidden")
_REPORT = "standin_cuda.json"
_Test = TypeVar("_Test", bound=Callable[..., None])


@dataclass(frozen=True)
class Device:
    """What the stand-in says of one of its devices, and how much may be allocated there."""

    name: str = "Stand-in GPU"
    compute_capability: tuple[int, int] = (8, 9)
    memory_mb: int = 8192
    integrated: bool = False


def library() -> Path:
    """The compiled `libcuda.so.1`, alone in its folder, from the tests' cache."""
    text = b"".join(source.read_bytes() for source in _SOURCES) + " ".join(_FLAGS).encode()
    with cache() as folder:
        built = folder / f"standin-cuda-{hashlib.sha256(text).hexdigest()[:16]}" / "libcuda.so.1"
        if not built.exists():
            built.parent.mkdir(exist_ok=True)
            compile_with("gcc", *_FLAGS, "-Wl,-soname,libcuda.so.1", str(_SOURCES[0]), "-ldl", to=built)
    return built


def host_kernels() -> Path:
    """A host library with the kernels of kernels.c: `add_one` of 3 arguments, `gate` of 1."""
    source = Path(__file__).with_name("kernels.c")
    with cache() as folder:
        built = folder / f"standin-kernels-{hashlib.sha256(source.read_bytes()).hexdigest()[:16]}.so"
        if not built.exists():
            compile_with("gcc", "-Wall", "-Werror", "-O1", "-fPIC", "-shared", str(source), to=built)
    return built


def compile_with(compiler: str, *arguments: str, to: Path) -> None:
    """Run gcc or g++; nothing but a whole file is ever found under `to`."""
    unready = to.with_name(f"{to.name}.{os.getpid()}")
    try:
        done = subprocess.run([compiler, "-o", str(unready), *arguments], capture_output=True, text=True, check=False)
    except FileNotFoundError:
        missing(compiler)
    if done.returncode:
        pytest.fail(f"{compiler} does not take it: {done.stderr[-2000:]}", pytrace=False)
    unready.replace(to)


def settings(
    *devices: Device, driver: tuple[int, int] = (13, 0), fail: str = "", init: int = 0, report: Path | None = None
) -> dict[str, str]:
    """The stand-in's environment variables; `init`: what cuInit answers."""
    given = devices or (Device(),)
    fields = {
        "STANDIN_CUDA_DEVICES": ";".join(
            f"{d.name}|{d.compute_capability[0]}.{d.compute_capability[1]}|{d.memory_mb}|{d.integrated:d}"
            for d in given
        ),
        "STANDIN_CUDA_DRIVER": str(driver[0] * 1000 + driver[1] * 10),
        "STANDIN_CUDA_FAIL": fail,
    }
    if init:
        fields["STANDIN_CUDA_INIT"] = str(init)
    if report is not None:
        fields["STANDIN_CUDA_REPORT"] = str(report)
    return fields


def environment(
    folder: Path, *devices: Device, driver: tuple[int, int] = (13, 0), fail: str = "", init: int = 0
) -> dict[str, str]:
    """A whole environment for a child process that finds the stand-in and reports to `folder` when it ends."""
    found = str(library().parent)
    given = os.environ.get("LD_LIBRARY_PATH")
    paths = f"{found}:{given}" if given else found
    return {
        **os.environ,
        "LD_LIBRARY_PATH": paths,
        **settings(*devices, driver=driver, fail=fail, init=init, report=folder / _REPORT),
    }


def read_report(folder: Path) -> dict[str, Any]:
    """What `report` gives, as the last process with this folder's `environment` left it at its end."""
    return dict(json.loads((folder / _REPORT).read_text()))


def cubin(host_library: Path, **arguments: int) -> bytes:
    """The image of a module: name of each kernel -> how many arguments it takes."""
    lines = ["stand-in cubin", str(host_library), *(f"{name} {number}" for name, number in arguments.items())]
    return "\n".join([*lines, "\0"]).encode()


# -- in the child only


def _lib() -> ctypes.CDLL:
    return ctypes.CDLL("libcuda.so.1")


def hold() -> None:
    """No stream begins anything until `release`: events are under way for as long as a test likes."""
    _lib().standin_hold()


def release() -> None:
    """Let streams work."""
    _lib().standin_release()


def fail(errors: str) -> None:
    """Order errors while the process runs; calls have been counted from its start (see `report()["calls"]`)."""
    assert _lib().standin_fail(errors.encode()) == errors.count(",") + 1, errors


def report() -> dict[str, Any]:
    """What lives, what was left when its context ended, what was done wrongly or slowly, and calls.

    `alive`, `leaked`: kind -> number. `overruns`, `unpinned_copies`, `timed_events`, `spinning_events`,
    `blocking_streams`: numbers. `calls`: name with its _v2 -> number, and `kernel`: runs, also those in graphs.
    """
    text = ctypes.create_string_buffer(1 << 16)
    _lib().standin_report(text, len(text))
    return dict(json.loads(text.value))


def on_standin(
    *devices: Device, driver: tuple[int, int] = (13, 0), fail: str = "", init: int = 0, clean: bool = True
) -> Callable[[_Test], _Test]:
    """Run a test function in a child process that finds the stand-in."""
    variables = settings(*devices, driver=driver, fail=fail, init=init)

    def decorate(test: _Test) -> _Test:
        @functools.wraps(test)
        def in_child(**arguments: Any) -> None:
            from tests.support.standin_cuda import children

            children.run(test.__module__, test.__qualname__, arguments, variables, clean)

        return pytest.mark.usefixtures("standin_cuda")(in_child)  # type: ignore[return-value]

    return decorate
