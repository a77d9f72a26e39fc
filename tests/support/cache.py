"""The folder of what tests keep between runs: models, the street's video, packages."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def cache() -> Iterator[Path]:
    """The folder, for one process at a time: several run tests at once, and what is not there yet is fetched once."""
    folder = Path(os.environ.get("SIGHTWIRE_TEST_CACHE") or Path.home() / ".cache" / "sightwire-tests")
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield folder
