"""What a subscriber hears during a soak, kept as figures: an hour of messages would fill the memory."""

from __future__ import annotations

import json
import threading
import time
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from tests.support.broker import Received, Subscriber
from tests.support.eventful import Account
from tests.support.soak.site import AGENT, account_of


def wall_s(text: str) -> float:
    """Unix time of what a message says."""
    return datetime.fromisoformat(text.replace("Z", "+00:00")).timestamp()


@dataclass(frozen=True)
class Said:
    """A camera's state."""

    camera: str
    state: str
    at_s: float
    """Unix time; since when it is so."""
    newest_s: float
    """When the newest picture was taken of which there was a result."""


@dataclass
class Notes:
    """Of everything that has come; guarded by the lock of `Heard`."""

    events: Account = field(default_factory=Account)
    event_times: dict[int, float] = field(default_factory=dict)
    """event_seq -> when it happened."""
    newest_s: dict[str, float] = field(default_factory=dict)
    """Camera -> when the picture of the newest result was taken."""
    results: int = 0
    handed_ms: list[float] = field(default_factory=list)
    """Ages when results were handed over, as they say, since the last `ages`."""
    arrived_ms: list[float] = field(default_factory=list)
    """Ages when results arrived, by the wall clock, since the last `ages`."""
    oldest_ms: float = 0.0
    states: list[Said] = field(default_factory=list)
    reload_s: float = 0.0
    online: bool = False
    metrics: dict[str, Any] = field(default_factory=dict)
    most_waiting: dict[str, int] = field(default_factory=dict)
    """Account of law 7 -> most requests without an outcome yet, of all metrics that came."""
    unbalanced: list[str] = field(default_factory=list)


class Heard(Subscriber):
    """Subscribed to everything of the agent, in a session that survives the broker."""

    def __init__(self, url: str) -> None:
        self.lock = threading.Lock()
        self.notes = Notes()
        super().__init__(url, f"sightwire/{AGENT}/#", session="soak-listener")

    def _on_message(self, _client: Any, _userdata: object, message: Any) -> None:
        now_s, now_ns = time.time(), time.monotonic_ns()
        said = json.loads(message.payload)
        with self.lock:
            kind = said["schema"].partition("/")[0].removeprefix("sightwire.")
            if kind == "event":
                self.notes.events.take(Received(message.topic, bytes(message.payload), now_ns, message.retain, None))
                self.notes.event_times[said["event_seq"]] = wall_s(said["captured_at"])
            elif "age_ms" in said:
                self._result(said, now_s)
            elif kind == "camera":
                newest_s = self.notes.newest_s.get(said["camera"], 0)
                self.notes.states.append(Said(said["camera"], said["state"], wall_s(said["since"]), newest_s))
            elif kind == "status":
                self.notes.online = said["state"] == "online"
                self.notes.reload_s = wall_s(said["reload"]["at"]) if said.get("reload") else 0.0
            elif kind == "metrics":
                self._metrics(said)

    def _result(self, said: dict[str, Any], now_s: float) -> None:
        captured_s = wall_s(said["captured_at"])
        self.notes.results += 1
        self.notes.newest_s[said["camera"]] = max(captured_s, self.notes.newest_s.get(said["camera"], 0))
        self.notes.handed_ms.append(said["age_ms"])
        self.notes.arrived_ms.append((now_s - captured_s) * 1e3)
        self.notes.oldest_ms = max(self.notes.oldest_ms, said["age_ms"])

    def _metrics(self, said: dict[str, Any]) -> None:
        self.notes.metrics = said
        for name, account in account_of(said):
            self.notes.most_waiting[name] = max(account["waiting"], self.notes.most_waiting.get(name, 0))
        for sink, account in said["events"].items():
            if account["made"] != sum(account[key] for key in ("acknowledged", "expired", "dropped", "waiting")):
                self.notes.unbalanced.append(f"{sink}: {account}")

    def ages(self) -> tuple[list[float], list[float]]:
        """Ages since the last call, ms: when handed over, and when they arrived."""
        with self.lock:
            notes = self.notes
            found = notes.handed_ms, notes.arrived_ms
            notes.handed_ms, notes.arrived_ms = [], []
            return found

    def newest_s(self) -> dict[str, float]:
        """Camera -> when the picture of its newest result was taken."""
        with self.lock:
            return dict(self.notes.newest_s)

    def lost_after_s(self, camera: str, since_s: float) -> float | None:
        """How long after `since_s`, or after a picture that came later, the agent first said that it does not stream.

        A camera that is told to stop may have pictures on their way.
        """
        with self.lock:
            told = [
                said
                for said in self.notes.states
                if said.camera == camera and said.state != "streaming" and said.at_s >= since_s
            ]
        first = min(told, key=lambda said: said.at_s, default=None)
        return first and max(0.0, first.at_s - max(since_s, first.newest_s))
