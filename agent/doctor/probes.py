"""What is asked in a child process (see `room`): each returns what JSON can carry."""

from __future__ import annotations

import importlib
import importlib.util
from typing import Any

MODULES = {
    "av": "av",
    "cv2": "opencv-python-headless",
    "numpy": "numpy",
    "onnx": "onnx",
    "paho.mqtt.client": "paho-mqtt",
}
"""Modules with compiled parts or of great age, and the distributions that bring them."""


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
    from engines.cuda.errors import NoDevice
    from engines.cuda.probe import probe

    try:
        found = probe(oldest=(0, 0))
    except NoDevice as error:
        return {"absent": str(error)} if error.code is None else {"code": error.code, "error": error.said}
    devices = [
        {
            "name": device.name,
            "compute": "{}.{}".format(*device.compute_capability),
            "memory_gib": round(device.memory / 2**30, 1),
        }
        for device in found.devices
    ]
    return {"cuda": "{}.{}".format(*found.driver), "devices": devices}


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


def opened() -> list[dict[str, Any]]:
    """Each GPU, opened as the engine does: `binding`, `free_gib`, `shared` (with the CPU); or `error`.

    `nvrtc`, the version of the compiler that knows this GPU; or `nvrtc_error`.
    """
    from engines.cuda.binding import open_driver

    found: list[dict[str, Any]] = []
    for ordinal, device in enumerate(cuda().get("devices", ())):
        try:
            driver = open_driver(ordinal)
            about = {"binding": driver.binding, "shared": driver.facts.integrated}
            about["free_gib"] = round(driver.free_memory() / 2**30, 1)
            driver.close()
        except Exception as error:  # noqa: BLE001 - likewise
            about = {"error": _line(error)}
        found.append({**about, **_nvrtc(device["compute"])})
    return found


def _nvrtc(capability: str) -> dict[str, str]:
    from engines.cuda import nvrtc

    major, _, minor = capability.partition(".")
    try:
        nvrtc.compile("__global__ void nothing() {}", (int(major), int(minor)))
        return {"nvrtc": "{}.{}".format(*nvrtc.version())}
    except Exception as error:  # noqa: BLE001 - likewise
        return {"nvrtc_error": _line(error)}


def _there(module: str) -> bool:
    try:
        return importlib.util.find_spec(module) is not None
    except (ImportError, ValueError):  # what it is part of is not there
        return False


def openvino() -> dict[str, str]:
    """Device -> its name in full."""
    from engines.quiet import openvino_core

    core = openvino_core()
    return {name: str(core.get_property(name, "FULL_DEVICE_NAME")).strip() for name in core.available_devices}


def _line(error: Exception) -> str:
    return " ".join(str(error).split())[:160] or type(error).__name__
