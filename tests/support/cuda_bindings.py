"""The packages that bind CUDA, each as it is installed somewhere: the newest, the oldest that will do, and pycuda."""

from __future__ import annotations

import fcntl
import importlib.util
import shutil
import subprocess
import sys
import sysconfig
import tempfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from engines.cuda.binding import open_driver
from engines.cuda.driver import Driver
from tests.support.cache import cache
from tests.support.needs import missing
from tests.support.standin_cuda import compile_with, library

BINDINGS = ("cuda-python", "cuda-python==12.6.0", "pycuda==2026.1")
_HEADERS = ("nvidia-cuda-runtime==13.0.96", "nvidia-cuda-crt==13.0.88", "nvidia-cuda-profiler-api==13.0.85")
"""What pycuda includes: cuda.h and what that asks for."""


@dataclass(frozen=True)
class Binding:
    """One of them. Opened in a child (`on_standin`), where no other is to be seen."""

    name: str
    folder: Path | None
    """Where it is, if this Python does not have it."""

    @property
    def graphs(self) -> bool:
        return not self.name.startswith("pycuda")

    def open(self, ordinal: int = 0) -> Driver:
        if self.folder is not None:
            sys.path.insert(0, str(self.folder))
        if self.name.startswith("pycuda"):
            sys.modules["cuda"] = None  # type: ignore[assignment]  # not to be imported
        driver = open_driver(ordinal)
        assert driver.binding.replace(" ", "==").startswith(self.name), driver.binding
        return driver


def binding(name: str) -> Binding:
    """It, fetched or built where it has to be."""
    if "==" not in name:
        if importlib.util.find_spec("cuda.bindings") is None:
            missing(name)
        return Binding(name, None)
    driver = library()
    with cache() as kept:
        folder = kept / f"{name}-{sysconfig.get_config_var('SOABI')}"
    # Not under the lock of all that is kept: others need models meanwhile.
    with (kept / ".cuda.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not folder.exists():
            with tempfile.TemporaryDirectory(dir=kept) as unready:
                site = Path(unready) / "site"
                if name.startswith("pycuda"):
                    _build(name, Path(unready), driver, site)
                else:
                    _pip("install", "--only-binary=:all:", f"--target={site}", name)
                site.rename(folder)
    return Binding(name, folder)


def _build(name: str, folder: Path, driver: Path, site: Path) -> None:
    """Compile pycuda quickly rather than well, as one file: 30 s of a core where its own way takes 110 s."""
    include = sysconfig.get_path("include")
    if not (Path(include) / "Python.h").exists():
        missing("python3-dev")
    _pip("install", "--only-binary=:all:", f"--target={folder / 'headers'}", *_HEADERS)
    _pip("download", "--no-binary=pycuda", f"--dest={folder}", name)
    shutil.unpack_archive(next(folder.glob("pycuda-*.tar.gz")), folder)
    (source,) = folder.glob("pycuda-*/")
    boost = source / "bpl-subset/bpl_subset"
    (boost / "pycudaboost").symlink_to("boost")
    # The first of these sets NumPy up, for all that come after it.
    parts = [
        source / "src" / part
        for part in ("wrapper/wrap_cudadrv.cpp", "cpp/cuda.cpp", "cpp/bitlog.cpp", "wrapper/mempool.cpp")
    ]
    parts += [
        path
        for path in sorted(boost.glob("libs/**/*.cpp"))
        if "libs/thread/src" not in str(path) or path.parent.name == "pthread"
    ]
    whole = folder / "whole.cpp"
    whole.write_text("".join(f'#include "{part}"\n' for part in parts if part.name != "once_atomic.cpp"))
    includes = [source / "src/cpp", boost, folder / "headers/nvidia/cu13/include", np.get_include(), include]
    flags = ["-O0", "-w", "-fPIC", "-shared", "-pthread", *(f"-I{path}" for path in includes)]
    defined = (
        "BOOST_ALL_NO_LIB=1",
        "BOOST_PYTHON_SOURCE=1",
        "boost=pycudaboost",
        "BOOST_THREAD_BUILD_DLL=1",
        "BOOST_THREAD_DONT_USE_CHRONO=1",
        "BOOST_MULTI_INDEX_DISABLE_SERIALIZATION=1",
        "PYGPU_PACKAGE=pycuda",
        "PYGPU_PYCUDA=1",
    )
    suffix = sysconfig.get_config_var("EXT_SUFFIX")
    shutil.copytree(source / "pycuda", site / "pycuda")
    compile_with(
        "g++", *flags, *(f"-D{name}" for name in defined), str(whole), str(driver), to=site / f"pycuda/_driver{suffix}"
    )
    compile_with("g++", *flags, str(source / "src/wrapper/_pvt_struct_v3.cpp"), to=site / f"pycuda/_pvt_struct{suffix}")


def _pip(command: str, *arguments: str) -> None:
    whole = [sys.executable, "-m", "pip", command, "--quiet", "--disable-pip-version-check", "--no-deps", *arguments]
    done = subprocess.run(whole, capture_output=True, text=True, timeout=240, check=False)
    if done.returncode:
        missing(f"{arguments[-1]} ({done.stderr[-3000:].strip()})")
