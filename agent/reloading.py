"""From one configuration to the next in a running agent: what is not changed works on, with all that it has counted.

First what may take long or fail is made ready beside what runs: models. Then sinks are exchanged, the old ones closed
before the new ones are opened, for they may need the same file or be called the same at the broker. Then, in a moment
and while nothing is looked after, cameras, connections and engines are exchanged. At last what is not needed any more
ends, when what it has begun is done.

Where models or sinks cannot be had, the old configuration goes on.
"""

from __future__ import annotations

import contextlib
import logging
import time
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from agent.camera import Camera
from agent.config import CameraSection, Settings
from agent.errors import ConfigError
from agent.models import order_models
from agent.sinks import Message
from agent.supervision.captures import end
from agent.supervision.changes import Changes, between, kept_connections
from agent.supervision.engine import EngineAtWork
from agent.workers import Worker

if TYPE_CHECKING:
    from agent.events import Events
    from agent.service import Service

log = logging.getLogger(__name__)

LET_GO_S = 2.0
"""What is not needed any more has so long to end what it has begun."""
CHANGED, REMOVED = "configuration_changed", "camera_removed"
"""Reasons why incidents end."""


class Anew(Exception):
    """Nothing can stay as it is: this change is for another service. Names the keys."""

    def __init__(self, keys: Iterable[str]) -> None:
        self.keys = list(keys)
        super().__init__(", ".join(self.keys))


class Stopping(Exception):
    """The service ends; nothing was changed."""


@dataclass
class _Gone:
    """What is not the service's any more, and works on."""

    cameras: list[Camera] = field(default_factory=list)
    connections: list[Worker] = field(default_factory=list)
    engines: list[EngineAtWork] = field(default_factory=list)


def apply(service: Service, after: Settings) -> dict[str, Any]:
    """Have a service that has started do as this configuration says; what was begun anew, as status says it.

    Not for the thread that looks after the service: it may take long. Raises ConfigError where a model or a sink cannot
    be had, and Anew; nothing is changed then.
    """
    before, events = service.settings, service.events
    if events is None:
        raise Stopping
    orders = order_models(after, service.store)
    made = {name: service.engines[name].model.card for name in service.engines}
    remade = [name for name in made if name in orders and made[name] != orders[name].card]
    changes = between(before, after, remade, service.sinks.renewed())
    if changes.everything:
        raise Anew(changes.everything)
    if not events.has_room_for(after):
        raise Anew(["the first events: they need a file to wait in"])
    opened = service.engines.open(after, changes.models.added | changes.models.changed)
    with _closed_unless_taken(service, opened):
        if service.stopping.is_set():
            raise Stopping
        sinks_before = set(service.sinks.sinks())
        added = _exchange_sinks(service, events, after, changes)
        with service.lock:
            if not service.stopping.is_set():
                service.engines.ask({name: orders[name] for name in changes.asked})
                gone = _exchange(service, events, after, changes, opened)
        if service.stopping.is_set() and service.settings is before:  # it could not wait for us
            events.disconnect(list(service.sinks.sinks()), LET_GO_S)
            service.sinks.stop(time.monotonic() + LET_GO_S)
            raise Stopping
    _let_go(service, events, before, changes, gone)
    return _told(before, after, changes, added, sinks_before - set(service.sinks.sinks()))


@contextlib.contextmanager
def _closed_unless_taken(service: Service, opened: dict[str, EngineAtWork]) -> Iterator[None]:
    try:
        yield
    except BaseException:
        taken = [service.engines[name] for name in service.engines]
        for engine in opened.values():
            if engine not in taken:
                engine.discard(LET_GO_S)
        raise


def _exchange_sinks(service: Service, events: Events, after: Settings, changes: Changes) -> list[str]:
    """Close and open sinks; the names of those that are new. Raises ConfigError, and those before are open again."""
    sinks, agent = service.sinks, after.agent.name
    last_word = Message("status", service.reporting.status("offline"), retain=True, qos=1)
    gone = sinks.named(changes.sinks_removed)
    if not gone and not changes.sinks_added:
        return []

    def close(names: Collection[str]) -> None:
        events.disconnect(names, LET_GO_S)
        sinks.remove(names, last_word, time.monotonic() + LET_GO_S)

    added: list[str] = []
    close(gone)
    try:
        for config in changes.sinks_added:
            added += [sinks.add(config, agent, last_word)]
    except ConfigError:
        close(added)
        added = []
        for config in changes.sinks_removed:
            try:
                added.append(sinks.add(config, agent, last_word))
            except ConfigError as error:
                log.error("a sink that was closed cannot be opened again: %s", error)
        raise
    finally:
        events.connect(sinks.sinks())
        if service.remote and service.settings.commands.allow:
            for name in added:
                sinks.sinks()[name].listen(service.remote.on_request)
    return added


