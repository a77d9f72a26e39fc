"""The NVIDIA driver, asked by ctypes what it has: before any package that would crash without one.

No context is made. Asking is safe where nothing is installed. It starts the driver in this process (cuInit), so it must
not be done before a fork whose child uses CUDA, and it may take a second on a machine whose GPU sleeps.
"""

from __future__ import annotations

import ctypes
from dataclasses import dataclass

from engines.cuda.driver import Facts
from engines.cuda.errors import CudaError, NoDevice, translate

LIBRARY = "libcuda.so.1"
OLDEST = (12, 0)
"""The oldest CUDA whose driver will do: what cuda-python 12 and all TensorRT that we take need."""
_NO_DEVICE = 100
_INTEGRATED, _MAJOR, _MINOR = 18, 75, 76
"""CU_DEVICE_ATTRIBUTE_INTEGRATED, _COMPUTE_CAPABILITY_MAJOR, _COMPUTE_CAPABILITY_MINOR."""


@dataclass(frozen=True)
class Probe:
    """What the driver has."""

    driver: tuple[int, int]
    """The newest CUDA that it takes."""
    devices: tuple[Facts, ...]
    """At least one; their places are their ordinals."""

    def device(self, ordinal: int) -> Facts:
        """Raises NoDevice that names those that are there."""
        if not 0 <= ordinal < len(self.devices):
            names = ", ".join(f"{number}: {facts.name}" for number, facts in enumerate(self.devices))
            raise NoDevice(f"there is no GPU {ordinal}; there are {names}: set `device` to one of these")
        return self.devices[ordinal]


def probe(oldest: tuple[int, int] = OLDEST) -> Probe:
    """Ask the driver. Raises NoDevice: what is missing, what to do; `code` is that of the call that failed, if any."""
    try:
        lib = ctypes.CDLL(LIBRARY)
    except OSError as error:
        raise NoDevice(
            f"{LIBRARY} of the NVIDIA driver cannot be loaded ({error}): install the driver; in a container: "
            "docker run --gpus all, on a Jetson --runtime nvidia"
        ) from None
    try:
        return _ask(lib, oldest)
    except CudaError as error:
        raise NoDevice(str(error), error.code, error.said) from None
    except AttributeError as error:
        raise NoDevice(f"{LIBRARY} is not a driver that can be used ({error}): update the NVIDIA driver") from None


def _ask(lib: ctypes.CDLL, oldest: tuple[int, int]) -> Probe:
    check(lib, "cuInit", lib.cuInit(0))
    version, count = ctypes.c_int(), ctypes.c_int()
    check(lib, "cuDriverGetVersion", lib.cuDriverGetVersion(ctypes.byref(version)))
    driver = (version.value // 1000, version.value % 1000 // 10)
    if driver < oldest:
        taken, needed = (f"{major}.{minor}" for major, minor in (driver, oldest))
        raise NoDevice(f"the NVIDIA driver takes CUDA {taken}, and {needed} is needed: update the driver")
    check(lib, "cuDeviceGetCount", lib.cuDeviceGetCount(ctypes.byref(count)))
    if not count.value:
        raise translate(_NO_DEVICE, "CUDA_ERROR_NO_DEVICE", "cuDeviceGetCount")
    return Probe(driver, tuple(_facts(lib, ordinal, driver) for ordinal in range(count.value)))


def _facts(lib: ctypes.CDLL, ordinal: int, driver: tuple[int, int]) -> Facts:
    device, name, memory = ctypes.c_int(), ctypes.create_string_buffer(256), ctypes.c_size_t()
    check(lib, "cuDeviceGet", lib.cuDeviceGet(ctypes.byref(device), ordinal))
    check(lib, "cuDeviceGetName", lib.cuDeviceGetName(name, len(name), device))
    check(lib, "cuDeviceTotalMem", lib.cuDeviceTotalMem_v2(ctypes.byref(memory), device))

    def attribute(number: int) -> int:
        value = ctypes.c_int()
        check(lib, "cuDeviceGetAttribute", lib.cuDeviceGetAttribute(ctypes.byref(value), number, device))
        return value.value

    return Facts(
        name=name.value.decode(errors="replace"),
        compute_capability=(attribute(_MAJOR), attribute(_MINOR)),
        memory=memory.value,
        integrated=bool(attribute(_INTEGRATED)),
        driver=f"{driver[0]}.{driver[1]}",
    )


def check(lib: ctypes.CDLL, call: str, code: int) -> None:
    """Raise CudaError unless the call's answer is success."""
    if code:
        raise translate(code, said(lib, "cuGetErrorName", code), call, said(lib, "cuGetErrorString", code))


def said(lib: ctypes.CDLL, which: str, code: int) -> str:
    """`cuGetErrorName` or `cuGetErrorString` of an error; empty where the driver does not know it."""
    text = ctypes.c_char_p()
    getattr(lib, which)(code, ctypes.byref(text))
    return (text.value or b"").decode(errors="replace")
