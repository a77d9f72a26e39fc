"""Is there room to make a plan? On a small device a build that is too large ends others, or the whole machine."""

from __future__ import annotations

from pathlib import Path

from engines.trt.errors import NotNow
from engines.trt.order import Order

_MIB = 1 << 20
_BASE_MB = 700
"""Building catalogue networks took 290 to 400 MB, Python's 130 included (TensorRT-RTX, without a GPU); a CUDA context
and the check on the device come on top, and the CPU engine that computes what is expected. Not measured on a Jetson."""
_TIMES_THE_FILE = 6
"""Weights are held by the parser, in both precisions by the builder, and in the plan."""
_BYTES_A_PIXEL = 64
"""Of activations, for each picture of the largest batch: 32 channels in float16 at full size."""
_LEFT_MB = 150
"""For everybody else."""


def check_room(order: Order, *, integrated: bool, free: int | None = None) -> None:
    """Raise NotNow, naming what is missing, where a build would not fit. `integrated`: the GPU uses the same memory.

    `free`: bytes that may be used; default: what this machine and our control group have.
    """
    free = available() if free is None else free
    needed = required(order, free, integrated=integrated)
    if free < needed:
        raise NotNow(
            f"{order.model}: making its plan takes about {needed // _MIB} MB of memory, {free // _MIB} MB are free: "
            f"{(needed - free) // _MIB + 1} MB are missing; end other programs, or make it with nothing else running "
            "(sightwire build)"
        )


def required(order: Order, free: int, *, integrated: bool) -> int:
    """Bytes of host memory that making a plan takes, by estimate."""
    try:
        size = order.model.stat().st_size
    except OSError:
        size = 0
    needed = (_BASE_MB + _LEFT_MB) * _MIB + _TIMES_THE_FILE * size
    if integrated:
        width, height = order.size
        needed += order.batches[2] * width * height * _BYTES_A_PIXEL
        # Unasked it takes a quarter of what is free, 1 GB at most (engines.trt.building).
        needed += order.workspace_mb * _MIB if order.workspace_mb else min(free // 4, 1024 * _MIB)
    return needed


def available(proc: Path = Path("/proc"), groups: Path = Path("/sys/fs/cgroup")) -> int:
    """Bytes that a new process may use before something has to give: the machine's, or less where we are limited."""
    return min([_machine(proc), *_limits(proc, groups)])


def _machine(proc: Path) -> int:
    """MemAvailable (proc(5))."""
    for line in (proc / "meminfo").read_text(encoding="ascii", errors="replace").splitlines():
        name, _, value = line.partition(":")
        if name == "MemAvailable":
            return int(value.split()[0]) * 1024
    raise NotNow(f"{proc / 'meminfo'}: does not say how much memory is available")


def _limits(proc: Path, groups: Path) -> list[int]:
    """What each control group around us leaves (cgroups(7)): both versions, each group up to the root."""
    found = []
    try:
        lines = (proc / "self" / "cgroup").read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        lines = []
    for line in lines:
        _, _, rest = line.partition(":")
        controllers, _, path = rest.partition(":")
        if controllers == "":
            names = ("memory.max", "memory.current", "inactive_file")
            root = groups
        elif "memory" in controllers.split(","):
            names = ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file")
            root = groups / "memory"
        else:
            continue
        group = root / path.strip("/")
        found += [left for at in (group, *group.parents) if at.is_relative_to(root) if (left := _left(at, *names))]
    return found


def _left(group: Path, most: str, used: str, droppable: str) -> int | None:
    """Limit less use, of which the file cache would be given back; None where there is no limit."""
    try:
        limit = int((group / most).read_text(encoding="ascii"))
        usage = int((group / used).read_text(encoding="ascii"))
        said = (group / "memory.stat").read_text(encoding="ascii").split()
        return max(1, limit - usage + int(dict(zip(said[::2], said[1::2], strict=False)).get(droppable, "0")))
    except (OSError, ValueError):
        return None
