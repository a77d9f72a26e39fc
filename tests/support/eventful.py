"""An agent that has nothing but events, and a subscriber that keeps account of them."""

from __future__ import annotations

import json
import os
import sys
import threading
import time
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any

from agent.errors import Transient
from agent.messages import EventPayload, rfc3339
from agent.outbox.courier import Courier
from agent.outbox.outbox import Outbox
from agent.outbox.settings import EventsSection
from agent.sinks import Sink, mqtt
from agent.workers import Worker
from tests.support.broker import Received, Subscriber
from tests.support.patience import PATIENCE_S
from tests.support.publishing import FAREWELL, result

CAMERAS = ("dock", "gate", "yard")
PERSISTENT = "persistence true\npersistence_location {folder}/\n"
"""Settings of a mosquitto whose sessions survive an orderly end."""
SAVED_OFTEN = "autosave_on_changes true\nautosave_interval 1\n"
"""... and, but for the last moment, SIGKILL. It writes everything it knows each time, and is slow."""


def event(number: int, camera: str | None = None, kind: str = "line") -> EventPayload:
    """One like those of a line; `number` is in its data, and chooses the camera."""
    camera = camera or CAMERAS[number % len(CAMERAS)]
    return EventPayload.model_construct(
        schema_="sightwire.event/1",
        agent="gate",
        boot_id="",
        event_seq=0,
        id=f"00000000-{camera}-{number}",
        kind=kind,
        phase="moment",
        camera=camera,
        captured_at=rfc3339(time.time_ns()),
        label="person",
        score=0.91,
        track=number,
        box=[412.0, 88.5, 503.2, 371.0],
        zones=["door", "yard"],
        path=[(i / 2, 400.0 + i, 300.0 + i) for i in range(8)],
        data={"n": number, "direction": "in"},
    )


class EventAgent:
    """Outbox, courier and sink at work, until it is left."""

    def __init__(self, url: str, path: Path | None, sink: Sink | None = None, **events: Any) -> None:
        """`path`: of the outbox; None: in memory. `sink`: another one than MQTT to `url`."""
        settings = EventsSection.model_validate({"path": path, **events})
        self.sink = sink or mqtt.Config(url=url).open("gate", FAREWELL)
        self.outbox = Outbox(settings, "gate", ["mqtt"], in_memory=path is None)
        self.outbox.start()
        self.courier = Courier(self.outbox, "mqtt", self.sink, settings.no_subscriber)
        self._worker = Worker("courier", self.courier.run)
        self._worker.start()
        self.offered = 0

    def put(self, count: int = 1, camera: str | None = None) -> None:
        """Offer so many more events."""
        for _ in range(count):
            self.outbox.put(event(self.offered, camera))
            self.offered += 1

    @property
    def counts(self) -> dict[str, int]:
        """The outbox's account of the sink, which must balance."""
        counts: dict[str, int] = self.outbox.counts()["mqtt"]
        assert counts["made"] == sum(counts[name] for name in ("acknowledged", "expired", "dropped", "waiting")), counts
        return counts

    def wait_for(self, wanted: Callable[[dict[str, int]], Any], deadline_s: float = PATIENCE_S) -> dict[str, int]:
        """The account, as soon as it is so. Raises TimeoutError."""
        deadline = time.monotonic() + deadline_s
        while not wanted(counts := self.counts):
            if time.monotonic() > deadline:
                raise TimeoutError(f"not reached in {deadline_s} s: {counts}, {self.courier.counts()}")
            time.sleep(0.01)
        return counts

    def drained(self, deadline_s: float = PATIENCE_S) -> dict[str, int]:
        """The account, as soon as nothing waits."""
        return self.wait_for(lambda counts: counts["waiting"] == 0, deadline_s)

    def close(self) -> None:
        """As the service does it; the courier first."""
        self._worker.stop.set()
        if not self._worker.join(PATIENCE_S):
            raise TimeoutError("the courier does not end")
        self.sink.close(2)
        self.outbox.close(5)

    def __enter__(self) -> EventAgent:
        return self

    def __exit__(
        self, _type: type[BaseException] | None, _error: BaseException | None, _trace: TracebackType | None
    ) -> None:
        self.close()


