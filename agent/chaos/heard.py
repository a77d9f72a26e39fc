"""What comes out of the agent: its messages, as it writes them to standard output, and its events, at a broker.

Times are of `time.monotonic`, which no fault moves.
"""

from __future__ import annotations

import itertools
import json
import queue
import threading
import time
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from agent.sinks._client import BrokerClient
from agent.sinks._link import Accepted
from agent.subscriber import Listener


@dataclass(frozen=True)
class Result:
    """One message of a camera's use."""

    camera: str
    use: str
    arrived_s: float
    age_ms: float

    @property
    def captured_s(self) -> float:
        """When its picture was taken."""
        return self.arrived_s - self.age_ms / 1e3


@dataclass(frozen=True)
class Said:
    """A camera's state."""

    camera: str
    state: str
    reason: str | None
    at_s: float


@dataclass(frozen=True)
class Status:
    """The agent's."""

    at_s: float
    said: dict[str, Any]


@dataclass
class Delivered:
    """The events that a subscriber got."""

    boots: dict[int, str] = field(default_factory=dict)
    """event_seq -> boot_id."""
    announced: int = 0
    """How many `gap` events say were dropped."""
    again: int = 0
    faults: list[str] = field(default_factory=list)
    """What must not be."""
    _newest: dict[str | None, int] = field(default_factory=lambda: defaultdict(int))

    @property
    def missing(self) -> int:
        """Numbers up to the newest that did not come."""
        return max(self.boots, default=0) - len(self.boots)

    @property
    def lost(self) -> int:
        """... and were not announced as dropped."""
        return self.missing - self.announced

    def take(self, event: dict[str, Any]) -> None:
        """One that came."""
        seq, boot, camera = event["event_seq"], event["boot_id"], event.get("camera")
        if seq in self.boots:
            self.again += 1
            if self.boots[seq] != boot:
                self.faults.append(f"event {seq} is of two starts of the agent")
            return
        self.boots[seq] = boot
        if event["kind"] == "gap":
            self.announced += event["data"]["count"] or 0
        elif seq < self._newest[camera]:
            self.faults.append(f"event {seq} of {camera or 'the agent'} came after {self._newest[camera]}")
        self._newest[camera] = max(self._newest[camera], seq)


class Heard:
    """All of it, so far. Any thread."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self.results: list[Result] = []
        self.states: list[Said] = []
        self.statuses: list[Status] = []
        self.metrics: dict[str, Any] = {}
        self.delivered = Delivered()

    def line(self, text: str) -> None:
        """A line of the agent's standard output."""
        try:
            said = json.loads(text)
            kind = said["schema"].partition("/")[0].removeprefix("sightwire.")
        except (ValueError, KeyError, TypeError):
            return
        now_s = time.monotonic()
        with self._changed:
            if said.get("age_ms") is not None:
                self.results.append(Result(said["camera"], said["use"], now_s, said["age_ms"]))
            elif kind == "camera":
                self.states.append(Said(said["camera"], said["state"], said["reason"], now_s))
            elif kind == "status":
                self.statuses.append(Status(now_s, said))
            elif kind == "metrics":
                self.metrics = said
            self._changed.notify_all()

    def event(self, payload: bytes) -> None:
        """A message from the broker."""
        try:
            said = json.loads(payload)
        except ValueError:
            return
        if said.get("schema") == "sightwire.event/1":
            with self._changed:
                self.delivered.take(said)
                self._changed.notify_all()

    def wait(self, wanted: Callable[[], Any], timeout_s: float) -> Any:
        """What `wanted` returns, as soon as it is true, asked at whatever comes; else what it returns at the end."""
        with self._changed:
            return self._changed.wait_for(wanted, max(0.0, timeout_s))

    # What `wanted` may ask for:

    def state_since(self, camera: str, since_s: float, *states: str) -> Said | None:
        """The first word of that camera since then that is one of these states."""
        return next((s for s in self.states if s.camera == camera and s.at_s >= since_s and s.state in states), None)

    def result_of(self, camera: str, taken_since_s: float, use: str | None = None) -> Result | None:
        """The first result of a picture that was taken since."""
        return next(
            (r for r in self._since(taken_since_s) if r.camera == camera and r.captured_s > taken_since_s
             and use in (None, r.use)),
            None,
        )  # fmt: skip

    def status_since(self, since_s: float, wanted: Callable[[dict[str, Any]], Any]) -> Status | None:
        """The first status since then of which that holds."""
        return next((status for status in self.statuses if status.at_s >= since_s and wanted(status.said)), None)

    # What is asked afterwards:

    def status(self) -> dict[str, Any]:
        """The newest."""
        with self._changed:
            return self.statuses[-1].said if self.statuses else {}

    def longest_gap_s(self, camera: str, use: str, since_s: float, until_s: float) -> float:
        """The longest time without a result."""
        with self._changed:
            times = [r.arrived_s for r in self._since(since_s) if (r.camera, r.use) == (camera, use)]
        times = [since_s, *(at for at in times if at <= until_s), until_s]
        return max(after - before for before, after in itertools.pairwise(times))

    def oldest_ms(self, since_s: float) -> dict[tuple[str, str], float]:
        """Camera and use -> greatest age of a result since then."""
        oldest: dict[tuple[str, str], float] = {}
        with self._changed:
            for result in self._since(since_s):
                key = result.camera, result.use
                oldest[key] = max(result.age_ms, oldest.get(key, 0.0))
        return oldest

    def _since(self, since_s: float) -> list[Result]:
        newer = len(self.results)
        while newer and self.results[newer - 1].arrived_s >= since_s:
            newer -= 1
        return self.results[newer:]


class EventListener(Listener):
    """Subscribed with QoS 1: a broker that is busy may drop what is sent with less."""

    def __init__(self, config: Any, topic: str, heard: Heard) -> None:
        super().__init__(config, topic)
        self._to, self._stop = heard, threading.Event()
        self.subscribed = threading.Event()
        self._thread = threading.Thread(target=self._run, name="chaos-events", daemon=True)
        self._thread.start()
        self.link.start()

    def prepare(self, client: BrokerClient) -> None:
        """See Listener."""
        super().prepare(client)
        client.on_subscribe = lambda *_: self.subscribed.set()

    def up(self, client: BrokerClient, accepted: Accepted) -> None:  # noqa: ARG002 - the same in both
        """See Listener."""
        self.was_up = True
        client.subscribe(self._topic, qos=1)

    def down(self) -> None:
        """See Listener."""
        self.subscribed.clear()

    def close(self) -> None:
        """Disconnect, and end the thread when all that came is taken. May be called twice."""
        self.link.close(1)
        self._stop.set()
        self._thread.join(5)

    def _run(self) -> None:
        while True:
            try:
                self._to.event(self._heard.get(timeout=0.2).payload)
            except queue.Empty:
                if self._stop.is_set():
                    return
