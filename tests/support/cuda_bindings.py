"""The packages that bind CUDA, each as it is installed somewhere: the newest, the oldest that will do, and pycuda."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
import sysconfig
import tempfile
from dataclasses import dataclass
from pathlib import Path

import pytest

from engines.cuda.binding import open_driver
from engines.cuda.driver import Driver
from tests.support.cache import cache
from tests.support.needs import missing
from tests.support.standin_cuda import library

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
    tag = f"{name}-{sysconfig.get_config_var('SOABI')}"
    driver = library()
    with cache() as kept:
        folder = kept / tag
        if not folder.exists():
            with tempfile.TemporaryDirectory(dir=kept) as unready:
                if name.startswith("pycuda"):
                    _build(name, Path(unready), driver)
                else:
                    _install(Path(unready) / "site", "--only-binary=:all:", name)
                (Path(unready) / "site").rename(folder)
    return Binding(name, folder)


def _build(name: str, folder: Path, driver: Path) -> None:
    """Compile pycuda, quickly rather than well: 80 s of a core. It reads its options from the home directory."""
    _install(folder / "headers", "--only-binary=:all:", *_HEADERS)
    options = {
        "CUDA_ROOT": str(folder),
        "CUDA_INC_DIR": [str(folder / "headers/nvidia/cu13/include")],
        "CUDADRV_LIB_DIR": [str(driver.parent)],
        "CUDADRV_LIBNAME": [f":{driver.name}"],
        "CUDA_ENABLE_CURAND": False,
        "CXXFLAGS": ["-O0", "-g0", "-w"],
    }
    (folder / ".aksetup-defaults.py").write_text("".join(f"{key} = {value!r}\n" for key, value in options.items()))
    _install(folder / "site", "--no-cache-dir", "--no-binary=pycuda", name, home=folder)


def _install(folder: Path, *arguments: str, home: Path | None = None) -> None:
    command = [sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-deps"]
    command += ["--no-compile", f"--target={folder}", *arguments]
    variables = {**os.environ, "HOME": str(home)} if home else None
    done = subprocess.run(command, env=variables, capture_output=True, text=True, check=False)
    if done.returncode:
        pytest.fail(f"{arguments[-1]} cannot be installed: {done.stderr[-3000:]}", pytrace=False)
