"""What is asked in a child process (see `room`): each returns what JSON can carry."""

from __future__ import annotations

import ctypes
import importlib
import importlib.util
from collections.abc import Callable
from typing import Any

MODULES = {
    "av": "av",
    "cv2": "opencv-python-headless",
    "numpy": "numpy",
    "onnx": "onnx",
    "paho.mqtt.client": "paho-mqtt",
}
"""Modules with compiled parts or of great age, and the distributions that bring them."""
_MAJOR, _MINOR = 75, 76
"""CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR and _MINOR."""


def imports() -> dict[str, str]:
    """Module -> why it does not load; those that do are left out."""
    failed = {}
    for name in MODULES:
        try:
            importlib.import_module(name)
        except Exception as error:  # noqa: BLE001 - foreign libraries fail to load in every way there is
            failed[name] = _line(error)
    return failed


def cuda() -> dict[str, Any]:
    """`devices` and `cuda` (newest version the driver takes); or `absent`; or `code` and `error` of the driver."""
    try:
        lib = ctypes.CDLL("libcuda.so.1")
    except OSError as error:
        return {"absent": str(error)}
    code = lib.cuInit(0)
    if code:
        return {"code": code, "error": _error(lib, code)}
    version, count = ctypes.c_int(), ctypes.c_int()
    lib.cuDriverGetVersion(ctypes.byref(version))
    lib.cuDeviceGetCount(ctypes.byref(count))
    devices = [_device(lib, index) for index in range(count.value)]
    return {"cuda": f"{version.value // 1000}.{version.value % 1000 // 10}", "devices": devices}


def _error(lib: ctypes.CDLL, code: int) -> str:
    text = ctypes.c_char_p()
    lib.cuGetErrorString(code, ctypes.byref(text))
    return (text.value or b"unknown error").decode(errors="replace")


def _device(lib: ctypes.CDLL, index: int) -> dict[str, Any]:
    device, major, minor = ctypes.c_int(), ctypes.c_int(), ctypes.c_int()
    name, memory = ctypes.create_string_buffer(256), ctypes.c_size_t()
    lib.cuDeviceGet(ctypes.byref(device), index)
    lib.cuDeviceGetName(name, len(name), device)
    lib.cuDeviceGetAttribute(ctypes.byref(major), _MAJOR, device)
    lib.cuDeviceGetAttribute(ctypes.byref(minor), _MINOR, device)
    lib.cuDeviceTotalMem_v2(ctypes.byref(memory), device)
    return {
        "name": name.value.decode(errors="replace"),
        "compute": f"{major.value}.{minor.value}",
        "memory_gib": round(memory.value / 2**30, 1),
    }


def flavours() -> list[str]:
    """TensorRT's packages that are installed, the one that is used first; cheap enough to be asked anywhere."""
    return [name for name in ("tensorrt", "tensorrt_rtx") if _there(name)]


def runtimes() -> list[str]:
    """Packages that run plans of TensorRT and make none."""
    return [name for name in ("tensorrt_lean", "tensorrt_dispatch") if _there(name)]


def tensorrt() -> dict[str, dict[str, Any]]:
    """Flavour -> `version` and `targets` (compute capabilities, empty: any); or `error` where it does not load."""
    from engines.trt.features import Features

    found: dict[str, dict[str, Any]] = {}
    for name in flavours():
        try:
            trt = importlib.import_module(name)
            targets = ["{}.{}".format(*capability) for capability in Features.of(trt).targets]
            found[name] = {"version": str(trt.__version__), "targets": targets}
        except Exception as error:  # noqa: BLE001 - ImportError and OSError were seen, and it is not ours
            found[name] = {"error": _line(error)}
    return found


def bindings() -> dict[str, dict[str, str]]:
    """`cuda-python` and `pycuda`, as far as they are installed, and `nvrtc` -> `version`, or `error` as it is.

    NVRTC has to compile for the GPUs that are here.
    """
    found: dict[str, dict[str, str]] = {}
    for name, module, ask in (("cuda-python", "cuda.bindings", _cuda_python), ("pycuda", "pycuda", _pycuda)):
        if _there(module):
            found[name] = _version(ask)
    found["nvrtc"] = _version(_nvrtc)
    return found


def _version(ask: Callable[[], str]) -> dict[str, str]:
    try:
        return {"version": ask()}
    except Exception as error:  # noqa: BLE001 - likewise
        return {"error": _line(error)}


def _cuda_python() -> str:
    bindings = importlib.import_module("cuda.bindings")
    importlib.import_module("cuda.bindings.driver")
    return str(bindings.__version__)


def _nvrtc() -> str:
    from engines.cuda import nvrtc

    for device in cuda().get("devices", ()):
        major, _, minor = device["compute"].partition(".")
        nvrtc.compile("__global__ void nothing() {}", (int(major), int(minor)))
    return "{}.{}".format(*nvrtc.version())


def _pycuda() -> str:
    importlib.import_module("pycuda.driver")
    return str(importlib.import_module("pycuda").VERSION_TEXT)


def _there(module: str) -> bool:
    try:
        return importlib.util.find_spec(module) is not None
    except (ImportError, ValueError):  # what it is part of is not there
        return False


def openvino() -> dict[str, str]:
    """Device -> its name in full."""
    from engines.quiet import import_openvino

    core = import_openvino().Core()
    return {name: str(core.get_property(name, "FULL_DEVICE_NAME")).strip() for name in core.available_devices}


def _line(error: Exception) -> str:
    return " ".join(str(error).split())[:160] or type(error).__name__
