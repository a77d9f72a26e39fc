"""An area of the picture: what enters it, leaves it, stays, and how many are in it.

Each visit of an object is one incident, keyed by its track; `count>N` is one incident of the zone's own.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Collection, Hashable, Iterator, Mapping
from dataclasses import dataclass
from typing import Annotated, Literal

import numpy as np
from pydantic import AfterValidator, Field, TypeAdapter, ValidationError

from agent.durations import Seconds
from agent.rules import Finding, Rule, Seen
from agent.rules._held import Held
from agent.rules._places import Area, Edges, PlaceConfig, Standing, standing

_seconds: TypeAdapter[float] = TypeAdapter(Seconds)
_FORMS = ("enter", "leave", "dwell>30s", "count>3")


def _event(text: str) -> str:
    """One entry of `events:`, in the one way in which it is written in messages too."""
    kind, over, limit = (part.strip() for part in text.partition(">"))
    if kind in ("enter", "leave") and not over:
        return kind
    if kind == "count" and re.fullmatch(r"\d{1,6}", limit):
        return f"count>{int(limit)}"
    if kind == "dwell" and limit:
        try:
            if _seconds.validate_python(limit) > 0:
                return f"dwell>{limit}"
        except ValidationError:
            pass
    near = difflib.get_close_matches(kind, ["enter", "leave", "dwell", "count"], n=1, cutoff=0.5)
    meant = next((form for form in _FORMS if near and form.startswith(near[0])), None)
    raise ValueError(f"unknown event, did you mean {meant!r}?" if meant else f"expected one of {', '.join(_FORMS)}")


class Config(PlaceConfig):
    """`gate: {polygon: [[0.1, 0.5], [0.6, 0.5], [0.6, 1], [0.1, 1]], events: [enter, leave, dwell>30s, count>3]}`."""

    type: Literal["zone"] = "zone"
    polygon: Area
    events: Annotated[tuple[Annotated[str, AfterValidator(_event)], ...], Field(min_length=1)] = ("enter", "leave")
    """What is told."""
    enter_after: Seconds = 0.3
    """An object has entered when it has been inside for so long: one bad frame is no visit."""
    leave_after: Seconds = 1.0
    """An object has left when it has been outside for so long; who is back sooner never left."""

    def build(self, name: str, tracked: str | None) -> Rule:
        """See RuleConfig."""
        return Zone(self, name, tracked or "")


@dataclass(eq=False)
class _Visit:
    """One object in the zone."""

    since_ns: int
    last_ns: int
    """The last moment in which it was seen inside."""
    appeared: bool
    """Never seen outside before."""
    label: str
    outside_ns: int | None = None
    """Since when it is outside, but not long enough to have left."""
    entered: bool = False
    open: bool = False
    """A `start` was said."""
    dwelt: int = 0
    """How many of the limits it has stayed for."""

    def inside_s(self) -> float:
        return round((self.last_ns - self.since_ns) / 1e9, 3)


class Zone(Rule):
    """Knows which tracks are inside."""

    kind = "zone"

    def __init__(self, config: Config, name: str, use: str) -> None:
        self.name, self.use, self._config = name, use, config
        self._polygon = np.array(config.polygon, np.float64)
        self._size, self._edges = (1, 1), Edges(self._polygon)
        limits = [event.partition(">") for event in config.events]
        dwells = {_seconds.validate_python(limit): f"dwell>{limit}" for kind, _, limit in limits if kind == "dwell"}
        self._dwells = sorted(dwells.items())
        most = sorted({int(limit) for kind, _, limit in limits if kind == "count"})
        self._crowds = {limit: Held(0.0, config.leave_after) for limit in most}
        self._most: dict[int, int] = {}
        self._shown: int | None = None
        """The best row of the newest frame that shows an object inside."""
        self._enter, self._leave = "enter" in config.events, "leave" in config.events
        self._enter_after_ns, self._leave_after_ns = round(config.enter_after * 1e9), round(config.leave_after * 1e9)
        self._visits: dict[int, _Visit] = {}
        self._known: set[int] = set()
        self._labels: set[str] = set(config.labels or ())

    def see(self, seen: Seen) -> Iterator[Finding]:
        """What the frame tells of each object in it, then of those that are gone, then of how many are inside."""
        here = standing(seen, self._config, self._visits)
        labels, margin = seen.labels, self._config.margin
        newest: int | None = None
        self._shown = None
        for at, deep in enumerate(self._depths(here, seen.size)):
            track = here.track[at]
            visit = self._visits.get(track)
            if visit is None and deep >= 0:
                visit = _Visit(seen.at_ns, seen.at_ns, track not in self._known, "")
                self._visits[track] = visit
            if visit is not None:
                visit.label = labels[here.label[at]]
                was_in = visit.entered
                yield from self._stay(visit, track, here.row[at], seen.at_ns, inside=deep >= -margin)
                newest = here.row[at] if visit.entered > was_in else newest
                if visit.entered and visit.outside_ns is None and self._shown is None:
                    self._shown = here.row[at]
        present = {*seen.present, *here.track}
        for track in sorted(self._visits.keys() - present):
            visit = self._visits[track]
            yield from self._go(visit, track, None, "gone" if visit.outside_ns is None else "left")
        self._known = (self._known & present).union(here.track)
        yield from self._count(seen.at_ns, newest)

    def forget(self) -> None:
        """Nobody is inside."""
        self._visits.clear()
        self._known.clear()
        self._shown = None
        for crowd in self._crowds.values():
            crowd.forget()

    def counts(self) -> dict[str, int]:
        """Label -> objects inside; also labels of which there is none now."""
        inside = [visit.label for visit in self._visits.values() if visit.entered]
        self._labels.update(inside)  # an object may be called something else by now
        return {label: inside.count(label) for label in sorted(self._labels)}

    @property
    def inside(self) -> Collection[int]:
        """Tracks that have entered and not left."""
        return [track for track, visit in self._visits.items() if visit.entered]

    @property
    def showing(self) -> Mapping[Hashable, int]:
        """One of those who are too many."""
        if self._shown is None:
            return {}
        return {f"count>{limit}": self._shown for limit, crowd in self._crowds.items() if crowd.yes}

    def _depths(self, here: Standing, size: tuple[int, int]) -> list[float]:
        """How far inside each object stands, in heights of its box; negative outside."""
        if not here.row:
            return []
        if size != self._size:
            self._size, self._edges = size, Edges(self._polygon * size)
        deep: list[float] = (self._edges.depth(here.point * size) / here.height).tolist()
        return deep

    def _stay(self, visit: _Visit, track: int, row: int, at_ns: int, *, inside: bool) -> Iterator[Finding]:
        """A frame shows an object that is, or was just now, in the zone."""
        if not inside and not visit.entered:
            del self._visits[track]
        elif not inside:
            visit.outside_ns = at_ns if visit.outside_ns is None else visit.outside_ns
            if at_ns - visit.outside_ns >= self._leave_after_ns:
                yield from self._go(visit, track, row, "left")
        else:
            visit.last_ns, visit.outside_ns = at_ns, None
            if not visit.entered and at_ns - visit.since_ns >= self._enter_after_ns:
                visit.entered = True
                self._labels.add(visit.label)
                if self._enter:
                    visit.open = self._leave or bool(self._dwells)
                    data = {"event": "enter", "appeared": visit.appeared}
                    yield Finding("start" if visit.open else "moment", track, row, data=data)
            if visit.entered and visit.dwelt < len(self._dwells):
                yield from self._dwell(visit, track, row)

    def _dwell(self, visit: _Visit, track: int, row: int) -> Iterator[Finding]:
        while visit.dwelt < len(self._dwells) and visit.inside_s() > self._dwells[visit.dwelt][0]:
            data = {"event": self._dwells[visit.dwelt][1], "inside_s": visit.inside_s()}
            yield Finding("update" if visit.open else "start", track, row, data=data)
            visit.open = True
            visit.dwelt += 1

    def _go(self, visit: _Visit, track: int, row: int | None, reason: str) -> Iterator[Finding]:
        """An object is no longer in the zone."""
        del self._visits[track]
        data = {"event": "leave", "inside_s": visit.inside_s()}
        if visit.open:
            yield Finding("end", track, row, reason, data)
        elif self._leave and visit.entered:
            yield Finding("moment", track, row, reason, data)

    def _count(self, at_ns: int, newest: int | None) -> Iterator[Finding]:
        """More objects than each limit, or no longer."""
        if not self._crowds:
            return
        inside = sum(visit.entered for visit in self._visits.values())
        for limit, crowd in self._crowds.items():
            key = f"count>{limit}"
            if crowd.turns(inside > limit, at_ns):
                data = {"event": key, "count": inside}
                if crowd.yes:
                    self._most[limit] = inside
                    yield Finding("start", key, newest, data=data)
                else:
                    yield Finding("end", key, None, "over", {**data, "most": self._most[limit]})
            elif crowd.yes and inside > self._most[limit]:
                self._most[limit] = inside
                yield Finding("update", key, newest, data={"event": key, "count": inside})
