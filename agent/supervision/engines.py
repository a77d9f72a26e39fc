"""The engines of an agent at work: one a model entry, each with its mailbox and its thread."""

from __future__ import annotations

import logging
import time
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from agent.config import Settings
from agent.flow import Mailbox
from agent.inference import Inference
from agent.models import open_models, task_for
from agent.workers import Worker, join
from engines.model import Model
from engines.store import ModelStore

log = logging.getLogger(__name__)


@dataclass(eq=False)
class EngineAtWork:
    """One entry of `models:`."""

    model: Model
    mailbox: Mailbox
    worker: Worker


class Engines:
    """All of them. Used by the main thread; `descriptions` by any."""

    def __init__(self, store: ModelStore, *, serve: bool = True) -> None:
        """`serve`: an agent wants engines that answer at once, a comparison those that were asked for."""
        self._store, self._serve = store, serve
        self._at_work: dict[str, EngineAtWork] = {}
        """Replaced, never changed: others look at it."""

    def start(self, settings: Settings) -> None:
        """Open every entry of `models:` and serve. Raises ConfigError for what only the user can mend."""
        self.take(self.open(settings, settings.models))

    def open(self, settings: Settings, names: Collection[str]) -> dict[str, EngineAtWork]:
        """Engines for these entries of `models:`, which nothing asks yet; may take long. Raises ConfigError."""
        opened: dict[str, EngineAtWork] = {}
        for name, model in open_models(settings, self._store, serve=self._serve, only=names).items():
            mailbox = Mailbox()
            loop = Inference(name, model, mailbox, settings.models[name].linger)
            opened[name] = EngineAtWork(model, mailbox, Worker(f"engine-{name}", loop.run, loop.progress))
        return opened

    def take(self, opened: Mapping[str, EngineAtWork]) -> None:
        """Serve with these, under their names: what had one before is not among ours any more, and works on."""
        for engine in opened.values():
            engine.worker.start()
        self._at_work = {**self._at_work, **opened}

    def let_go(self, names: Collection[str]) -> list[EngineAtWork]:
        """These are not among ours any more, but work on."""
        gone = [engine for name, engine in self._at_work.items() if name in names]
        self._at_work = {name: engine for name, engine in self._at_work.items() if name not in names}
        return gone

    def ask(self, settings: Settings, names: Collection[str]) -> None:
        """From now on make of the output of these what this configuration wants."""
        for name in names:
            model = self._at_work[name].model
            model.task = task_for(settings, name, model.card)

    def __getitem__(self, name: str) -> EngineAtWork:
        return self._at_work[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._at_work)

    def descriptions(self) -> dict[str, dict[str, Any]]:
        """What status says of them."""
        return {name: dict(engine.model.engine.description) for name, engine in self._at_work.items()}

    def stop(self, deadline_s: float) -> None:
        """End them when what waits in their mailboxes has an outcome; `deadline_s`: on `time.monotonic`."""
        end(list(self._at_work.values()), deadline_s)


def end(engines: Sequence[EngineAtWork], deadline_s: float) -> None:
    """End them when what waits in their mailboxes has an outcome; `deadline_s`: on `time.monotonic`."""
    for engine in engines:
        engine.mailbox.close()
    join([engine.worker for engine in engines if engine.worker.alive], deadline_s - time.monotonic())
    for engine in engines:
        if not engine.worker.alive:
            engine.model.close()


def tell_engine(where: str, description: dict[str, Any], before: dict[str, Any] | None) -> None:
    """Log which engine serves now, if it is not the one that was asked for (yet) or is so only now."""
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
