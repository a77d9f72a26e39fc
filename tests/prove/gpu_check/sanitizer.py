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
from typing import Any

TOOLS = ("memcheck", "initcheck")
"""Reads and writes out of bounds; reads of what nobody wrote. The kernel shares nothing that could race."""


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


def watch(program: str, device: int, timeout_s: float) -> dict[str, Any]:
    """Run the kernels' agreement under each tool: tool -> errors it counts, or what went wrong."""
    child = [sys.executable, "-m", "tests.prove.gpu_check.part", "numbers", f"--device={device}"]
    found: dict[str, Any] = {}
    for tool in TOOLS:
        try:
            ran = subprocess.run(
                [program, f"--tool={tool}", *child], capture_output=True, text=True, timeout=timeout_s, check=False
            )
        except (OSError, subprocess.TimeoutExpired) as error:
            found[tool] = f"did not finish: {error}"
            continue
        summary = re.search(r"ERROR SUMMARY: (\d+) error", ran.stdout + ran.stderr)
        said = (ran.stderr.strip().splitlines() or ["it said nothing"])[-1]
        found[tool] = int(summary[1]) if summary and not ran.returncode else f"exit status {ran.returncode}: {said}"
    return found
