"""What every test gets: nothing may be left behind."""

from __future__ import annotations

import contextlib
import os
import threading
import time
import uuid
from collections.abc import Iterator
from pathlib import Path

import hypothesis
import psutil
import pytest

from tests.support.models import real_models  # noqa: F401  # a fixture
from tests.support.patience import PATIENCE_S
from tests.support.standin_cuda import children

# An example may have to wait for the processor; pytest-timeout ends what hangs.
hypothesis.settings.register_profile("beside others", deadline=None)
hypothesis.settings.load_profile("beside others")


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """Where only those `alone` are wanted (scripts/test), files without any are not even imported."""
    if config.option.markexpr != "alone" or not collection_path.match("test_*.py"):
        return None
    return True if "mark.alone" not in collection_path.read_text(encoding="utf-8") else None


@pytest.fixture(scope="session")
def standin_cuda() -> Iterator[None]:
    """What tests `on_standin` are children of."""
    with children.started():
        yield


@pytest.fixture(autouse=True)
def _state_of_its_own(monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory) -> None:
    """Agents of tests keep their events apart from each other's, and from the user's."""
    monkeypatch.delenv("STATE_DIRECTORY", raising=False)
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path_factory.getbasetemp() / f"state-{uuid.uuid4().hex}"))


def _children() -> list[psutil.Process]:
    """Child processes, dead or alive. The kernel knows them at once; psutil looks at every process there is."""
    try:
        os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
    except ChildProcessError:
        return []
    found = []
    for thread in Path("/proc/self/task").iterdir():
        with contextlib.suppress(OSError, psutil.NoSuchProcess):  # ended meanwhile
            found += [psutil.Process(int(pid)) for pid in (thread / "children").read_text().split()]
    return found or psutil.Process().children()  # not every kernel lists them


@pytest.fixture(autouse=True)
def _nothing_is_left_behind() -> Iterator[None]:
    """Threads and child processes that a test starts are gone a moment after it."""
    threads = set(threading.enumerate())
    children = set(_children())
    yield
    deadline = time.monotonic() + PATIENCE_S
    while time.monotonic() < deadline:
        left = [t for t in threading.enumerate() if t not in threads and t.is_alive()]
        running = [c for c in _children() if c not in children and c.status() != psutil.STATUS_ZOMBIE]
        if not left and not running:
            return
        for thread in left:
            thread.join(0.05)
        psutil.wait_procs(running, 0.05)
    pytest.fail(f"left behind: {left or running}")
