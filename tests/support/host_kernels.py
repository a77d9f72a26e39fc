"""The kernels' source compiled for the CPU: the same index arithmetic and the same numbers, and nothing about speed."""

from __future__ import annotations

import ctypes
import hashlib
import os
import shutil
import subprocess
from collections.abc import Sequence
from functools import cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from engines.cuda.preparing import BLOCK, SOURCE, grid, stage
from engines.pixels import Geometry, Picture
from tests.support.cache import cache as kept
from tests.support.needs import missing

HOST = Path(__file__).with_suffix(".cpp")
SANITIZED = ("-g", "-O0", "-fsanitize=address,undefined", "-fno-sanitize-recover=all")


@cache
def library(*options: str) -> Path:
    """The shared library, built once for each content; its symbol `host_launch_prepare` launches the kernel."""
    compiler = shutil.which("g++") or missing("g++")
    flags = ("-std=c++17", "-O2", "-ffp-contract=off", "-Wall", "-Wextra", "-Werror", *options)
    content = hashlib.sha256(repr(flags).encode() + SOURCE.read_bytes() + HOST.read_bytes()).hexdigest()
    with kept() as folder:
        built = folder / f"host-kernels-{content[:16]}.so"
        if not built.exists():
            partial = built.with_suffix(".partial")
            command = [compiler, *flags, "-fPIC", "-shared", f'-DKERNELS="{SOURCE}"', str(HOST), "-o", str(partial)]
            done = subprocess.run(command, capture_output=True, text=True, timeout=100)
            assert done.returncode == 0, done.stderr
            partial.replace(built)
    return built


def sanitizers() -> dict[str, str]:
    """Environment of a process that loads a library that was built SANITIZED."""
    found = subprocess.run(["g++", "-print-file-name=libasan.so"], capture_output=True, text=True, check=True)
    return {"LD_PRELOAD": found.stdout.strip(), "ASAN_OPTIONS": "detect_leaks=0"}


@cache
def loaded() -> ctypes.CDLL:
    """It, in this process; another one where the environment variable says so."""
    return ctypes.CDLL(os.environ.get("SIGHTWIRE_HOST_KERNELS") or str(library()))


def launch(staging: NDArray[np.uint8], tensors: NDArray[np.uint8]) -> None:
    """The kernel over a whole tensor, (N, 3, H, W)."""
    rows, _, height, width = tensors.shape
    addresses = (ctypes.c_void_p * 2)(staging.ctypes.data, tensors.ctypes.data)
    arguments = (ctypes.c_void_p * 2)(*(ctypes.addressof(addresses) + 8 * index for index in range(2)))
    assert loaded().host_launch_prepare(*grid((width, height), rows), *BLOCK, arguments) == 0


def prepared(pictures: Sequence[Picture], geometries: Sequence[Geometry], rows: int | None = None) -> NDArray[np.uint8]:
    """(rows, 3, H, W): what the kernel makes of a batch."""
    width, height = geometries[0].tensor
    rows = rows or len(pictures)
    staged = stage(pictures, geometries, (width, height), rows)
    # Neither the staging nor the tensor start as anything that could pass for right.
    block = np.full(staged.size, 0xA5, np.uint8)
    staged.write(block)
    tensors = np.full((rows, 3, height, width), 0x5A, np.uint8)
    launch(block, tensors)
    return tensors
