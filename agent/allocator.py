"""The C library's allocator, made fit for a process that runs for months: docs/adr/0055-an-allocator-for-months.md.

glibc gives each thread an arena of its own, up to eight a core, and what is freed stays in it for its threads alone. An
agent has many threads, and some come and go: a reload, a reader that is replaced, a decoder's. So each arena grows to
the largest that any of them has ever needed. Where there is another C library, or none of these functions, both do
nothing.
"""

from __future__ import annotations

import ctypes
import functools
import os

ARENAS = 2
"""One that is locked for a microsecond is no bottleneck: frames are few and large, and most threads share the GIL."""
_M_ARENA_MAX = -8  # malloc.h


def share_arenas() -> bool:
    """Have all threads share a few arenas, unless the environment says how many; whether it was done.

    For threads that are begun from now on: glibc settles on a number when the first of them asks for memory.
    """
    if "MALLOC_ARENA_MAX" in os.environ or "glibc.malloc.arena_max" in os.environ.get("GLIBC_TUNABLES", ""):
        return False
    mallopt = _function("mallopt")
    return mallopt is not None and mallopt(_M_ARENA_MAX, ARENAS) == 1


def give_back() -> None:
    """Return to the system what was freed and lies between what is not.

    A millisecond or two, in which other threads may wait for memory: now and then.
    """
    trim = _function("malloc_trim")
    if trim is not None:
        trim(0)


@functools.cache
def _function(name: str) -> ctypes._NamedFuncPointer | None:
    try:
        return getattr(ctypes.CDLL(None), name, None)
    except (OSError, TypeError):  # TypeError: of Windows, which has no library of that name
        return None
