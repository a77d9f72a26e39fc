"""The sinks of an agent at work: each with its sender, and a thread that hands over what waits in it.

One that is opened while others are at work is told all state first.
"""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from agent.publishing import Outlets, Sender
from agent.sinks import Message, Request, Sink, SinkConfig
from agent.workers import Worker, join

CONNECTION = ("type", "state", "connected", "reason", "transport", "protocol", "limits", "commands")
"""What status says of a sink; counters are in the metrics."""


@dataclass(eq=False)
class SinkAtWork:
    """One sink."""

    config: SinkConfig | None
    """None: of a test or a measurement, none of the configuration's."""
    sender: Sender
    worker: Worker
    made_of: object = None
    """Of the configuration, when it was opened."""


class Sinks:
    """All of them, by the names that the outbox and the metrics know."""

    def __init__(self) -> None:
        self.outlets = Outlets([])
        self._at_work: dict[str, SinkAtWork] = {}
        """Replaced, never changed: others look at it."""

    def start(self, configs: Iterable[SinkConfig], agent: str, farewell: Message, more: Sequence[Sink] = ()) -> None:
        """Open those of the configuration, and begin to hand over to them and to `more`. Raises ConfigError."""
        for config in configs:
            self.add(config, agent, farewell)
        for sink in more:
            self._add(None, sink)

    def add(self, config: SinkConfig, agent: str, farewell: Message) -> str:
        """Open one more: its name, the first of its kind that is free. Raises ConfigError."""
        made_of = config.made_of()
        return self._add(config, config.open(agent, farewell), made_of)

    def renewed(self) -> list[SinkConfig]:
        """Configurations of those that were opened with something that is another one now."""
        configs = [(each.config, each.made_of) for each in self._at_work.values()]
        return [config for config, made_of in configs if config is not None and config.made_of() != made_of]

    def named(self, configs: Iterable[SinkConfig]) -> list[str]:
        """The names of those that were opened with these configurations."""
        left = list(self._at_work.items())
        names = []
        for config in configs:
            place = next(place for place, (_, each) in enumerate(left) if each.config == config)
            names.append(left.pop(place)[0])
        return names

    def remove(self, names: Collection[str], last_word: Message, deadline_s: float) -> None:
        """Tell these `last_word`, hand over what waits, and let go; `deadline_s`: on `time.monotonic`."""
        gone = {name: each for name, each in self._at_work.items() if name in names}
        self._at_work = {name: each for name, each in self._at_work.items() if name not in names}
        for each in gone.values():
            self.outlets.remove(each.sender)
            each.sender.put(last_word)
        _close(gone, deadline_s)

    def sinks(self) -> dict[str, Sink]:
        """Name -> sink."""
        return {name: each.sender.sink for name, each in self._at_work.items()}

    def listen(self, on_request: Callable[[Request], None]) -> None:
        """Have all of them pass on what is asked."""
        for sink in self.sinks().values():
            sink.listen(on_request)

    def counts(self) -> dict[str, dict[str, Any]]:
        """What the metrics say."""
        # Both count what was sent; a sink also what it says again at each connect, so the sender's word stands.
        return {name: {**each.sender.sink.state(), **each.sender.counts()} for name, each in self._at_work.items()}

    def connections(self) -> dict[str, dict[str, Any]]:
        """What status says: how they are connected."""
        said = {name: sink.state() for name, sink in self.sinks().items()}
        return {name: {key: state[key] for key in CONNECTION if key in state} for name, state in said.items()}

    def stuck(self) -> list[str]:
        """Those that take no message any more, if that is all of them: nothing gets out of this agent."""
        workers = [each.worker for each in self._at_work.values()]
        stuck = [worker.name for worker in workers if worker.progress.overdue_s() > 0]
        return stuck if len(stuck) == len(workers) else []

    def stop(self, deadline_s: float) -> None:
        """Hand over what waits, and let go; `deadline_s`: on `time.monotonic`."""
        _close(self._at_work, deadline_s)

    def _add(self, config: SinkConfig | None, sink: Sink, made_of: object = None) -> str:
        names = itertools.chain([sink.name], (f"{sink.name}-{number}" for number in itertools.count(2)))
        name = next(name for name in names if name not in self._at_work)
        sender = Sender(sink)
        worker = Worker(f"sink-{name}", sender.run, sender.progress)
        self._at_work = {**self._at_work, name: SinkAtWork(config, sender, worker, made_of)}
        self.outlets.add(sender)
        worker.start()
        return name


def _close(sinks: Mapping[str, SinkAtWork], deadline_s: float) -> None:
    for each in sinks.values():
        each.sender.close()
    join([each.worker for each in sinks.values()], deadline_s - time.monotonic())
    for each in sinks.values():
        each.sender.give_up()
        each.sender.sink.close(max(0.1, deadline_s - time.monotonic()))