def _exchange(
    service: Service, events: Events, after: Settings, changes: Changes, opened: dict[str, EngineAtWork]
) -> _Gone:
    """Exchange cameras, connections and engines. Nothing in here waits, and whoever looks after them does."""
    before, gone = service.settings, _Gone()
    events.follow(after)
    for name in changes.connections:
        events.clips.cut(name)
    gone.engines = service.engines.let_go(changes.models.removed | changes.models.changed)
    service.engines.take(opened)
    kept = kept_connections(before, after)
    stay = {name for names, now in kept.items() for name in names if name in now}
    for name in sorted(changes.cameras.removed):
        gone.cameras.append(service.cameras.remove(name))
        events.unwatch(name)
    for name in (name for name in after.cameras if name in changes.cameras.changed | changes.cameras.added):
        camera = service.cameras.build(after, name, events, service.collecting.candidates(name))
        if name in service.cameras:
            camera.succeed(service.cameras[name], same_connection=name in stay)
            gone.cameras.append(service.cameras[name])
        service.cameras.put(camera)
        service.standing.hold(camera)
    service.cameras.use_engines(after)
    _exchange_connections(service, events, after, changes, kept, gone)
    _follow_commands(service, events, after)
    service.settings = after
    return gone


def _exchange_connections(
    service: Service,
    events: Events,
    after: Settings,
    changes: Changes,
    kept: dict[tuple[str, ...], tuple[str, ...]],
    gone: _Gone,
) -> None:
    """End those that cannot stay, have the others look for their cameras of now; new ones are not begun yet."""
    for names in map(tuple, service.settings.connections()):
        if names not in kept:
            gone.connections += service.captures.remove(names)
            continue
        now = kept[names]
        if now == names and not changes.cameras.changed & set(now):
            continue
        service.captures.hand_over(names, [service.cameras[name] for name in now])
        for name in now:
            if name not in names:
                service.cameras[name].join(service.cameras[next(n for n in now if n in names)])
    for new in map(tuple, after.connections()):
        if new not in kept.values():
            cameras = [service.cameras[name] for name in new]
            service.captures.add(after.cameras[new[0]].source, cameras, events.clips.tap(new))


def _follow_commands(service: Service, events: Events, after: Settings) -> None:
    heard = bool(service.settings.commands.allow)
    if service.remote is None:
        if after.commands.allow:
            service.remote = service.listening(after, events)
    else:
        service.remote.follow(after.commands, service.acts(after, events))
        if after.commands.allow and not heard:
            service.sinks.listen(service.remote.on_request)


def _let_go(service: Service, events: Events, before: Settings, changes: Changes, gone: _Gone) -> None:
    """End what is not needed any more, and tell the world."""
    after = service.settings
    end(gone.connections, time.monotonic() + LET_GO_S)  # a device, or a camera, may take one connection at a time
    with service.lock:
        if not service.stopping.is_set():
            service.captures.start()
    if changes.collect:
        service.collecting.close()
        service.collecting.join(time.monotonic() + LET_GO_S)
        service.collecting.prepare(after)
        service.collecting.start()
        for name, camera in service.cameras.items():
            camera.collect_for(service.collecting.candidates(name))
    until_s = time.monotonic() + LET_GO_S
    for camera in gone.cameras:
        camera.retire(CHANGED if camera.name in after.cameras else REMOVED, until_s - time.monotonic())
    for engine in gone.engines:
        engine.stop(time.monotonic() + LET_GO_S)
    events.start_pictures()
    for name, section in before.cameras.items():
        now = after.cameras.get(name)
        if section.snapshots and not (now and now.snapshots):
            events.snapshots.remove(name)
        if section.clips and not (now and now.clips):
            events.clips.remove(name)
        for topic in _silent(name, section, now):
            service.sinks.outlets.clear(topic)
    service.reporting.publish_about()
    service.say_status()


def _silent(name: str, before: CameraSection, after: CameraSection | None) -> Iterator[str]:
    """Topics, and what is below them, where this camera has nothing to say any more."""
    if after is None:
        yield name
        return
    uses = {use.use for use in after.models if use.on is None}
    yield from (f"{name}/{use.use}" for use in before.models if use.on is None and use.use not in uses)
    if not (after.track or any(after.all_rules())):
        yield f"{name}/counts"
    if not (after.snapshots and after.snapshots.publish and after.snapshots.retain):
        yield f"{name}/snapshot"


def _told(
    before: Settings, after: Settings, changes: Changes, added: Collection[str], removed: Collection[str]
) -> dict[str, Any]:
    new = {name for names in after.connections() if not set(names) & before.cameras.keys() for name in names}
    return {
        "restarted": {
            "cameras": sorted(changes.cameras.added | changes.cameras.changed),
            "connections": sorted(changes.connections | new),
            "models": sorted(changes.models.added | changes.models.changed),
            "sinks": sorted(added),
        },
        "removed": {
            "cameras": sorted(changes.cameras.removed),
            "models": sorted(changes.models.removed),
            "sinks": sorted(removed),
        },
    }
