"""Stopping a process so that it is stopped when the call returns."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

from tests.support.patience import PATIENCE_S


def freeze(pid: int) -> None:
    """SIGSTOP, and wait until each thread has stopped: on a busy machine one may run for a while yet."""
    os.kill(pid, signal.SIGSTOP)
    deadline = time.monotonic() + PATIENCE_S
    while not all(_state(task) in "Tt" for task in Path(f"/proc/{pid}/task").iterdir()):
        if time.monotonic() > deadline:
            raise TimeoutError(f"process {pid} does not stop")
        os.sched_yield()


def _state(task: Path) -> str:
    """State of a thread, as `ps` has it; one that has ended has stopped."""
    try:
        return (task / "stat").read_text().rpartition(")")[2].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return "T"
