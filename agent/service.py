"""The composition root: the only place that wires sources, engines and sinks together.

Start order sinks, outbox, couriers, engines, captures; stop in reverse: captures first, engines when nothing is under
way, watches (what is open ends), the outbox and its couriers, and sinks when everything is sent or its time is up.
"""

from __future__ import annotations

import logging
import sys
import threading
import time
from collections.abc import Callable, Sequence
from typing import Any, Literal

import cv2
import psutil

import agent
from agent.about import about
from agent.camera import Camera
from agent.collecting import Collector
from agent.config import CameraSection, Settings, UseSection
from agent.errors import ConfigError
from agent.events import Events
from agent.every import Every
from agent.messages import AgentStatus, Metrics, rfc3339
from agent.models import reported_from, thresholds_of, weak_of
from agent.outbox.outbox import Outbox
from agent.publishing import Outlets, Sender
from agent.remote.acts import Acts, Standing
from agent.remote.remote import Remote
from agent.remote.settings import allowed
from agent.sight.motion import Gate
from agent.sight.sight import Sight
from agent.sinks import Message, Sink
from agent.supervision.captures import Captures
from agent.supervision.engines import Engines, tell_engine
from agent.uses import Cascade, Use
from agent.view import View
from agent.workers import Worker, join
from engines.store import ModelStore, default_root

log = logging.getLogger(__name__)

METRICS_EVERY_S = 10.0
CONNECTION = ("type", "state", "connected", "reason", "transport", "protocol", "limits", "commands")
METRICS_MAX_AGE_NS = 1_000_000_000
STOP_DEADLINE_S = 5.0


