"""The kernel that prepares pictures, compiled for a plan's GPU and kept beside the plan."""

from __future__ import annotations

import functools
import hashlib

from engines.cuda.preparing import SOURCE
from engines.errors import BackendError

NONE = "no kernel for preparing pictures"
"""How the reasons begin why there is none."""


@functools.cache
def source_version() -> str:
    """Of the kernel's source: what was compiled from another one does not fit the parameters that it is given."""
    return hashlib.sha256(SOURCE.read_bytes()).hexdigest()[:16]


def compiled(compute_capability: tuple[int, int] | None) -> tuple[bytes | None, str | None]:
    """The cubin, or why there is none: then the CPU prepares, which is slower and nothing else."""
    from engines.cuda import nvrtc

    if compute_capability is None:
        return None, f"{NONE}: the plan is for many GPUs, and none is here"
    try:
        return nvrtc.compile(SOURCE.read_text(encoding="utf-8"), compute_capability), None
    except BackendError as error:
        return None, f"{NONE}, the CPU does it: {error}"
