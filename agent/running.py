"""An agent and its configuration file: one service after the other, a new one when the file is to be read again."""

from __future__ import annotations

import contextlib
import logging
import threading
import time
from pathlib import Path
from queue import SimpleQueue
from typing import Literal

from agent.config import Settings, load
from agent.errors import ConfigError
from agent.log import configure
from agent.messages import rfc3339
from agent.models import find_cards
from agent.remote.acts import Standing
from agent.service import Service
from agent.supervision.health import Health
from engines.store import ModelStore, default_root

log = logging.getLogger(__name__)

LONGEST_REASON = 1000
"""Letters of it in status."""


Wish = Literal["end", "reload", "done"]


class Running:
    """Serves what the file says; `run` is the main thread's."""

    def __init__(self, path: Path, asked: SimpleQueue[Wish], store: ModelStore | None = None) -> None:
        """`asked`: what signals want. A queue that takes no lock which the thread they interrupt may hold."""
        self._path, self._asked = path, asked
        self._store = store or ModelStore(default_root())
        self._standing = Standing()
        self._health = Health()
        self._lock = threading.Lock()
        # What follows is guarded by _lock.
        self._turn = threading.Event()
        """Stops the service that runs."""
        self._ends = False
        self._next: Settings | None = None
        self._service: Service | None = None

    def run(self) -> None:
        """Serve until the end is asked for or every recording has ended. Raises ConfigError where nothing can serve."""
        settings, before = load(self._path), None
        hearing = threading.Thread(target=self._hear, name="reload", daemon=True)
        hearing.start()
        try:
            while True:
                configure(settings.log)
                self._service = self._new(settings)
                try:
                    self._service.run(self._turn)
                except ConfigError as error:
                    if before is None:
                        raise
                    log.error("%s: cannot be started with, going on with the one before: %s", self._path, error)
                    self._note("failed", str(error))
                    settings, before = before, None
                    continue
                with self._lock:
                    self._turn.clear()
                    wanted, self._next = None if self._ends else self._next, None
                if wanted is None:
                    return
                self._health.reloading()
                settings, before = wanted, settings
        finally:
            self._asked.put("done")
            hearing.join()

    def _new(self, settings: Settings) -> Service:
        return Service(settings, self._store, reload=self.reload, standing=self._standing, health=self._health)

    def reload(self) -> None:
        """Read the file again and begin anew with it, soon. Raises ConfigError, and goes on, if it is wrong."""
        try:
            settings = load(self._path)
            find_cards(settings, self._store)
            for sink in settings.all_sinks():
                sink.look_at_files()
        except ConfigError as error:
            log.error("%s: is wrong, going on with the one before:\n%s", self._path, error)
            self._note("refused", str(error))
            raise
        log.info("%s: read again", self._path)
        self._note("done", None)
        with self._lock:
            self._next = settings
            self._turn.set()

    def _hear(self) -> None:
        """Do what is asked for, in a thread."""
        while (wish := self._asked.get()) != "done":
            if wish == "end":
                self._health.stopping()
                with self._lock:
                    self._ends = True
                    self._turn.set()
            else:
                with contextlib.suppress(ConfigError):  # said already
                    self.reload()

    def _note(self, state: str, reason: str | None) -> None:
        """For status."""
        at = rfc3339(time.time_ns())
        self._standing.reload = {"state": state, "at": at, "reason": reason and reason[:LONGEST_REASON]}
        if self._service is not None:
            self._service.say_status()
