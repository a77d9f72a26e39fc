"""An agent and its configuration file: a service, which goes over to what the file says when it is to be read again.

Where a change leaves nothing as it is, another service takes its place, in the same process.
"""

from __future__ import annotations

import contextlib
import logging
import threading
import time
from pathlib import Path
from queue import SimpleQueue
from typing import Any, Literal

from agent.config import Settings, load
from agent.errors import ConfigError
from agent.log import configure
from agent.messages import rfc3339
from agent.models import find_cards
from agent.reloading import Anew, Stopping, apply
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
        """What was read, and is not applied yet."""
        self._anew: Settings | None = None
        """What another service is to be begun with."""
        self._announced = False
        """Health was told of a reload, and not yet that it is over; the main thread's."""
        self._service: Service | None = None

    def run(self) -> None:
        """Serve until the end is asked for or every recording has ended. Raises ConfigError where nothing can serve."""
        settings, before = load(self._path), None
        hearing = threading.Thread(target=self._hear, name="reload", daemon=True)
        hearing.start()
        try:
            while True:
                configure(settings.log)
                service = self._service = self._new(settings)
                try:
                    service.run(self._turn, self._look)
                except ConfigError as error:
                    if before is None:
                        raise
                    self._fail(error)
                    settings, before = before, None
                    continue
                with self._lock:
                    self._turn.clear()
                    wanted, self._anew = None if self._ends else self._anew, None
                if wanted is None:
                    return
                if not self._announced:
                    self._health.reloading()
                self._announced = False
                settings, before = wanted, service.settings
        finally:
            self._asked.put("done")
            hearing.join()

    def _new(self, settings: Settings) -> Service:
        return Service(settings, self._store, reload=self.reload, standing=self._standing, health=self._health)

    def reload(self) -> None:
        """Read the file again, and go over to it soon. Raises ConfigError, and goes on, if it is wrong."""
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
        with self._lock:
            self._next = settings

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

    def _look(self) -> None:
        """Whether there is something to go over to; by the main thread, while the service serves."""
        service = self._service
        if service is None or service.changing:
            return
        with self._lock:
            settings, self._next = self._next, None
            ends = self._anew is not None
        if self._announced and settings is None and not ends:
            self._announced = False
            self._health.ready(service.reporting.in_a_line())
        if settings is not None:
            self._announced = True
            self._health.reloading()
            service.change(lambda: self._apply(service, settings))

    def _apply(self, service: Service, settings: Settings) -> None:
        """In a thread of its own: it may take long."""
        try:
            told = apply(service, settings)
        except Stopping:
            return
        except Anew as anew:
            self._begin_anew(settings, anew.keys)
        except ConfigError as error:
            self._fail(error)
        except Exception:
            log.exception("%s: a fault of ours; all is begun anew with it", self._path)
            self._begin_anew(settings, ["a fault of ours"])
        else:
            configure(settings.log)
            log.info("%s: applied: %s", self._path, _words(told))
            self._note("done", None, told)

    def _begin_anew(self, settings: Settings, because: list[str]) -> None:
        log.info("%s: begins all anew: %s", self._path, ", ".join(because))
        self._note("done", None, {"everything": because})
        with self._lock:
            self._anew = settings
            self._turn.set()

    def _fail(self, error: ConfigError) -> None:
        log.error("%s: cannot be started with, going on with the one before: %s", self._path, error)
        self._note("failed", str(error))

    def _note(self, state: str, reason: str | None, told: dict[str, Any] | None = None) -> None:
        """For status."""
        at = rfc3339(time.time_ns())
        said = {"state": state, "at": at, "reason": reason and reason[:LONGEST_REASON]}
        self._standing.reload = {**said, **(told or {})}
        if self._service is not None:
            self._service.say_status()


def _words(told: dict[str, Any]) -> str:
    """`restarted cameras dock, sinks mqtt; removed models people`, or that nothing was."""
    parts = []
    for what, kinds in told.items():
        named = [f"{kind} {' '.join(names)}" for kind, names in kinds.items() if names]
        if named:
            parts.append(f"{what} {', '.join(named)}")
    return "; ".join(parts) or "nothing had to be restarted"
