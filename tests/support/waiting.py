"""Waiting for what another thread or process does."""

from __future__ import annotations

import time
from collections.abc import Callable


def until(wanted: Callable[[], object], timeout_s: float = 10.0) -> None:
    """Wait for a condition; fails when it has not come in time."""
    deadline = time.monotonic() + timeout_s
    while not wanted():
        assert time.monotonic() < deadline, "never happened"
        time.sleep(0.002)
