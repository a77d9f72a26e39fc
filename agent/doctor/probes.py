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
    """TensorRT's packages that are installed; cheap enough to be asked anywhere."""
    return [name for name in ("tensorrt", "tensorrt_rtx") if importlib.util.find_spec(name) is not None]


def tensorrt() -> dict[str, dict[str, str]]:
    """Flavour -> `version`, or `error` where it is installed and does not load."""
    found: dict[str, dict[str, str]] = {}
    for name in flavours():
        try:
            found[name] = {"version": str(importlib.import_module(name).__version__)}
        except Exception as error:  # noqa: BLE001 - ImportError and OSError were seen, and it is not ours
            found[name] = {"error": _line(error)}
    return found


def openvino() -> dict[str, str]:
    """Device -> its name in full."""
    from engines.quiet import import_openvino

    core = import_openvino().Core()
    return {name: str(core.get_property(name, "FULL_DEVICE_NAME")).strip() for name in core.available_devices}


def _line(error: Exception) -> str:
    return " ".join(str(error).split())[:160] or type(error).__name__
