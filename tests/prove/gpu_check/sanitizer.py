"""NVIDIA's compute-sanitizer over the kernels, where it is installed."""

from __future__ import annotations

import importlib.util
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

TOOLS = ("memcheck", "initcheck", "racecheck", "synccheck")
"""Reads and writes out of bounds; reads of what nobody wrote; threads of a block that meet in the wrong order in the
memory that they share, or miss each other."""
_SUMMARY = re.compile(r"ERROR SUMMARY: (\d+) error|RACECHECK SUMMARY: (\d+) hazard")


def find() -> str | None:
    """The program, or None."""
    return next((str(path) for path in _candidates() if os.access(path, os.X_OK)), None)


def _candidates() -> Iterator[Path]:
    if found := shutil.which("compute-sanitizer"):
        yield Path(found)
    yield from sorted(Path("/usr/local").glob("cuda*/bin/compute-sanitizer"), reverse=True)
    spec = importlib.util.find_spec("nvidia")
    for root in (spec.submodule_search_locations if spec else None) or ():
        yield from Path(root).glob("**/compute-sanitizer")


def watch(program: str, device: int, timeout_s: float) -> dict[str, int | str]:
    """Run the kernels' agreement under each tool: tool -> errors it counts, or what went wrong."""
    child = [sys.executable, "-m", "tests.prove.gpu_check.part", "numbers", f"--device={device}"]
    return {tool: _watched([program, f"--tool={tool}", *child], timeout_s) for tool in TOOLS}


def _watched(command: list[str], timeout_s: float) -> int | str:
    try:
        ran = subprocess.run(command, capture_output=True, text=True, timeout=timeout_s, check=False)
    except subprocess.TimeoutExpired:
        return f"took more than {timeout_s:.0f} s"
    except OSError as error:
        return f"cannot be started: {error.strerror}"
    if summary := _SUMMARY.search(ran.stdout + ran.stderr):
        errors = int(summary[1] or summary[2])
        if errors or not ran.returncode:
            return errors
    said = (ran.stderr.strip().splitlines() or ran.stdout.strip().splitlines() or ["it said nothing"])[-1]
    return f"exit status {ran.returncode}: {said}"
