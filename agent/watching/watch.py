"""What one camera's results mean: who is who, what the rules make of it, which incidents are open, how many are there.

Called with the results of the camera's uses in capture order, by one thread at a time. Nothing in here waits: events
go to the outbox, which writes them later, and pictures to an album, which encodes them later.
"""

from __future__ import annotations

import logging
import threading
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence

from agent.flow import Request
from agent.frame import Frame, Timestamp
from agent.messages import CountsPayload, Phase
from agent.results import attributes_of
from agent.rules import Finding, Rule, Seen
from agent.sight.sight import Blindness
from agent.tracking import Tracked, Tracker
from agent.uses import Use
from agent.watching.counts import Counts
from agent.watching.incidents import OF_NO_USE, Attributes, Incidents, Shown
from engines.results import Detections, Result

log = logging.getLogger(__name__)


class _Sight(Rule):
    """Whose incidents blindness are: no rule of the configuration, and about no use."""

    name, kind, use = "", "blind", OF_NO_USE

    def see(self, seen: Seen) -> Iterable[Finding]:  # noqa: ARG002 - its findings come from elsewhere
        """Nothing."""
        return ()

    def forget(self) -> None:
        """Nothing is remembered."""


SIGHT = _Sight()


class Watch:
    """One camera's tracker, rules, incidents and counts."""

    def __init__(
        self,
        camera: str,
        incidents: Incidents,
        counts: Counts | None,
        rules: Sequence[Rule],
        *,
        tracked: str | None = None,
        tracker: Tracker | None = None,
        on_counts: Callable[[CountsPayload], None] = lambda _: None,
    ) -> None:
        """`counts`: None where there is nothing to count.

        `tracked`: the use whose objects the tracker follows. `on_counts` is told how many are there, on change.
        """
        self._camera, self._incidents, self._counts = camera, incidents, counts
        self._tracked, self._tracker, self._on_counts = tracked, tracker, on_counts
        self._rules: dict[str, list[Rule]] = defaultdict(list)
        for rule in rules:
            self._rules[rule.use].append(rule)
        self._faulty: set[str] = set()
        self._lock = threading.Lock()
        self._newest: Timestamp | None = None
        self._closed = False

    def see(self, request: Request, use: Use, result: Result, attributes: Attributes = ()) -> Tracked | None:
        """The next result of a use; with its tracks, if its objects are followed."""
        with self._lock:
            if self._closed:
                return None
            frame = request.frame
            captured = frame.captured
            if not (self._tracker or self._rules or self._incidents.open_rules()):
                return None
            tracked = None
            if use.name == self._tracked and self._tracker and isinstance(result, Detections):
                if use.thresholds is not None:
                    self._tracker.report_from(use.thresholds)  # a command may have changed them
                tracked = self._tracker.update(result, captured.monotonic_ns - request.paused_ns)
            seen = Seen(
                use=use.name,
                at_ns=captured.monotonic_ns,
                size=frame.image.size,
                labels=use.labels,
                result=tracked.found if tracked else result,
                track=tracked.track if tracked else None,
                present=tracked.present if tracked else (),
            )
            if tracked:
                attributes = attributes_of(tracked, attributes)
            self._look(Shown(frame, request.model, seen, attributes))
            self._newest = captured
            if self._counts:
                self._say(self._counts.take(_objects(seen), captured))
            return tracked

    def blind(self, change: Blindness, frame: Frame) -> None:
        """The camera does not see any more, or sees again, as that frame shows."""
        with self._lock:
            if not self._closed:
                phase: Phase = "end" if change.ended else "start"
                seen = Seen(SIGHT.use, frame.captured.monotonic_ns, frame.image.size, (), Detections.empty())
                found = Finding(phase, SIGHT.name, None, change.ended, {"reason": change.reason}, change.since_ns)
                shown = Shown(frame, "", seen)
                self._incidents.look(shown)
                self._incidents.found(SIGHT, found, shown)

    def lost(self, reason: str = "camera_lost") -> None:
        """No more frames for now: every incident ends, tracker and rules begin anew with the next frame."""
        with self._lock:
            self._end(reason)

    def close(self, reason: str = "agent_stopped") -> None:
        """The agent stops: every incident ends, and nothing is looked at any more."""
        with self._lock:
            self._closed = True
            self._end(reason)

    def _look(self, shown: Shown) -> None:
        self._incidents.look(shown)
        for rule in self._rules[shown.seen.use]:
            if (findings := self._findings(rule, shown.seen)) is None:
                continue
            for track in rule.inside:
                self._incidents.entered(rule.name, track)
            for finding in findings:
                self._incidents.found(rule, finding, shown)
            told = {finding.key for finding in findings}
            for key, row in rule.showing.items():
                if key not in told:
                    self._incidents.shows(rule, key, row, shown)
        self._incidents.let_go(shown.seen)

    def _findings(self, rule: Rule, seen: Seen) -> list[Finding] | None:
        """None: a rule with a fault of ours (or of somebody's) must not take the engine's thread along."""
        try:
            return list(rule.see(seen))
        except Exception:
            if rule.name not in self._faulty:
                self._faulty.add(rule.name)
                log.exception("%s: rule %s: a fault of the program; the frame is passed over", self._camera, rule.name)
            return None

    def _end(self, reason: str) -> None:
        self._incidents.end_all(reason)
        for rules in self._rules.values():
            for rule in rules:
                rule.forget()
        if self._tracker:
            self._tracker.forget()
        if self._newest and self._counts:
            self._say(self._counts.forget(self._newest))

    def _say(self, counts: CountsPayload | None) -> None:
        if counts:
            self._on_counts(counts)


def _objects(seen: Seen) -> list[str] | None:
    """Labels of the objects in the frame; None where none are followed."""
    if seen.track is None:
        return None
    return [seen.labels[label] for label in seen.result.label[seen.track > 0].tolist()]
