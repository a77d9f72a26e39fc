"""GPUs and NPUs: NVIDIA by its driver, Intel by OpenVINO."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from agent.doctor import jetson
from agent.doctor.access import denied
from agent.doctor.devices import INTEL, NVIDIA, display_vendors
from agent.doctor.files import read
from agent.doctor.findings import Finding, note, ok, problem
from agent.doctor.machine import in_container, os_release
from agent.doctor.packages import PIP
from agent.doctor.room import ProbeError, ask

TOPIC = "gpu"
_NO_DEVICE, _MISMATCH, _COMPAT = 100, 803, 804
"""cuInit: no device; driver and kernel module differ; a forward-compatibility package that this GPU does not take."""


def nvidia(root: Path = Path("/")) -> Iterator[Finding]:
    """Driver and devices. `root`: where /sys, /proc and /etc are."""
    board = jetson.find(root)
    if board is not None:
        yield ok(TOPIC, str(board))
    there = board is not None or NVIDIA in display_vendors(root)
    try:
        answer = ask("cuda")
    except ProbeError as error:
        yield problem(TOPIC, f"the NVIDIA driver, asked for its devices: {error}", "sudo dmesg | grep -i nvrm")
        return
    if "devices" in answer:
        yield from _devices(answer, root)
    elif there and (board is not None or "absent" not in answer):
        yield problem(TOPIC, _trouble(answer), mend_driver(answer, root, board is not None))
    elif there:  # a desktop's graphics card, say, whose owner never wanted more
        yield note(TOPIC, _trouble(answer), mend_driver(answer, root, on_jetson=False))
    elif answer.get("code") == _NO_DEVICE or "absent" in answer:
        yield note(TOPIC, "no NVIDIA GPU")
    else:
        text = f"no NVIDIA GPU was found, though {_trouble(answer)}"
        yield note(TOPIC, text, mend_driver(answer, root, on_jetson=False))


def _devices(answer: dict[str, Any], root: Path) -> Iterator[Finding]:
    release = read(root / "sys/module/nvidia/version").strip()
    driver = f"driver {release}" if release else "the driver"
    for device in answer["devices"]:
        about = f"compute capability {device['compute']}, {device['memory_gib']} GiB"
        yield ok(TOPIC, f"{device['name']}, {about}, {driver} takes CUDA {answer['cuda']}")


def _trouble(answer: dict[str, Any]) -> str:
    if "absent" in answer:
        return "an NVIDIA GPU is here, but its driver's library libcuda.so.1 is not"
    return f"the NVIDIA driver says: {answer['error']} ({answer['code']})"


def mend_driver(answer: dict[str, Any], root: Path, on_jetson: bool) -> str:
    """What brings the driver back."""
    nodes = [root / "dev/nvidiactl", root / "dev/nvidia0", root / "dev/nvmap"]
    for node in nodes:
        if node.exists() and (command := denied(node)):
            return command
    if in_container(root):
        return "docker run --runtime nvidia ..." if on_jetson else "docker run --gpus all ..."
    if answer.get("code") == _MISMATCH:
        return "sudo reboot"
    if answer.get("code") == _COMPAT:
        return "sudo apt-get remove 'cuda-compat-*'"
    if on_jetson:
        return "sudo apt-get install --reinstall nvidia-l4t-cuda"
    if "absent" not in answer:
        return "sudo modprobe nvidia_uvm; if that does not help: nvidia-smi"
    if os_release(root).get("ID") == "ubuntu":
        return "sudo ubuntu-drivers install && sudo reboot"
    return "sudo apt-get install nvidia-driver && sudo reboot"


def openvino(root: Path = Path("/")) -> Iterator[Finding]:
    """What OpenVINO sees, and what it does not see though it is there."""
    try:
        devices = ask("openvino")
    except ProbeError as error:
        yield problem(TOPIC, f"OpenVINO, asked for its devices: {error}", f"{PIP} install --upgrade openvino")
        return
    yield ok(TOPIC, f"OpenVINO sees {', '.join(f'{name}: {about}' for name, about in devices.items())}")
    seen = {name.partition(".")[0] for name in devices}
    graphics = sorted((root / "dev/dri").glob("renderD*"))
    if graphics and INTEL in display_vendors(root) and "GPU" not in seen:
        yield from _unseen("GPU", graphics[0], "sudo apt-get install intel-opencl-icd")
    npu = root / "dev/accel/accel0"
    if npu.exists() and (root / "sys/module/intel_vpu").exists() and "NPU" not in seen:
        yield from _unseen("NPU", npu, "sudo apt-get install intel-level-zero-npu")


def _unseen(kind: str, device: Path, install: str) -> Iterator[Finding]:
    """A device of Intel's that OpenVINO does not see: a note, since the CPU does the work."""
    command = denied(device)
    why = f"{device} may not be opened" if command else "its runtime library is not installed"
    yield note(TOPIC, f"an Intel {kind} is here, and OpenVINO does not see it: {why}", command or install)
