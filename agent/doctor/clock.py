"""Is the clock right? Results say when their pixels were captured, so it matters."""

from __future__ import annotations

import ctypes
import time
from collections.abc import Iterator
from datetime import datetime, timezone
from pathlib import Path

from agent.doctor.findings import Finding, note, ok, problem
from agent.doctor.machine import in_container

TOPIC = "clock"
WRITTEN = datetime(2025, 1, 1, tzinfo=timezone.utc).timestamp()
"""A clock that is before this has not been set."""
_TIME_ERROR = 5
_SYNC = "sudo timedatectl set-ntp true"


class _Timex(ctypes.Structure):
    """The head of Linux's `struct timex`; what the kernel writes behind it lands in `rest`."""

    _fields_ = (
        ("modes", ctypes.c_uint),
        ("offset", ctypes.c_long),
        ("freq", ctypes.c_long),
        ("maxerror", ctypes.c_long),
        ("rest", ctypes.c_byte * 256),
    )


def synchronised() -> tuple[bool, float] | None:
    """Whether the kernel's clock is kept by NTP, PTP or the like, and its largest error in ms; None: cannot be told.

    The kernel knows it whichever program does it; reading needs no rights (adjtimex(2)).
    """
    timex = _Timex()
    state = ctypes.CDLL(None, use_errno=True).adjtimex(ctypes.byref(timex))
    return None if state < 0 else (state != _TIME_ERROR, timex.maxerror / 1000)


def look(root: Path = Path("/")) -> Iterator[Finding]:
    """Year, and synchronisation."""
    now = time.time()
    stamp = datetime.fromtimestamp(now, timezone.utc).strftime("%Y-%m-%d %H:%M:%S UTC")
    if now < WRITTEN:
        yield problem(TOPIC, f"it is not {stamp}: certificates will be refused", _SYNC)
        return
    answer = synchronised()
    if answer is None:
        yield note(TOPIC, f"{stamp}; the kernel does not say whether it is synchronised")
    elif answer[0]:
        yield ok(TOPIC, f"{stamp}, synchronised, off by at most {answer[1]:.0f} ms")
    elif not (root / "run/systemd/system").exists() or in_container(root):
        yield note(TOPIC, f"{stamp}, not synchronised by this system; in a container or a VM the host may do it")
    else:
        unit = (root / "usr/lib/systemd/system/systemd-timesyncd.service").exists()
        yield problem(TOPIC, f"{stamp}, not synchronised", _SYNC if unit else "sudo apt-get install chrony")
