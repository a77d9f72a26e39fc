"""An engine is opened again while the agent runs: in a thread of its own, and tried before it gets anybody's frames."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable

import numpy as np

from agent.supervision.pace import FIRST_S
from agent.supervision.progress import Progress
from agent.workers import Worker
from engines.errors import first_line
from engines.model import Model
from engines.pixels import Image, Picture

log = logging.getLogger(__name__)

OPEN_S = 180.0
"""How long a small machine may compile a large network."""
CLOSE_S = 30.0
"""How long it may take to free an engine, after what is in flight."""


class Opening:
    """One try. `worker.alive` until `model` is there, or `error`."""

    def __init__(self, name: str, open_: Callable[[], Model]) -> None:
        self.worker = Worker(f"open-{name}", self._run, Progress())
        self.model: Model | None = None
        self.slowest_s: float | None = None
        """How long its first batch took."""
        self.error: str | None = None
        """In words: an exception holds the frames that it went through, and so the model that they had read."""
        self._open = open_
        self._opened: Model | None = None
        self._lock = threading.Lock()
        self._abandoned = False
        self.worker.start()

    def abandon(self) -> None:
        """Whatever comes of it, nobody wants it any more. Any thread; waits for nothing."""
        with self._lock:
            self._abandoned = True
            model, self.model = self.model, None
        if self._opened:
            self._opened.engine.abandon()
        if model:
            close_aside(model)

    def _run(self, _stop: threading.Event) -> None:
        progress = self.worker.progress
        progress.begin("open", OPEN_S)
        try:
            model = self._opened = self._open()
        except Exception as error:  # noqa: BLE001  # whoever looks after it says and counts it
            self.error = first_line(error)
            progress.done()
            return
        model.engine.slow = progress.begin
        progress.begin("first batch", FIRST_S)
        try:
            self.slowest_s = _try(model)
        except Exception as error:  # noqa: BLE001  # as above
            self.error = first_line(error)
        with self._lock:
            if not self._abandoned and self.error is None:
                self.model = model
                progress.done()
                return
        progress.begin("close", CLOSE_S)
        close_quietly(model)
        progress.done()


def close_quietly(model: Model) -> None:
    """Close what nobody uses any more; it may hang in there, too."""
    try:
        model.close()
    except Exception as error:  # noqa: BLE001  # whatever it is
        log.warning("%s: its engine did not close: %s", model.card.name, first_line(error))


def close_aside(model: Model) -> threading.Thread:
    """In a thread of its own, for those who do not wait."""
    thread = threading.Thread(target=close_quietly, args=(model,), name=f"close-{model.card.name}", daemon=True)
    thread.start()
    return thread


def _try(model: Model) -> float:
    """How long it takes for a grey picture, s. Raises EngineError, also for outputs that are not numbers."""
    into = model.card.input
    grey = np.full((into.height, into.width, 3), 128, np.uint8)
    picture = Picture(Image((grey,), "bgr", "601", "full", (into.width, into.height)))
    started = time.monotonic()
    model([picture])
    return time.monotonic() - started
