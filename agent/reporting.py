"""What an agent says of itself: `status` when something changes, `metrics` now and then, `about` once."""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Literal

import psutil

import agent
from agent.about import about
from agent.messages import AgentStatus, Metrics, rfc3339
from agent.remote.settings import allowed
from agent.sinks import Message
from agent.supervision.engines import tell_engine

if TYPE_CHECKING:
    from agent.service import Service

METRICS_EVERY_S = 10.0
METRICS_MAX_AGE_NS = 1_000_000_000


class Reporting:
    """Looks at a service. `look` and `publish_*` are the main thread's; `say_status`, `status`, `metrics` any."""

    def __init__(self, service: Service) -> None:
        self._service = service
        self._since = rfc3339(time.time_ns())
        self._started = time.monotonic()
        self._metrics_due_s = 0.0
        self._wanted = threading.Event()
        self._told: tuple[dict[str, Any], dict[str, Any], dict[str, Any]] = {}, {}, {}
        """What the last status said of engines, sinks and events."""

    def say_status(self) -> None:
        """Something that status tells has changed. Any thread."""
        self._wanted.set()

    def begin(self) -> None:
        """The agent is at work."""
        self._metrics_due_s = time.monotonic() + METRICS_EVERY_S
        self.publish_status("online")

    def look(self) -> None:
        """Publish what has changed, and metrics when they are due."""
        if self._wanted.is_set() or self._told != self._changing():
            self._wanted.clear()
            self.publish_status("online")
        if time.monotonic() >= self._metrics_due_s:
            self._metrics_due_s += METRICS_EVERY_S
            self._publish_metrics()

    def end(self) -> None:
        """The final account, then the last word; for a broker that is not there, nobody waits."""
        settled = threading.Event()
        self._publish_metrics(settled.set)
        settled.wait(METRICS_MAX_AGE_NS / 1e9)
        self.publish_status("offline")

    def publish_status(self, state: Literal["online", "offline"]) -> None:
        """Say it, whether it has changed or not."""
        status = self.status(state)
        for name, description in status.engines.items():
            tell_engine(f"models.{name}", description, self._told[0].get(name))
        self._told = status.engines, status.sinks, status.events
        self._service.sinks.outlets.publish(Message("status", status, retain=True, qos=1))

    def publish_about(self) -> None:
        """For those who must know labels and names before the first result."""
        service = self._service
        cards = {name: service.engines[name].model.card for name in service.engines}
        service.sinks.outlets.publish(Message("about", about(service.settings, cards), retain=True, qos=1))

    def status(self, state: Literal["online", "offline"]) -> AgentStatus:
        """As it is now."""
        service = self._service
        more: dict[str, Any] = service.events.state() if service.events else {}
        return AgentStatus.model_construct(
            schema_="sightwire.status/1",
            agent=service.settings.agent.name,
            state=state,
            version=agent.__version__,
            since=self._since,
            cameras={name: camera.state for name, camera in service.cameras.items()},
            engines=service.engines.descriptions(),
            load=service.load.state(),
            sinks=service.sinks.connections(),
            collect=service.collecting.state(),
            commands=allowed(service.settings.commands),
            reload=service.standing.reload,
            **more,
        )

    def in_a_line(self) -> str:
        """For `systemctl status`: `cameras: 2 streaming, 1 lost; mqtt connected`."""
        service = self._service
        states = Counter(camera.state for camera in service.cameras.values())
        cameras = ", ".join(f"{count} {state}" for state, count in states.most_common())
        sinks = ", ".join(
            f"{name} {said['state']}" for name, said in service.sinks.connections().items() if "state" in said
        )
        many = f"{len(service.cameras)} camera{'s' if len(service.cameras) > 1 else ''}: {cameras}"
        return "; ".join(words for words in (many, sinks) if words)

    def metrics(self) -> Metrics:
        """Counters since the start."""
        service = self._service
        more: dict[str, Any] = service.events.counts() if service.events else {}
        process = psutil.Process()
        times = process.cpu_times()
        return Metrics.model_construct(
            schema_="sightwire.metrics/1",
            agent=service.settings.agent.name,
            at=rfc3339(time.time_ns()),
            uptime_s=round(time.monotonic() - self._started, 1),
            rss_mb=round(process.memory_info().rss / 1e6, 1),
            cpu_s=round(times.user + times.system, 2),
            cameras={name: camera.counts() for name, camera in service.cameras.items()},
            engines=service.engines.counts(),
            sinks=service.sinks.counts(),
            load=service.load.figures(),
            collect=service.collecting.counts(),
            commands=service.remote.counts() if service.remote else {},
            **more,
        )

    def _publish_metrics(self, settled: Callable[[], None] | None = None) -> None:
        message = Message("metrics", self.metrics(), born_ns=time.monotonic_ns(), max_age_ns=METRICS_MAX_AGE_NS)
        self._service.sinks.outlets.publish(message, settled)

    def _changing(self) -> tuple[dict[str, Any], dict[str, Any], dict[str, Any]]:
        """What status says of that which does not report its changes."""
        service = self._service
        waiting = service.events.outbox.state() if service.events else {}
        return service.engines.descriptions(), service.sinks.connections(), waiting