class Service:
    """An agent. `start`, then `wait`, then `stop`; or `run` for all three."""

    def __init__(
        self,
        settings: Settings,
        store: ModelStore | None = None,
        sinks: list[Sink] | None = None,
        *,
        outbox: Callable[[Sequence[str]], Outbox] | None = None,
        reload: Callable[[], None] | None = None,
        standing: Standing | None = None,
        serve: bool = True,
    ) -> None:
        """`sinks`: more than the configuration names, for tests and measurements.

        `serve`: an agent wants engines that answer at once, a comparison those that were asked for (`open_models`).

        `outbox`: builds the outbox for sinks of those names; default: as the configuration says. `reload`: what that
        command does. `standing`: what commands left behind that were sent to the service before this one.
        """
        self._settings = settings
        self._store = store or ModelStore(default_root())
        self._name = settings.agent.name
        self._since = rfc3339(time.time_ns())
        self._started = time.monotonic()
        self._more_sinks = sinks or []
        self._senders: dict[str, Sender] = {}
        self._outlets = Outlets([])
        self._new_outbox = outbox
        self._events: Events | None = None
        self._workers: list[Worker] = []
        self.captures = Captures()
        self._status_wanted = threading.Event()
        self._told: tuple[dict[str, Any], dict[str, Any], dict[str, Any]] = {}, {}, {}
        """What the last status said of engines, sinks and events."""
        self.engines = Engines(self._store, serve=serve)
        self.cameras: dict[str, Camera] = {}
        self._collector = self._collecting()
        self._collecting_worker: Worker | None = None
        self._standing = standing or Standing()
        self._reload = reload
        self._remote: Remote | None = None

    def run(self, stop: threading.Event) -> None:
        """Start, serve until `stop` or every recording has ended, stop. Raises ConfigError before anything runs."""
        try:
            self.start()
            self.wait(stop)
        finally:
            self.stop()

    def start(self) -> None:
        """Start sinks, engines and captures. Raises ConfigError for what only the user can mend."""
        # One OpenCV thread each: the machine's cores are divided among the engines, not fought over.
        cv2.setNumThreads(1)
        # A reader waits at most half a millisecond for a busy Python thread to let go (default: 5).
        sys.setswitchinterval(0.0005)
        self._start_sinks()
        sinks = {name: sender.sink for name, sender in self._senders.items()}
        say = self._status_wanted.set
        self._events = Events(self._settings, sinks, self._outlets, on_state=say, new_outbox=self._new_outbox)
        self._events.start()
        try:
            self.engines.start(self._settings)
        except ConfigError:
            self._events.close()
            self._close_sinks()
            raise
        if self._collector:
            log.info("keeping pictures for calibration in %s", self._collector.folder)
            self._collecting_worker = Worker("collect", self._collector.run)
            self._collecting_worker.start()
        cards = {name: self.engines[name].model.card for name in self.engines}
        self._outlets.publish(Message("about", about(self._settings, cards), retain=True, qos=1))
        for name in self._settings.cameras:
            self._add_camera(name, self._events)
        self._events.start_pictures()
        for names in self._settings.connections():
            cameras = [self.cameras[name] for name in names]
            self.captures.add(self._settings.cameras[names[0]].source, cameras, self._events.clips.tap(names))
        self.captures.start()
        if self._settings.commands.allow:
            self._remote = self._listening(self._events)
        self._publish_status("online")

    def wait(self, stop: threading.Event) -> None:
        """Publish status and metrics until `stop` is set or every source has ended."""
        metrics_due = time.monotonic() + METRICS_EVERY_S
        while not stop.wait(0.1):
            if self._status_wanted.is_set() or self._told != self._changing():
                self._status_wanted.clear()
                self._publish_status("online")
            if time.monotonic() >= metrics_due:
                metrics_due += METRICS_EVERY_S
                self._publish_metrics()
            if not self.captures.alive:
                return

    def stop(self) -> None:
        """Stop in reverse order. Everything offered has an outcome afterwards, unless something hangs past its time."""
        deadline = time.monotonic() + STOP_DEADLINE_S
        if self._remote:
            self._remote.close(STOP_DEADLINE_S / 2)
        self.captures.stop(self.cameras, deadline)
        if self._collector and self._collecting_worker:
            self._collecting_worker.stop.set()
            self._collector.close()
        for camera in self.cameras.values():
            if not camera.wait_idle(deadline - time.monotonic()):
                log.warning("%s: stopped with results still under way", camera.name)
        self.engines.stop(deadline)
        for camera in self.cameras.values():
            camera.close()
        if self._collecting_worker:
            join([self._collecting_worker], deadline - time.monotonic())
        if self._events:
            self._events.close()
        if list(self.engines):
            self._publish_last_metrics()
            self._publish_status("offline")
        self._close_sinks()

    def say_status(self) -> None:
        """Something that status tells has changed. Any thread."""
        self._status_wanted.set()

    def metrics(self) -> Metrics:
        """Counters since the start."""
        more: dict[str, Any] = self._events.counts() if self._events else {}
        process = psutil.Process()
        times = process.cpu_times()
        return Metrics.model_construct(
            schema_="sightwire.metrics/1",
            agent=self._name,
            at=rfc3339(time.time_ns()),
            uptime_s=round(time.monotonic() - self._started, 1),
            rss_mb=round(process.memory_info().rss / 1e6, 1),
            cpu_s=round(times.user + times.system, 2),
            cameras={name: camera.counts() for name, camera in self.cameras.items()},
            # Both count what was sent; a sink also what it says again at each connect, so the sender's word stands.
            sinks={name: {**sender.sink.state(), **sender.counts()} for name, sender in self._senders.items()},
            collect=self._collector.counts() if self._collector else {},
            commands=self._remote.counts() if self._remote else {},
            **more,
        )

    def _start_sinks(self) -> None:
        farewell = Message("status", self._status("offline"), retain=True, qos=1)
        sinks = [config.open(self._name, farewell) for config in self._settings.all_sinks()] + self._more_sinks
        for sink in sinks:
            same = sum(sender.sink.name == sink.name for sender in self._senders.values())
            self._senders[f"{sink.name}-{same + 1}" if same else sink.name] = Sender(sink)
        self._outlets.senders.extend(self._senders.values())
        for name, sender in self._senders.items():
            worker = Worker(f"sink-{name}", sender.run)
            self._workers.append(worker)
            worker.start()

    def _close_sinks(self) -> None:
        deadline = time.monotonic() + STOP_DEADLINE_S
        for sender in self._senders.values():
            sender.close()
        join(self._workers, deadline - time.monotonic())
        for sender in self._senders.values():
            sender.sink.close(max(0.1, deadline - time.monotonic()))

    def _add_camera(self, name: str, events: Events) -> None:
        section = self._settings.cameras[name]
        uses = {entry.use: self._use(section, entry) for entry in section.models}
        for entry in section.models:
            if entry.on is not None:
                parent, child = uses[entry.on], uses[entry.use]
                wanted = None if entry.labels is None else frozenset(parent.labels.index(x) for x in entry.labels)
                child.max_age_ns = parent.max_age_ns
                parent.cascades.append(Cascade(child, wanted, entry.pad, entry.max))
        model_uses = [uses[entry.use] for entry in section.models if entry.on is None]
        album = events.snapshots.album(name, section.snapshots) if section.snapshots else None
        camera = Camera(
            self._name,
            name,
            section.source.label,
            model_uses,
            self._outlets,
            watch=events.watch(name, uses, album),
            view=View(section.crop, section.masks),
            sight=Sight(section.blindness, section.crop, section.masks) if section.blindness else None,
            gate=Gate(section.motion, section.crop, section.masks) if section.motion else None,
            candidates=self._collector.cameras[name] if self._collector else None,
            album=album,
            lossless=section.source.lossless,
            on_state=self._status_wanted.set,
        )
        self.cameras[name] = camera
        if name in self._standing.disabled:
            camera.switch(on=False)

    def _listening(self, events: Events) -> Remote:
        """What obeys commands, from whatever sink hears them."""
        cameras = self._settings.cameras
        acts = Acts(
            self.cameras,
            self._standing,
            snapshot=events.snapshots.now,
            publishing=[name for name, section in cameras.items() if section.snapshots and section.snapshots.publish],
            reload=self._reload,
        )
        remote = Remote(self._name, self._settings.commands, acts, self._standing.answers)
        remote.start()
        for sender in self._senders.values():
            sender.sink.listen(remote.on_request)
        return remote

    def _collecting(self) -> Collector | None:
        wanted = self._settings.calibration.collect
        if wanted is None:
            return None
        return Collector(
            wanted.folder,
            self._settings.cameras,
            limit=wanted.limit,
            every_ns=round(wanted.every * 1e9),
            max_bytes=wanted.max_mb * 1_000_000,
            on_state=self._status_wanted.set,
        )

    def _use(self, camera: CameraSection, entry: UseSection) -> Use:
        engine = self.engines[entry.use]
        section, card = self._settings.models[entry.use], engine.model.card
        return Use(
            name=entry.use,
            labels=card.labels,
            mailbox=engine.mailbox,
            every=Every(round(entry.every * 1e9)),
            roi=entry.roi,
            tiles=entry.tiles,
            thresholds=thresholds_of(section, card, entry),
            weak=weak_of(section, card, camera, entry),
            max_age_ns=round(entry.max_age * 1e9),
            retain=entry.retain,
            floor=reported_from(self._settings, entry.use, engine.model.card),
            predict=camera.track is not None and camera.track.use == entry.use and camera.track.predict,
        )

    def _publish_metrics(self, settled: Callable[[], None] | None = None) -> None:
        message = Message("metrics", self.metrics(), born_ns=time.monotonic_ns(), max_age_ns=METRICS_MAX_AGE_NS)
        self._outlets.publish(message, settled)

    def _publish_last_metrics(self) -> None:
        """The final account, before the last word; for a broker that is not there, nobody waits."""
        settled = threading.Event()
        self._publish_metrics(settled.set)
        settled.wait(METRICS_MAX_AGE_NS / 1e9)

    def _publish_status(self, state: Literal["online", "offline"]) -> None:
        status = self._status(state)
        for name, description in status.engines.items():
            tell_engine(f"models.{name}", description, self._told[0].get(name))
        self._told = status.engines, status.sinks, status.events
        self._outlets.publish(Message("status", status, retain=True, qos=1))

    def _status(self, state: Literal["online", "offline"]) -> AgentStatus:
        more: dict[str, Any] = self._events.state() if self._events else {}
        return AgentStatus.model_construct(
            schema_="sightwire.status/1",
            agent=self._name,
            state=state,
            version=agent.__version__,
            since=self._since,
            cameras={name: camera.state for name, camera in self.cameras.items()},
            engines=self.engines.descriptions(),
            sinks=self._connections(),
            collect=self._collector.state() if self._collector else {},
            commands=allowed(self._settings.commands),
            reload=self._standing.reload,
            **more,
        )

    def _changing(self) -> tuple[dict[str, Any], dict[str, Any], dict[str, Any]]:
        """What status says of that which does not report its changes."""
        return self.engines.descriptions(), self._connections(), self._events.outbox.state() if self._events else {}

    def _connections(self) -> dict[str, dict[str, Any]]:
        """What status says of the sinks: how they are connected; counters are in the metrics."""
        said = {name: sender.sink.state() for name, sender in self._senders.items()}
        return {name: {key: state[key] for key in CONNECTION if key in state} for name, state in said.items()}