@dataclass
class Account:
    """What a subscriber got, in the order in which it came."""

    arrived: int = 0
    duplicates: int = 0
    """Same boot_id and event_seq as one before, and the same in all else."""
    faults: list[str] = field(default_factory=list)
    """What must not be."""
    numbers: dict[int, str] = field(default_factory=dict)
    """event_seq -> boot_id."""
    gaps: list[dict[str, Any]] = field(default_factory=list)
    """The data of `gap` events."""

    _seen: dict[tuple[str, int], Any] = field(default_factory=dict)
    _newest: dict[str | None, int] = field(default_factory=lambda: defaultdict(int))

    def take(self, message: Received) -> None:
        """Look at one message."""
        said = json.loads(message.payload)
        if said.get("schema") != "sightwire.event/1":
            return
        self.arrived += 1
        key, seq, camera = (said["boot_id"], said["event_seq"]), said["event_seq"], said.get("camera")
        digest = hash(message.payload)
        if key in self._seen:
            self.duplicates += 1
            if self._seen[key] != digest:
                self.faults.append(f"{key} came twice and is not the same")
            return
        self._seen[key] = digest
        if seq in self.numbers:
            self.faults.append(f"{seq} is of two starts of the agent")
        self.numbers[seq] = said["boot_id"]
        if said["kind"] == "gap":
            self.gaps.append(said["data"])
        elif seq < self._newest[camera]:
            self.faults.append(f"{camera}: {seq} came after {self._newest[camera]}")
        self._newest[camera] = max(self._newest[camera], seq)

    @property
    def missing(self) -> int:
        """Numbers up to the newest that did not come."""
        return max(self.numbers, default=0) - len(self.numbers)

    @property
    def announced(self) -> int:
        """Events that `gap` events say were dropped."""
        return sum(gap["count"] or 0 for gap in self.gaps)


class Hearer(Subscriber):
    """Subscribed to all events, in a session that the broker keeps."""

    def __init__(self, url: str) -> None:
        self._account = Account()
        self._looked_at = 0
        super().__init__(url, "sightwire/gate/#", session="hearer")

    def leave(self) -> None:
        """Go away; the broker keeps what comes."""
        self.close()

    def come_back(self) -> None:
        """Into the same session."""
        self._client.reconnect()
        self._client.loop_start()

    @property
    def account(self) -> Account:
        """Of all that has come so far."""
        with self._changed:
            come, self._looked_at = self.messages[self._looked_at :], len(self.messages)
        for message in come:
            self._account.take(message)
        return self._account

    def wait_until(self, wanted: Callable[[Account], Any], deadline_s: float = PATIENCE_S) -> Account:
        """The account, as soon as it is so. Raises TimeoutError."""
        deadline = time.monotonic() + deadline_s
        while not wanted(account := self.account):
            if time.monotonic() > deadline:
                raise TimeoutError(f"not so in {deadline_s} s: {account.arrived} came, {account.missing} are missing")
            with self._changed:
                self._changed.wait(0.05)
        return account


class LiveResults:
    """A camera of 30 results a second through the same sink, as a sender publishes it."""

    def __init__(self, sink: mqtt.MqttSink, rate: float = 30.0) -> None:
        self._sink, self._rate = sink, rate
        self.offered = self.sent = 0
        self._worker = Worker("live", self._run)
        self._worker.start()

    def _run(self, stop: threading.Event) -> None:
        due = time.monotonic()
        while not stop.wait(max(0.0, due - time.monotonic())):
            due += 1 / self._rate
            message = result(self.offered)
            self.offered += 1
            if self._sink.ready(0.03):
                try:
                    self._sink.send(message)
                    self.sent += 1
                except Transient:
                    pass

    def __enter__(self) -> LiveResults:
        return self

    def __exit__(self, *_: object) -> None:
        self._worker.stop.set()
        self._worker.join(2)


def main() -> None:
    """`python -m tests.support.eventful URL FILE`: an agent for each line read; says its process id, and its end."""
    url, path = sys.argv[1], Path(sys.argv[2])
    for line in sys.stdin:
        rate = float(line)
        child = os.fork()
        if child == 0:
            with EventAgent(url, path) as agent:
                while True:
                    agent.put()
                    time.sleep(1 / rate)
        print(child, flush=True)  # noqa: T201
        os.waitpid(child, 0)
        print("gone", flush=True)  # noqa: T201


if __name__ == "__main__":
    main()
