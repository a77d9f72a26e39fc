"""A device's driver, by whichever binding is installed."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable

from engines.cuda.cuda_python import CudaPython
from engines.cuda.driver import Driver, Facts
from engines.cuda.errors import NoBinding
from engines.cuda.probe import probe
from engines.cuda.pycuda import PyCuda

_OLDEST = (12, 6)
"""Of cuda-python."""


def open_driver(ordinal: int = 0) -> Driver:
    """Retain a device's primary context, current in this thread.

    Raises NoDevice where there is no such device, NoBinding where no package is, CudaError.
    """
    found = probe()
    facts, reasons = found.device(ordinal), []
    for attempt in (_cuda_python, _pycuda):
        try:
            opener = attempt()
        except (ImportError, OSError, AttributeError) as error:  # half of an installation fails in each of these ways
            reasons.append(" ".join(str(error).split()))
        else:
            return opener(facts, ordinal)
    # The major version has to be the driver's: a newer one looks for calls that it does not have.
    wanted = "cuda-python>=13,<14" if found.driver >= (13, 0) else "cuda-python>=12.6,<13"
    raise NoBinding(
        f"no package for CUDA can be used ({'; '.join(reasons)}): {sys.executable} -m pip install '{wanted}'"
    )


def _cuda_python() -> Callable[[Facts, int], Driver]:
    try:
        module = importlib.import_module("cuda.bindings.driver")
        version = importlib.import_module("cuda.bindings").__version__
    except ModuleNotFoundError:  # up to 12.6.0
        module = importlib.import_module("cuda.cuda")
        version = importlib.import_module("cuda").__version__
    if tuple(int(part) for part in version.split(".")[:2]) < _OLDEST:
        raise ImportError(f"cuda-python {version} is older than {_OLDEST[0]}.{_OLDEST[1]}")
    return lambda facts, ordinal: CudaPython(module, version, facts, ordinal)


def _pycuda() -> Callable[[Facts, int], Driver]:
    driver = importlib.import_module("pycuda.driver")
    version = importlib.import_module("pycuda").VERSION_TEXT
    return lambda facts, ordinal: PyCuda(driver, version, facts, ordinal)
