"""The engines of an agent at work: one a model entry, each with its mailbox and its thread."""

from __future__ import annotations

import logging
import time
from collections.abc import Collection, Iterator, Mapping
from typing import Any

from agent.camera import Camera
from agent.config import Settings
from agent.models import ModelOrder, open_orders, order_models
from agent.supervision.engine import EngineAtWork
from agent.supervision.standstill import Standstill
from agent.workers import Worker
from engines.store import ModelStore

log = logging.getLogger(__name__)

LOOK_S = 0.1
"""How often `look` is to be called."""
_FORCED_S = 0.5
"""How long before its deadline `finish` ends what has no outcome yet: the rest of the end takes its time."""


class Engines:
    """All of them. Used by the main thread; `descriptions` and `counts` by any."""

    def __init__(self, store: ModelStore, *, serve: bool = True) -> None:
        """`serve`: an agent wants engines that answer at once, a comparison those that were asked for."""
        self._store, self._serve = store, serve
        self._at_work: dict[str, EngineAtWork] = {}
        """Replaced, never changed: others look at it."""
        self._standstill = Standstill()

    def start(self, settings: Settings) -> None:
        """Open every entry of `models:` and serve. Raises ConfigError for what only the user can mend."""
        self.take(self.open(settings, settings.models))
        self._standstill.begin()

    def open(self, settings: Settings, names: Collection[str]) -> dict[str, EngineAtWork]:
        """Engines for these entries of `models:`, which nothing asks yet; may take long. Raises ConfigError."""
        orders = {name: order for name, order in order_models(settings, self._store).items() if name in names}
        return {
            name: EngineAtWork(name, model, orders[name], settings.models[name].linger, serve=self._serve)
            for name, model in open_orders(settings, orders, serve=self._serve).items()
        }

    def take(self, opened: Mapping[str, EngineAtWork]) -> None:
        """Serve with these, too."""
        for engine in opened.values():
            engine.start()
        self._at_work = {**self._at_work, **opened}

    def let_go(self, names: Collection[str]) -> list[EngineAtWork]:
        """These are not among ours any more, but work on until they are stopped."""
        gone = [engine for name, engine in self._at_work.items() if name in names]
        self._at_work = {name: engine for name, engine in self._at_work.items() if name not in names}
        return gone

    def ask(self, orders: Mapping[str, ModelOrder]) -> None:
        """From now on make of the output of these what is ordered."""
        for name, order in orders.items():
            self._at_work[name].ask(order)

    def __getitem__(self, name: str) -> EngineAtWork:
        return self._at_work[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._at_work)

    def descriptions(self) -> dict[str, dict[str, Any]]:
        """What status says of them."""
        return {name: engine.description for name, engine in self._at_work.items()}

    def counts(self) -> dict[str, dict[str, int]]:
        """What metrics say of them."""
        return {name: engine.counts() for name, engine in self._at_work.items()}

    def workers(self) -> Iterator[Worker]:
        """Threads that hang and that nothing here can replace: `progress.overdue_s()` says for how long."""
        for engine in self._at_work.values():
            yield from engine.stuck()

    def look(self) -> None:
        """Replace what hangs or fails. To be called each tenth of a second; waits for nothing."""
        if self._standstill.over():
            for engine in self._at_work.values():
                engine.look()

    def finish(self, cameras: Collection[Camera], deadline_s: float) -> None:
        """Wait until all that was offered has an outcome; at the deadline (`time.monotonic`) it gets one."""
        while not all(camera.wait_idle(LOOK_S) for camera in cameras):
            self.look()
            if time.monotonic() < deadline_s - _FORCED_S:
                continue
            for camera in cameras:
                if not camera.wait_idle(0):
                    log.warning("%s: stopped with results still under way", camera.name)
            for engine in self._at_work.values():
                engine.give_up()
            return

    def stop(self, deadline_s: float) -> None:
        """End them when what waits in their mailboxes has an outcome; `deadline_s`: on `time.monotonic`."""
        for engine in self._at_work.values():
            engine.mailbox.close()
        for engine in self._at_work.values():
            engine.stop(deadline_s)


def tell_engine(where: str, description: dict[str, Any], before: dict[str, Any] | None) -> None:
    """Log which engine serves now, if it is not the one that was asked for (yet) or is so only now."""
    if "state" in description:
        return  # none does, and why has been said
    serves = f"{description['backend']} serves"
    wanted, because, following = (description.get(key) for key in ("instead_of", "because", "next"))
    same = before is not None and {**before, "next": None} == {**description, "next": None}
    if same and (because or description == before):
        return  # when another one is tried again is for status
    if wanted:
        log.warning(
            "%s: %s instead of %s: %s%s", where, serves, wanted, because, f" ({following})" if following else ""
        )
    elif following:
        log.info("%s: %s; next %s", where, serves, following)
    elif because:
        log.info("%s: %s: %s", where, serves, because)
    elif before is not None:
        log.info("%s: %s, on %s", where, serves, description["device"])
