"""What becomes of a rule's findings: incidents with a life of their own, told as events.

An incident has one id from its `start` over its `update`s to its `end`, and exactly one `end`, whatever happens: its
rule ends it, or the camera is lost, or the agent stops. (If the agent is killed, the outbox ends it at the next start.)
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Hashable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from agent.clips import Reel
from agent.frame import Frame
from agent.messages import EventPayload, Phase, Size, rfc3339
from agent.rules import Finding, Rule, Seen
from agent.snapshots import Album
from agent.watching.trails import Trail
from engines.results import Detections

Attributes = Sequence[dict[str, Any]]
OF_NO_USE = ""
"""What rules look at that are about the camera itself: its newest frame, whichever use saw it."""


@dataclass(frozen=True, eq=False)
class Shown:
    """One frame as a use saw it."""

    frame: Frame
    model: str
    seen: Seen
    attributes: Attributes = ()
    """What cascades say of each row; empty where there are none."""

    def facts(self) -> dict[str, Any]:
        """What an event says of the frame."""
        captured, (width, height) = self.frame.captured, self.seen.size
        return {
            "use": self.seen.use if self.seen.use != OF_NO_USE else None,
            "model": self.model or None,
            "seq": self.frame.seq,
            "captured_at": rfc3339(captured.wall_ns),
            "clock": captured.clock,
            "frame": Size.model_construct(width=width, height=height),
        }


@dataclass(eq=False)
class Incident:
    """One that is open. It holds no frame: their memory is the decoder's."""

    id: str
    rule: Rule
    trail: Trail
    started_ns: int
    """Wall time of the frame that began it."""
    attributes: dict[str, Any] = field(default_factory=dict)
    snapshot: str | None = None
    clip: str | None = None


