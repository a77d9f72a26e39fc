"""The collector of pictures for calibration, where the configuration asks for one, and its thread."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from typing import Any

from agent.collecting import Candidates, Collector
from agent.config import Settings
from agent.workers import Worker, join

log = logging.getLogger(__name__)


class Collecting:
    """At most one collector. Used by whoever starts and stops parts; `state` and `counts` by any thread."""

    def __init__(self, on_state: Callable[[], None]) -> None:
        self._on_state = on_state
        self._collector: Collector | None = None
        self._worker: Worker | None = None

    def prepare(self, settings: Settings) -> None:
        """Make the collector that is asked for, if any; `start` begins it."""
        wanted = settings.calibration.collect
        if wanted is None:
            self._collector = self._worker = None
            return
        collector = self._collector = Collector(
            wanted.folder,
            settings.cameras,
            limit=wanted.limit,
            every_ns=round(wanted.every * 1e9),
            max_bytes=wanted.max_mb * 1_000_000,
            on_state=self._on_state,
        )
        self._worker = Worker("collect", collector.run)

    def candidates(self, camera: str) -> Candidates | None:
        """Who takes pictures of that camera."""
        return self._collector.cameras.get(camera) if self._collector else None

    def start(self) -> None:
        """Begin to keep pictures."""
        if self._collector and self._worker:
            log.info("keeping pictures for calibration in %s", self._collector.folder)
            self._worker.start()

    def close(self) -> None:
        """Keep nothing more."""
        if self._collector:
            self._collector.close()

    def join(self, deadline_s: float) -> None:
        """Wait for the end of what is being written; `deadline_s`: on `time.monotonic`."""
        if self._worker and self._worker.alive:
            join([self._worker], deadline_s - time.monotonic())

    def state(self) -> dict[str, Any]:
        """What status says."""
        return self._collector.state() if self._collector else {}

    def counts(self) -> dict[str, dict[str, int]]:
        """What the metrics say."""
        return self._collector.counts() if self._collector else {}
