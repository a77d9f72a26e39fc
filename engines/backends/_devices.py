"""What OpenVINO's devices are called, which of them are there, and the options that each of them takes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from engines.errors import BackendError

_ONE = r"(CPU|(GPU|NPU)(\.\d+)?)"
DEVICE = rf"^({_ONE}|AUTO|AUTO:{_ONE}(,{_ONE})*)$"
"""A device's name in a configuration: CPU, GPU, GPU.1, NPU, AUTO, AUTO:GPU.1,CPU."""
_AUTO = ("GPU", "CPU")
"""AUTO's order. NPUs compute in f16 only, which is to be asked for by name."""
_BRINGS = {
    "CPU": "`pip install --force-reinstall openvino` mends an installation without it",
    "GPU": "its driver comes with `apt install intel-opencl-icd`, and the agent's user must be in the group `render`",
    "NPU": "its driver is Intel's linux-npu-driver, and the agent's user must be able to open /dev/accel/accel0",
}


def wanted(device: str) -> list[str]:
    """Return the devices that a name stands for, the best first.

    AUTO is resolved by us and not by OpenVINO's own AUTO, which takes no options, answers from another device while it
    starts, and cannot keep what it compiled.
    """
    kind, _, listed = device.partition(":")
    if kind != "AUTO":
        return [device]
    return listed.split(",") if listed else list(_AUTO)


def present(device: str, found: Sequence[str]) -> list[str]:
    """Return the devices to try in turn, of those that OpenVINO `found` here. Raises BackendError if there is none."""
    names = wanted(device)
    there = [name for name in names if _is_there(name, found)]
    if there:
        return there
    hint = _BRINGS[names[0].partition(".")[0]]
    raise BackendError(f"OpenVINO finds no {' or '.join(names)} here, only {', '.join(found)}: {hint}")


def _is_there(device: str, found: Sequence[str]) -> bool:
    """A single GPU is found as `GPU`, several as `GPU.0`, `GPU.1`; the first answers to both names."""
    kind, _, number = device.partition(".")
    numbered = f"{kind}.{number or 0}"
    return device in found or numbered in found or (number == "0" and kind in found)


def options_of(device: str, threads: int, streams: int, floats: str) -> dict[str, Any]:
    """Return what to compile with. Raises BackendError where the device cannot compute in `floats`.

    Every device gets its float precision explicitly: their defaults differ (f32 or bf16, f16, f16).
    """
    kind = device.partition(".")[0]
    if kind == "NPU":
        if floats != "f16":
            raise BackendError(f"{device} computes in f16, not in {floats}: agree to that by `float_precision: f16`")
        return {"INFERENCE_PRECISION_HINT": floats}
    if kind == "GPU":
        if floats == "bf16":
            raise BackendError(f"{device} computes in f32 or f16, not in bf16: set `float_precision`")
        return {"INFERENCE_PRECISION_HINT": floats, "NUM_STREAMS": streams}
    return {
        "INFERENCE_NUM_THREADS": threads,
        "NUM_STREAMS": streams,
        "INFERENCE_PRECISION_HINT": floats,
        # Two engines that both pin would pin to the same core (docs/measurements.md).
        "ENABLE_CPU_PINNING": False,
    }