class Incidents:
    """The open incidents of one camera; called by one thread at a time, in capture order."""

    def __init__(
        self,
        agent: str,
        camera: str,
        boot_id: str,
        put: Callable[[EventPayload], object],
        *,
        album: Album | None = None,
        reel: Reel | None = None,
        numbers: Iterator[int] | None = None,
    ) -> None:
        """`numbers`: of incidents; goes on where this camera's rules are replaced by others."""
        self._agent, self._camera, self._put = agent, camera, put
        self._album, self._reel = album, reel
        self._prefix = f"{boot_id[:8]}-{camera}"
        self._numbers = numbers or itertools.count(1)
        self._trails: dict[int, Trail] = {}
        """Of every object that is followed now."""
        self._open: dict[tuple[str, Hashable], Incident] = {}
        self._of_track: dict[int, list[Incident]] = {}
        """The open incidents of each object."""
        self._facts: dict[str, dict[str, Any]] = {}
        """Use -> what events say of its newest frame."""
        self._at_ns = 0
        """When the newest frame was taken, the camera's own time."""

    def look(self, shown: Shown) -> None:
        """Take note of a frame and of every object that is followed, before the rules say what they found in it."""
        seen, facts = shown.seen, shown.facts()
        self._facts[seen.use] = facts
        if OF_NO_USE in self._facts:
            self._facts[OF_NO_USE] = {**facts, "use": None, "model": None}
        self._at_ns = seen.at_ns
        if seen.track is None or not isinstance(seen.result, Detections):
            return
        wall_ns, diagonal = shown.frame.captured.wall_ns, math.hypot(*seen.size)
        columns = (seen.track, seen.result.label, seen.result.score, seen.result.xyxy)
        for row, (track, label, score, box) in enumerate(zip(*(c.tolist() for c in columns), strict=True)):
            if not track:
                continue
            trail = self._trails.get(track)
            if trail is None:
                trail = self._trails[track] = Trail(track, wall_ns)
            trail.saw(wall_ns, seen.labels[label], score, tuple(box), diagonal)
            for incident in self._of_track.get(track, ()):
                self._picture(incident, row, shown)

    def let_go(self, seen: Seen) -> None:
        """After the rules: nothing more will be said of objects that are gone and have no open incident."""
        if seen.track is None:
            return
        for track in self._trails.keys() - set(seen.present) - set(seen.track.tolist()):
            if track not in self._of_track:
                del self._trails[track]

    def found(self, rule: Rule, finding: Finding, shown: Shown) -> None:
        """What a rule found in a frame that was looked at: an event of it, unless it makes no sense.

        A second `start` of what is open is an update; an `update` or `end` of what is not open is nothing.
        """
        key = (rule.name, finding.key)
        incident, phase = self._open.get(key), finding.phase
        if incident is None and phase in ("update", "end"):
            return
        begins = incident is None or phase == "moment"
        if incident is None or begins:
            incident = self._begin(rule, finding, shown)
        elif phase == "start":
            phase = "update"
        if finding.row is not None:
            self._row(incident, finding.row, shown, begins=begins)
        if phase == "start":
            self._open[key] = incident
            if incident.trail.track is not None:
                self._of_track.setdefault(incident.trail.track, []).append(incident)
        elif phase == "end":
            self._close(key, incident)
        elif phase == "moment":
            self._shut(incident)
        self._tell(incident, phase, finding.reason, finding.data)

    def shows(self, rule: Rule, key: Hashable, row: int, shown: Shown) -> None:
        """A frame shows what is open; objects that are followed have been looked at already."""
        if (incident := self._open.get((rule.name, key))) and incident.trail.track is None:
            self._row(incident, row, shown, begins=False)

    def entered(self, zone: str, track: int) -> None:
        """An object came into a zone."""
        if trail := self._trails.get(track):
            trail.entered(zone)

    def end_all(self, reason: str) -> None:
        """The camera is lost, or the agent stops: every open incident ends, and no object is known any more."""
        for key, incident in list(self._open.items()):
            self._close(key, incident)
            self._tell(incident, "end", reason, {})
        self._trails.clear()

    def open_rules(self) -> set[str]:
        """Names of the rules with an open incident."""
        return {rule for rule, _ in self._open}

    def _begin(self, rule: Rule, finding: Finding, shown: Shown) -> Incident:
        number = next(self._numbers)
        wall_ns, at_ns = shown.frame.captured.wall_ns, shown.seen.at_ns
        object_key = finding.key if shown.seen.track is not None and isinstance(finding.key, int) else 0
        since_ns = at_ns if finding.since_ns is None else finding.since_ns
        trail = self._trails.get(object_key) or Trail(None, wall_ns - (at_ns - since_ns))
        incident = Incident(f"{self._prefix}-{number}", rule, trail, wall_ns)
        if self._reel:
            incident.clip = self._reel.started(incident.id, shown.seen.at_ns)
        return incident

    def _row(self, incident: Incident, row: int, shown: Shown, *, begins: bool) -> None:
        """The row of the frame that a finding is about; of objects with an open incident it is known already."""
        seen, trail = shown.seen, incident.trail
        if trail.track is None:
            box = tuple(seen.result.xyxy[row].tolist()) if isinstance(seen.result, Detections) else ()
            label, score = seen.labels[int(seen.result.label[row])], float(seen.result.score[row])
            trail.saw(shown.frame.captured.wall_ns, label, score, box, math.hypot(*seen.size))
        if trail.track is None or begins:
            self._picture(incident, row, shown)

    def _picture(self, incident: Incident, row: int, shown: Shown) -> None:
        if shown.attributes and shown.attributes[row]:
            incident.attributes = shown.attributes[row]
        if self._album:
            result, labels = shown.seen.result, shown.seen.labels
            name = self._album.offer(incident.id, shown.frame, result, row, float(result.score[row]), labels)
            incident.snapshot = name or incident.snapshot

    def _close(self, key: tuple[str, Hashable], incident: Incident) -> None:
        del self._open[key]
        track = incident.trail.track
        if track is not None and (others := self._of_track.get(track)):
            others.remove(incident)
            if not others:
                del self._of_track[track]
        self._shut(incident)

    def _shut(self, incident: Incident) -> None:
        """No more pictures of it."""
        if self._album:
            incident.snapshot = self._album.ended(incident.id) or incident.snapshot
        if self._reel:
            incident.clip = self._reel.ended(incident.id, self._at_ns) or incident.clip

    def _tell(self, incident: Incident, phase: Phase, reason: str | None, data: dict[str, Any]) -> None:
        trail = incident.trail
        if incident.attributes:
            data = {**data, "attributes": incident.attributes}
        said: dict[str, Any] = {"reason": reason, "snapshot": incident.snapshot, "clip": incident.clip}
        if trail.label:
            said |= {"label": trail.label, "score": round(trail.score, 4)}
        if trail.box:
            said["box"] = [round(edge, 1) for edge in trail.box]
        if trail.track is not None:
            said |= {"track": trail.track, "zones": list(trail.zones), "path": trail.path.points()}
        payload = EventPayload.model_construct(
            schema_="sightwire.event/1",
            agent=self._agent,
            boot_id="",
            event_seq=0,  # the outbox fills both
            id=incident.id,
            kind=incident.rule.kind,
            phase=phase,
            rule=incident.rule.name or None,
            camera=self._camera,
            started_at=rfc3339(incident.started_ns),
            first_seen=rfc3339(trail.first_ns),
            last_seen=rfc3339(trail.last_ns or trail.first_ns),
            **self._facts[incident.rule.use],
            **{key: value for key, value in said.items() if value},
            data=data,
        )
        self._put(payload)
