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

import cv2

from agent.allocator import give_back
from agent.config import Settings
from agent.errors import ConfigError
from agent.events import Events
from agent.load import Load
from agent.messages import Metrics
from agent.outbox.outbox import Outbox
from agent.remote.acts import Acts, Standing
from agent.remote.remote import Remote
from agent.reporting import Reporting
from agent.sinks import Message, Sink
from agent.supervision.cameras import Cameras
from agent.supervision.captures import Captures
from agent.supervision.collecting import Collecting
from agent.supervision.engines import Engines
from agent.supervision.health import Health
from agent.supervision.sinks import Sinks
from engines.store import ModelStore, default_root

log = logging.getLogger(__name__)

LOOK_S = 0.1
"""So often the main thread looks after what is at work."""
TIDY_S = 60.0
"""So often memory that is free goes back to the system."""
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
        health: Health | None = None,
    ) -> None:
        """`sinks`: more than the configuration names, for tests and measurements.

        `serve`: an agent wants engines that answer at once, a comparison those that were asked for (`open_models`).

        `outbox`: builds the outbox for sinks of those names; default: as the configuration says. `reload`: what that
        command does. `standing`: what commands left behind that were sent to the service before this one. `health`: is
        told that the agent is ready, and moves.
        """
        self.settings = settings
        self.store = store or ModelStore(default_root())
        self._more_sinks, self._new_outbox, self._reload = sinks or [], outbox, reload
        self.standing = standing or Standing()
        self.reporting = Reporting(self)
        self.say_status = self.reporting.say_status
        self.sinks = Sinks()
        self.events: Events | None = None
        self.engines = Engines(self.store, serve=serve)
        self.collecting = Collecting(self.say_status)
        self.collecting.prepare(settings)
        self.cameras = Cameras(self.engines, self.sinks.outlets, self.say_status)
        self.load = Load(self.cameras, self.say_status)
        self.captures = Captures()
        self.remote: Remote | None = None
        self.health = health or Health({})
        self.lock = threading.Lock()
        """Held while parts are looked after, and while they are exchanged (`agent.reloading`)."""
        self.stopping = threading.Event()
        self._change: threading.Thread | None = None

    def run(self, stop: threading.Event, meanwhile: Callable[[], None] = lambda: None) -> None:
        """Start, serve until `stop` or every recording has ended, stop. Raises ConfigError before anything runs."""
        try:
            self.start()
            self.wait(stop, meanwhile)
        finally:
            self.stop()

    def start(self) -> None:
        """Start sinks, engines and captures. Raises ConfigError for what only the user can mend."""
        # One OpenCV thread each: the machine's cores are divided among the engines, not fought over.
        cv2.setNumThreads(1)
        # A reader waits at most half a millisecond for a busy Python thread to let go (default: 5).
        sys.setswitchinterval(0.0005)
        settings = self.settings
        farewell = Message("status", self.reporting.status("offline"), retain=True, qos=1)
        self.sinks.start(settings.all_sinks(), settings.agent.name, farewell, self._more_sinks)
        self.events = events = Events(
            settings, self.sinks.sinks(), self.sinks.outlets, on_state=self.say_status, new_outbox=self._new_outbox
        )
        events.start()
        try:
            self.engines.start(settings)
        except ConfigError:
            events.close()
            self.sinks.stop(time.monotonic() + STOP_DEADLINE_S)
            raise
        self.collecting.start()
        self.reporting.publish_about()
        for name in settings.cameras:
            camera = self.cameras.build(settings, name, events, self.collecting.candidates(name))
            self.cameras.put(camera)
            self.standing.hold(camera)
        events.start_pictures()
        for names in settings.connections():
            cameras = [self.cameras[name] for name in names]
            self.captures.add(settings.cameras[names[0]].source, cameras, events.clips.tap(names))
        self.captures.start()
        if settings.commands.allow:
            self.remote = self.listening(settings, events)
        self.reporting.begin()
        self.health.ready(self.reporting.in_a_line())

    def wait(self, stop: threading.Event, meanwhile: Callable[[], None] = lambda: None) -> None:
        """Look after what is at work until `stop` is set or every source has ended. `meanwhile` returns at once."""
        tidy_s = time.monotonic()  # models are opened in much more memory than they are
        while not stop.wait(LOOK_S):
            if time.monotonic() >= tidy_s:
                tidy_s = time.monotonic() + TIDY_S
                give_back()
            with self.lock:
                self.captures.look()
                self.engines.look()
                self.load.look()
                self.reporting.look()
                self.health.beat(self.reporting.in_a_line(), self._beyond_help())
                at_work = self.captures.alive
            if not at_work:
                return
            meanwhile()

    def change(self, change: Callable[[], None]) -> None:
        """Have a thread do this while the service goes on, one at a time: go over to another configuration."""
        self._change = threading.Thread(target=change, name="change", daemon=True)
        self._change.start()

    @property
    def changing(self) -> bool:
        """Whether one is under way."""
        return self._change is not None and self._change.is_alive()

    def stop(self) -> None:
        """Stop in reverse order. Everything offered has an outcome afterwards, unless something hangs past its time."""
        self.health.beat("stopping")  # for as long as this takes
        with self.lock:
            self.stopping.set()
        if self._change is not None:
            self._change.join(STOP_DEADLINE_S)  # a model that is being opened is left to itself
        deadline = time.monotonic() + STOP_DEADLINE_S
        if self.remote:
            self.remote.close(STOP_DEADLINE_S / 2)
        self.captures.stop(self.cameras, deadline)
        self.collecting.close()
        self.engines.finish(list(self.cameras.values()), deadline)
        self.engines.stop(deadline)
        for camera in self.cameras.values():
            camera.close()
        self.collecting.join(deadline)
        if self.events:
            self.events.close()
        if list(self.engines):
            self.reporting.end()
        self.sinks.stop(time.monotonic() + STOP_DEADLINE_S)

    def _beyond_help(self) -> list[str]:
        """What only a new process can mend."""
        workers = (*self.captures.beyond_help(), *self.engines.workers())
        return [worker.name for worker in workers if worker.progress.overdue_s() > 0] + self.sinks.stuck()

    def metrics(self) -> Metrics:
        """Counters since the start."""
        return self.reporting.metrics()

    def listening(self, settings: Settings, events: Events) -> Remote:
        """What obeys commands, from whatever sink hears them."""
        remote = Remote(settings.agent.name, settings.commands, self.acts(settings, events), self.standing.answers)
        remote.start()
        self.sinks.listen(remote.on_request)
        return remote

    def acts(self, settings: Settings, events: Events) -> Acts:
        """What commands do."""
        cameras = settings.cameras.items()
        return Acts(
            self.cameras,
            self.standing,
            snapshot=events.snapshots.now,
            publishing=[name for name, section in cameras if section.snapshots and section.snapshots.publish],
            reload=self._reload,
        )
