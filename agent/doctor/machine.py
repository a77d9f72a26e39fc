"""The machine: Python, system, CPU and what it can do for INT8, memory, and what a container takes of them."""

from __future__ import annotations

import os
import platform
import sys
from collections.abc import Iterator
from pathlib import Path

from agent.doctor.files import read
from agent.doctor.findings import Finding, note, ok, problem

TOPIC = "machine"
PYTHONS = ((3, 10), (3, 14))
"""From, and below."""
LITTLE_MEMORY_MB = 200
"""An agent with one camera takes as much (docs/measurements.md)."""

#: What counts for INT8, best first: flags of /proc/cpuinfo, and what to say of them. ADR 5 has the consequences.
_INT8 = (
    ({"amx_int8"}, True, "INT8 by AMX"),
    ({"avx512_vnni"}, True, "INT8 by AVX-512 VNNI"),
    ({"avx_vnni"}, True, "INT8 by AVX-VNNI"),
    ({"i8mm"}, True, "INT8 by NEON i8mm"),
    ({"asimddp"}, True, "INT8 by NEON dot products"),
    ({"avx2"}, False, "AVX2 without VNNI: INT8 takes three instructions where newer CPUs take one"),
    ({"asimd"}, False, "NEON without dot products: INT8 takes more instructions than on newer CPUs"),
)


def look(root: Path = Path("/")) -> Iterator[Finding]:
    """Say what this machine is; `root` is where /proc, /etc and /sys are."""
    yield from _python(sys.version_info[:2])
    release = os_release(root)
    container = ", in a container" if in_container(root) else ""
    name = release.get("PRETTY_NAME", platform.system())
    yield ok(TOPIC, f"{name}, Linux {platform.release()}, {platform.machine()}{container}")
    yield from _cpu(root)
    yield from _memory(root)


def _python(version: tuple[int, ...]) -> Iterator[Finding]:
    text = f"Python {platform.python_version()} ({sys.prefix})"
    if PYTHONS[0] <= version < PYTHONS[1]:
        yield ok(TOPIC, text)
    else:
        yield problem(TOPIC, f"{text}: 3.10 to 3.13 is what sightwire is tested with", "python3.12 -m venv sightwire")


def os_release(root: Path) -> dict[str, str]:
    """Keys of /etc/os-release; empty without one."""
    text = read(root / "etc/os-release")
    pairs = (line.partition("=") for line in text.splitlines() if "=" in line)
    return {key: value.strip("'\"") for key, _, value in pairs}


def in_container(root: Path) -> bool:
    """Docker's or Podman's mark is there: a file, or where Podman's file system is read-only, a variable alone."""
    if (root / ".dockerenv").exists() or (root / "run/.containerenv").exists():
        return True
    return any(pair.startswith("container=") for pair in read(root / "proc/1/environ").split("\0"))


def _cpu(root: Path) -> Iterator[Finding]:
    fields = _cpuinfo(root)
    model = fields.get("model name") or read(root / "proc/device-tree/model").strip("\0\n") or platform.machine()
    cores = len(os.sched_getaffinity(0))
    limit = cpu_limit(root)
    allowed = f", {limit:g} of them allowed here (cgroup)" if limit is not None and limit < cores else ""
    yield ok(TOPIC, f"{model}, {cores} core{'s' * (cores != 1)}{allowed}")
    flags = set((fields.get("flags") or fields.get("Features") or "").split())
    for wanted, fast, text in _INT8:
        if wanted <= flags:
            yield ok(TOPIC, text) if fast else note(TOPIC, text)
            return
    yield note(TOPIC, "no vector instructions known for INT8: expect it to be slow")


def _cpuinfo(root: Path) -> dict[str, str]:
    """Fields of the first CPU."""
    first = read(root / "proc/cpuinfo").partition("\n\n")[0]
    pairs = (line.partition(":") for line in first.splitlines())
    return {key.strip(): value.strip() for key, _, value in pairs}


def _memory(root: Path) -> Iterator[Finding]:
    import psutil

    memory = psutil.virtual_memory()
    limit = memory_limit(root)
    total = min(memory.total, limit) if limit else memory.total
    free_mb = min(memory.available, total) / 2**20
    text = (
        f"{total / 2**30:.1f} GiB of memory{' (cgroup limit)' if total < memory.total else ''}, {free_mb:.0f} MiB free"
    )
    if free_mb < LITTLE_MEMORY_MB:
        yield problem(TOPIC, f"{text}: too little for cameras and models", "ps --sort=-rss -eo rss,pid,args | head")
    else:
        yield ok(TOPIC, text)


def cpu_limit(root: Path) -> float | None:
    """Cores that the cgroup allows (v2, then v1); None: all."""
    quota, _, period = read(root / "sys/fs/cgroup/cpu.max").strip().partition(" ")
    if not quota:
        quota = read(root / "sys/fs/cgroup/cpu/cpu.cfs_quota_us").strip()
        period = read(root / "sys/fs/cgroup/cpu/cpu.cfs_period_us").strip()
    if quota.isdigit() and period.isdigit() and int(period):
        return int(quota) / int(period)
    return None


def memory_limit(root: Path) -> int | None:
    """Bytes that the cgroup allows (v2, then v1); None: all."""
    for name in ("memory.max", "memory/memory.limit_in_bytes"):
        text = read(root / "sys/fs/cgroup" / name).strip()
        if text.isdigit():
            return int(text)
    return None
