"""The way of events through an agent: a watch a camera, pictures and clips, the outbox, and a courier a sink.

Made when the sinks are known; `start` before the first frame, `close` when no camera sees any more. In between sinks
and cameras may come and go.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from typing import Any, cast

from agent.clips.book import Clips
from agent.config import Settings
from agent.messages import CountsPayload
from agent.outbox.courier import Courier
from agent.outbox.outbox import Outbox
from agent.publishing import Outlets
from agent.sinks import Message, Sink
from agent.snapshots import Album
from agent.snapshots.book import Snapshots
from agent.tracking import Tracker
from agent.tracking.ids import TrackIds
from agent.uses import Use
from agent.watching.counts import Counts
from agent.watching.incidents import Incidents
from agent.watching.watch import Watch
from agent.workers import Worker, join

CLOSE_S = 5.0
"""Each part has so long to end."""


class Events:
    """All parts that events come through, of one agent."""

    def __init__(
        self,
        settings: Settings,
        sinks: Mapping[str, Sink],
        outlets: Outlets,
        *,
        on_state: Callable[[], None],
        new_outbox: Callable[[Sequence[str]], Outbox] | None = None,
    ) -> None:
        """`new_outbox`: builds the outbox for sinks of those names; default: as the configuration says."""
        self._settings, self._agent, self._outlets, self._on_state = settings, settings.agent.name, outlets, on_state
        self._new_outbox = new_outbox
        self.outbox = (new_outbox or self._configured)(list(sinks))
        self.snapshots = Snapshots(self._agent, outlets.publish, on_state)
        self.clips = Clips(self._agent, on_state)
        self._track_ids = TrackIds()
        self._track_ids.share(_tracking(settings))
        self._incidents: dict[str, Iterator[int]] = {}
        """Camera -> numbers of its incidents, whoever tells them."""
        self._counting: dict[str, Callable[[CountsPayload], None]] = {}
        """Camera -> who tells how many are there."""
        self._sinks = dict(sinks)
        self._couriers: dict[str, tuple[Courier, Worker]] = {}
        """Replaced, never changed: others look at it."""

    def start(self) -> None:
        """Open the outbox, and deliver what waits in it."""
        self.outbox.start()
        self.connect(self._sinks)

    def connect(self, sinks: Mapping[str, Sink]) -> None:
        """From now on events are for these sinks: those that have no courier yet get one."""
        self.outbox.owe(list(sinks))
        for name in sinks.keys() - self._couriers.keys():
            courier = Courier(self.outbox, name, sinks[name], self._settings.events.no_subscriber)
            worker = Worker(f"courier-{name}", courier.run)
            self._couriers = {**self._couriers, name: (courier, worker)}
            worker.start()

    def disconnect(self, names: Collection[str], deadline_s: float) -> None:
        """Bring these sinks no more: what they have not acknowledged waits for a sink of that name."""
        gone = [worker for name, (_, worker) in self._couriers.items() if name in names]
        for worker in gone:
            worker.stop.set()
        join(gone, deadline_s)
        self._couriers = {name: both for name, both in self._couriers.items() if name not in names}

    def has_room_for(self, settings: Settings) -> bool:
        """Whether events of that configuration can come this way: not where they need a disk and have none."""
        return self._new_outbox is not None or self.outbox.path is not None or not _expected(settings)

    def follow(self, settings: Settings) -> None:
        """Do as this configuration says, which has the same `events.path`."""
        self._settings = settings
        self.outbox.limit(settings.events)
        for courier, _ in self._couriers.values():
            courier.keeps_unheard = settings.events.no_subscriber == "keep"
        self._track_ids.share(_tracking(settings))

    def start_pictures(self) -> None:
        """Start what keeps pictures and clips, when every camera has its watch."""
        self.snapshots.start()
        self.clips.start()

    def watch(self, camera: str, uses: Mapping[str, Use], album: Album | None) -> Watch | None:
        """What looks after a camera's results and its sight; None for one without tracks, rules and blindness."""
        self.unwatch(camera)
        section = self._settings.cameras[camera]
        track, places = section.track, {**section.zones, **section.lines, **section.rules}
        if not (track or places or section.blindness):
            return None
        tracker: Tracker | None = None
        if track:
            tracked = uses[track.use]
            tracker = track.build(tracked.labels, cast(Any, tracked.thresholds), self._track_ids.of(camera))
        rules = [config.build(name, track.use if track else None) for name, config in places.items()]
        incidents = Incidents(
            self._agent,
            camera,
            self.outbox.boot_id,
            self.outbox.put,
            album=album,
            reel=self.clips.reel(camera, section.clips) if section.clips else None,
            numbers=self._incidents.setdefault(camera, itertools.count(1)),
        )

        def publish(counts: CountsPayload) -> None:
            if self._counting.get(camera) is publish:  # not where another watch has this one's place
                self._outlets.publish(Message(f"{camera}/counts", counts, retain=True, qos=1))

        self._counting[camera] = publish

        labels = (track.labels or ()) if track else ()
        return Watch(
            camera,
            incidents,
            Counts(self._agent, camera, rules, incidents, labels=labels) if track or rules else None,
            rules,
            tracked=track.use if track else None,
            tracker=tracker,
            on_counts=publish,
        )

    def unwatch(self, camera: str) -> None:
        """What looked after it has nothing more to say of what is there now; it ends its incidents."""
        self._counting.pop(camera, None)

    def close(self) -> None:
        """Let what was told go its way for a moment; events that do not arrive wait for the next start."""
        self.snapshots.close(CLOSE_S)
        self.clips.close(CLOSE_S)
        workers = [worker for _, worker in self._couriers.values()]
        for worker in workers:
            worker.stop.set()
        if any(account["waiting"] for account in self.outbox.counts().values()):
            join(workers, CLOSE_S)
        self.outbox.close(CLOSE_S)
        join(workers, CLOSE_S)

    def state(self) -> dict[str, dict[str, Any]]:
        """What status says."""
        return {"events": self.outbox.state(), "snapshots": self.snapshots.state(), "clips": self.clips.state()}

    def counts(self) -> dict[str, dict[str, Any]]:
        """What the metrics say."""
        couriers = {name: courier.counts() for name, (courier, _) in self._couriers.items()}
        return {
            "events": self.outbox.counts(),
            "outbox": {**self.outbox.standing(), "couriers": couriers},
            "snapshots": self.snapshots.counts(),
            "clips": self.clips.counts(),
        }

    def _configured(self, sinks: Sequence[str]) -> Outbox:
        """On disk, if there are events to be expected, or to be delivered that an earlier configuration left."""
        wanted = self._settings.events
        on_disk = _expected(self._settings) or wanted.path is not None or wanted.file(self._agent).exists()
        return Outbox(wanted, self._agent, sinks, on_state=self._on_state, in_memory=not on_disk)


def _expected(settings: Settings) -> bool:
    return any(c.zones or c.lines or c.rules or c.blindness for c in settings.cameras.values())


def _tracking(settings: Settings) -> list[str]:
    return [name for name, camera in settings.cameras.items() if camera.track]
