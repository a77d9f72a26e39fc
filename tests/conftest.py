"""What every test gets: nothing may be left behind."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator

import psutil
import pytest

from tests.support.models import real_models  # noqa: F401  # a fixture


@pytest.fixture(autouse=True)
def _nothing_is_left_behind() -> Iterator[None]:
    """Threads and child processes that a test starts are gone a moment after it."""
    threads = set(threading.enumerate())
    children = set(psutil.Process().children())
    yield
    deadline = time.monotonic() + 5
    while time.monotonic() < deadline:
        left = [t for t in threading.enumerate() if t not in threads and t.is_alive()]
        running = [c for c in psutil.Process().children() if c not in children and c.status() != psutil.STATUS_ZOMBIE]
        if not left and not running:
            return
        for thread in left:
            thread.join(0.05)
        psutil.wait_procs(running, 0.05)
    pytest.fail(f"left behind: {left or running}")
