"""Parts of the check are children: what one does to itself or to the GPU, it does alone."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from typing import Any


def run(part: str, *arguments: str, timeout_s: float) -> dict[str, Any]:
    """What it printed; {"failed": why} where it says so, crashed, or took too long. Its stderr is ours."""
    command = [sys.executable, "-m", "tests.prove.gpu_check.part", part, *arguments]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as child:
        try:
            said = child.communicate(timeout=timeout_s)[0]
        except subprocess.TimeoutExpired:
            child.kill()
            return {"failed": f"took more than {timeout_s:.0f} s"}
        except BaseException:
            child.kill()
            raise
    try:
        found = json.loads(said)
    except ValueError:
        return {"failed": _ended(child.returncode)}
    return found if isinstance(found, dict) else {"failed": _ended(child.returncode)}


def _ended(status: int) -> str:
    if status < 0:
        return f"ended by {signal.Signals(-status).name}: see what it said above"
    return f"ended with status {status}: see what it said above"
