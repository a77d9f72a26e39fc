"""The way of events through an agent: a watch a camera, pictures and clips, the outbox, and a courier a sink.

Made when the sinks are known; `start` before the first frame, `close` when no camera sees any more.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
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
        self.outbox = (new_outbox or self._configured)(list(sinks))
        self.snapshots = Snapshots(self._agent, outlets.publish, on_state)
        self.clips = Clips(self._agent, on_state)
        unheard = settings.events.no_subscriber
        self._couriers = {name: Courier(self.outbox, name, sink, unheard) for name, sink in sinks.items()}
        self._workers = [Worker(f"courier-{name}", courier.run) for name, courier in self._couriers.items()]

    def start(self) -> None:
        """Open the outbox, and deliver what waits in it."""
        self.outbox.start()
        for worker in self._workers:
            worker.start()

    def start_pictures(self) -> None:
        """Start what keeps pictures and clips, when every camera has its watch."""
        self.snapshots.start()
        self.clips.start()

    def watch(self, camera: str, uses: Mapping[str, Use], album: Album | None) -> Watch | None:
        """What looks after a camera's results and its sight; None for one without tracks, rules and blindness."""
        section = self._settings.cameras[camera]
        track, places = section.track, {**section.zones, **section.lines, **section.rules}
        if not (track or places or section.blindness):
            return None
        tracker: Tracker | None = None
        if track:
            tracked = uses[track.use]
            tracking = [name for name, other in self._settings.cameras.items() if other.track]
            tracker = track.build(
                tracked.labels, cast(Any, tracked.thresholds), camera=tracking.index(camera), cameras=len(tracking)
            )
        rules = [config.build(name, track.use if track else None) for name, config in places.items()]
        incidents = Incidents(
            self._agent,
            camera,
            self.outbox.boot_id,
            self.outbox.put,
            album=album,
            reel=self.clips.reel(camera, section.clips) if section.clips else None,
        )

        def publish(counts: CountsPayload) -> None:
            self._outlets.publish(Message(f"{camera}/counts", counts, retain=True, qos=1))

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

    def close(self) -> None:
        """Let what was told go its way for a moment; events that do not arrive wait for the next start."""
        self.snapshots.close(CLOSE_S)
        self.clips.close(CLOSE_S)
        for worker in self._workers:
            worker.stop.set()
        if any(account["waiting"] for account in self.outbox.counts().values()):
            join(self._workers, CLOSE_S)
        self.outbox.close(CLOSE_S)
        join(self._workers, CLOSE_S)

    def state(self) -> dict[str, dict[str, Any]]:
        """What status says."""
        return {"events": self.outbox.state(), "snapshots": self.snapshots.state(), "clips": self.clips.state()}

    def counts(self) -> dict[str, dict[str, Any]]:
        """What the metrics say."""
        couriers = {name: courier.counts() for name, courier in self._couriers.items()}
        return {
            "events": self.outbox.counts(),
            "outbox": {**self.outbox.standing(), "couriers": couriers},
            "snapshots": self.snapshots.counts(),
            "clips": self.clips.counts(),
        }

    def _configured(self, sinks: Sequence[str]) -> Outbox:
        """On disk, if there are events to be expected, or to be delivered that an earlier configuration left."""
        wanted, cameras = self._settings.events, self._settings.cameras.values()
        expected = any(camera.zones or camera.lines or camera.rules or camera.blindness for camera in cameras)
        on_disk = expected or wanted.path is not None or wanted.file(self._agent).exists()
        return Outbox(wanted, self._agent, sinks, on_state=self._on_state, in_memory=not on_disk)
