"""Agents whose engines hang and fail on demand, and what became of it: for tests, and for longer runs of the same."""

from __future__ import annotations

import itertools
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from agent.config import Settings
from agent.flow import Account
from agent.service import Service
from agent.sinks import Sink
from agent.sinks.memory import MemorySink
from engines.backends import fake
from engines.store import ModelStore
from tests.support.agents import fake_store
from tests.support.patience import PATIENCE_S


class Agent:
    """A service that runs in a thread of its own, as the command does in the main one."""

    def __init__(self, settings: Settings, folder: Path, *sinks: Sink, store: ModelStore | None = None) -> None:
        self.sink = MemorySink()
        self.service = Service(settings, store or fake_store(folder), [self.sink, *sinks])
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self.service.run, args=(self._stop,))

    def start(self) -> None:
        self._thread.start()

    def end(self, deadline_s: float = PATIENCE_S) -> float:
        """Stop it; how long that took, s."""
        started = time.monotonic()
        self._stop.set()
        self._thread.join(deadline_s)
        assert not self._thread.is_alive(), "the agent does not end"
        return time.monotonic() - started

    def joined(self, deadline_s: float) -> None:
        """Wait for the end of a recording."""
        self._thread.join(deadline_s)
        assert not self._thread.is_alive(), "the recording does not end"

    def until(self, wanted: Callable[[], object], deadline_s: float = PATIENCE_S) -> float:
        """Wait for it; how long that took, s."""
        started = time.monotonic()
        while not wanted():
            assert time.monotonic() < started + deadline_s, f"did not come; last: {self.statuses[-1:]}"
            threading.Event().wait(0.005)
        return time.monotonic() - started

    def results(self, camera: str = "a", use: str = "c") -> list[Any]:
        return [kept for kept in self.sink.messages if kept.topic.startswith(f"{camera}/{use}/")]

    @property
    def statuses(self) -> list[dict[str, Any]]:
        return [kept.data for kept in self.sink.messages if kept.topic == "status"]

    def engine(self, use: str = "c") -> dict[str, Any]:
        """What it says of itself now."""
        return self.service.engines.descriptions().get(use, {})

    def more_results(self, count: int = 5, camera: str = "a", use: str = "c", deadline_s: float = PATIENCE_S) -> float:
        """Wait for so many more; how long until then, s."""
        before = len(self.results(camera, use))
        return self.until(lambda: len(self.results(camera, use)) >= before + count, deadline_s)

    def laws_hold(self) -> None:
        """After the end: everything offered has one outcome (law 7)."""
        for camera in self.service.cameras.values():
            for use, counts in camera.counts()["uses"].items():
                outcomes = sum(n for name, n in counts.items() if name not in ("offered", "waiting"))
                assert counts["waiting"] == 0, (camera.name, use, counts)
                assert counts["offered"] == outcomes, (camera.name, use, counts)

    def counts(self, camera: str = "a", use: str = "c") -> dict[str, int]:
        found = self.service.cameras.get(camera)
        return found.counts()["uses"][use] if found else Account().counts()

    def until_it_hangs(self, batch: int, camera: str = "a", use: str = "c") -> None:
        """On that batch, from 1: what is before has its results, what is behind waits."""
        self.until(lambda: (at := self.counts(camera, use))["inferred"] == batch - 1 and at["waiting"] > 1)


@contextmanager
def running(settings: Settings, folder: Path, *sinks: Sink, store: ModelStore | None = None) -> Iterator[Agent]:
    """An agent at work; ended, and what hangs let go, whatever happens."""
    agent = Agent(settings, folder, *sinks, store=store)
    agent.start()
    try:
        yield agent
        agent.end()
        fake.let_go()
        agent.laws_hold()
    finally:
        agent._stop.set()
        fake.let_go()
        agent._thread.join(PATIENCE_S)


def longest_gap_s(agent: Agent, camera: str = "a", use: str = "c") -> float:
    """The longest time without a result, by their receive clock."""
    at = sorted(kept.sent_ns for kept in agent.results(camera, use))
    return max((b - a) / 1e9 for a, b in itertools.pairwise(at))
