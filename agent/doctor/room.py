"""A room of its own for what may crash: libraries that load drivers run in a child process."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from typing import Any, Literal

Probe = Literal["cuda", "imports", "opened", "openvino", "tensorrt"]


class ProbeError(Exception):
    """The child crashed, hung or failed: one line."""


def ask(probe: Probe, timeout_s: float = 6.5) -> Any:
    """What `agent.doctor.probes.<probe>()` returns. Raises ProbeError."""
    # Modules are looked for where this process finds them, not where a child of a script or of -m would.
    code = (
        f"import json, sys; sys.path[:] = {sys.path!r}; from agent.doctor import probes; "
        f"answer = json.dumps(probes.{probe}()); print(); print(answer)"
    )
    try:
        done = subprocess.run(
            [sys.executable, "-I", "-c", code],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=timeout_s,
            check=False,
        )
    except subprocess.TimeoutExpired:
        raise ProbeError(no_answer(timeout_s)) from None
    if done.returncode < 0:
        raise ProbeError(f"crashed ({signal.Signals(-done.returncode).name})")
    if done.returncode:
        said = done.stderr.strip().splitlines()
        raise ProbeError(said[-1][:200] if said else f"ended with status {done.returncode}")
    # Libraries like to print: the answer is the last line.
    return json.loads(done.stdout.splitlines()[-1])


def no_answer(limit_s: float) -> str:
    """In words; on a busy machine what is asked may be well, and only slow."""
    load, processors = os.getloadavg()[0], os.cpu_count() or 1
    busy = f"; the machine is busy (load {load:.1f} on {processors} processors): ask again when it is not"
    return f"no answer within {limit_s:g} s{busy if load > processors else ''}"
