"""The sinks of an agent at work: each with its sender, and a thread that hands over what waits in it."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
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


class Sinks:
    """All of them, by the names that the outbox and the metrics know."""

    def __init__(self) -> None:
        self.outlets = Outlets([])
        self._at_work: dict[str, SinkAtWork] = {}
        """Replaced, never changed: others look at it."""

    def start(self, configs: Iterable[SinkConfig], agent: str, farewell: Message, more: Sequence[Sink] = ()) -> None:
        """Open those of the configuration, and begin to hand over to them and to `more`. Raises ConfigError."""
        for config in configs:
            self._add(config, config.open(agent, farewell))
        for sink in more:
            self._add(None, sink)

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

    def _add(self, config: SinkConfig | None, sink: Sink) -> None:
        same = sum(each.name == sink.name for each in self.sinks().values())
        name = f"{sink.name}-{same + 1}" if same else sink.name
        sender = Sender(sink)
        worker = Worker(f"sink-{name}", sender.run, sender.progress)
        self._at_work = {**self._at_work, name: SinkAtWork(config, sender, worker)}
        self.outlets.senders.append(sender)
        worker.start()


def _close(sinks: Mapping[str, SinkAtWork], deadline_s: float) -> None:
    for each in sinks.values():
        each.sender.close()
    join([each.worker for each in sinks.values()], deadline_s - time.monotonic())
    for each in sinks.values():
        each.sender.sink.close(max(0.1, deadline_s - time.monotonic()))
