"""CUDA C++ to machine code for one kind of GPU, by NVIDIA's runtime compiler. Needs neither a GPU nor its driver.

By ctypes, so that it does not matter which Python binding of CUDA there is, or whether there is one.
"""

from __future__ import annotations

import ctypes
import importlib
import importlib.util
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from typing import Any

from engines.errors import BackendError

_NAMES = ("libnvrtc.so", "libnvrtc.so.13", "libnvrtc.so.12")
_INVALID_OPTION = 5
_OPTIONS = ("--std=c++17", "--fmad=false")
"""Without fused steps: the kernels' arithmetic is that of the CPU."""


def compile(source: str, compute_capability: tuple[int, int]) -> bytes:  # noqa: A001  # it reads nvrtc.compile
    """Cubin of a source for a compute capability, (8, 7); the same bytes each time.

    Raises BackendError where there is no compiler, or it does not know the GPU or does not take the source.
    """
    library = _library()
    target = "sm_{}{}".format(*compute_capability)
    program = ctypes.c_void_p()
    _call(library.nvrtcCreateProgram, ctypes.byref(program), source.encode(), b"kernels.cu", 0, None, None)
    try:
        options = [option.encode() for option in (f"--gpu-architecture={target}", *_OPTIONS)]
        result = library.nvrtcCompileProgram(program, len(options), (ctypes.c_char_p * len(options))(*options))
        if result:
            log = _read(library.nvrtcGetProgramLogSize, library.nvrtcGetProgramLog, program)
            raise BackendError(_said(result, target, log.rstrip(b"\0").decode(errors="replace")))
        return _read(library.nvrtcGetCUBINSize, library.nvrtcGetCUBIN, program)
    finally:
        library.nvrtcDestroyProgram(ctypes.byref(program))


def version() -> tuple[int, int]:
    """Of the CUDA that the compiler is of, (13, 5). Raises BackendError."""
    major, minor = ctypes.c_int(), ctypes.c_int()
    _call(_library().nvrtcVersion, ctypes.byref(major), ctypes.byref(minor))
    return major.value, minor.value


def _said(result: int, target: str, log: str) -> str:
    lines = [line.strip() for line in log.splitlines() if line.strip()]
    first = next((line for line in lines if "error" in line), lines[0] if lines else f"code {result}")
    if result == _INVALID_OPTION:
        return f"the CUDA compiler libnvrtc does not know {target} ({first}): install the release of CUDA for this GPU"
    return f"the CUDA compiler libnvrtc cannot compile the kernels for {target}: {first}"


def _call(function: Callable[..., int], *arguments: object) -> None:
    result = function(*arguments)
    if result:
        raise BackendError(f"the CUDA compiler libnvrtc failed: {getattr(function, '__name__', '')} gave {result}")


def _read(size_of: Callable[..., int], copy: Callable[..., int], program: ctypes.c_void_p) -> bytes:
    size = ctypes.c_size_t()
    _call(size_of, program, ctypes.byref(size))
    buffer = ctypes.create_string_buffer(size.value)
    _call(copy, program, buffer)
    return buffer.raw


@cache
def _library() -> ctypes.CDLL:
    """The first libnvrtc that loads. Raises BackendError."""
    reasons = []
    for name in _candidates():
        try:
            for part in Path(name).parent.glob("libnvrtc-builtins.so.*") if "/" in name else ():
                ctypes.CDLL(str(part))  # it looks for this later, and in some wheels (13.0.48) not beside itself
            return ctypes.CDLL(name)
        except OSError as error:
            reasons.append(str(error))
    raise BackendError(
        "the CUDA compiler libnvrtc is not there: pip install nvidia-cuda-nvrtc; "
        f"on a Jetson apt install cuda-nvrtc-12-6, or what that is for its release of CUDA ({reasons[-1]})"
    )


def _candidates() -> Iterator[str]:
    """Paths and names, best first: NVIDIA's own search, pip's wheels, the system's loader."""
    if found := _by_pathfinder():
        yield found
    spec = importlib.util.find_spec("nvidia")
    for root in (spec.submodule_search_locations if spec else None) or ():
        yield from map(str, sorted(Path(root).glob("*/lib/libnvrtc.so.*"), reverse=True))
    yield from _NAMES


def _by_pathfinder() -> str | None:
    try:
        pathfinder: Any = importlib.import_module("cuda.pathfinder")
    except ImportError:
        return None
    try:
        return str(pathfinder.load_nvidia_dynamic_lib("nvrtc").abs_path)
    except (RuntimeError, OSError):  # it finds none, or one that does not load
        return None
