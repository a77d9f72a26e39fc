"""What the machine can carry: what is asked of each engine, what it can do, and what each camera gets of it.

An engine is overloaded when its live cameras do not get what they ask for. That is said when it has been so for a few
seconds, and taken back when it has not been so for longer, so that an engine at its limit does not change its mind each
second. Recordings ask for as much as they get: they make no overload.
"""

from __future__ import annotations

import logging
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from agent.camera import Camera
from agent.flow import Account, Mailbox, Work
from agent.messages import rfc3339

log = logging.getLogger(__name__)

LOOK_S = 1.0
WINDOW_S = 10
"""Figures are of so long."""
SHORT, SHORT_S = 0.9, 5
"""Less than this share of what live cameras asked for, for so long: overloaded."""
ENOUGH, ENOUGH_S = 0.97, 15
"""At least this, for so long: no more."""
FEWEST = 5
"""Pictures asked for, of which a share says something."""
RETOLD_S, MOVED = 300.0, 0.25
"""So long after the last time, status is said anew if a figure has moved by more than this share of it."""
NAMED = 4
"""Cameras, in the log."""

_Pair = tuple[str, str]
"""(entry of `models:`, camera)"""


@dataclass(frozen=True)
class _Asked:
    """What has become of a camera's pictures since it began."""

    got: int
    missed: int
    """For want of time; those of engines that failed are not among them."""
    failed: int


@dataclass(frozen=True)
class _Sample:
    at_s: float
    work: Mapping[Mailbox, Work]
    asked: Mapping[tuple[_Pair, Account], _Asked]
    """Of an account: after a reload, a camera of that name may be another one."""


@dataclass
class _Entry:
    """One engine as it was told last."""

    overloaded: bool = False
    since: str = field(default_factory=lambda: rfc3339(time.time_ns()))
    told: dict[str, Any] = field(default_factory=dict)
    told_s: float = 0.0


class Load:
    """Used by the main thread. `look` often; it does something each second."""

    def __init__(
        self, cameras: Mapping[str, Camera], say: Callable[[], None], clock: Callable[[], float] = time.monotonic
    ) -> None:
        """`cameras`: those that there are at each look. `say`: told when `state` has changed."""
        self._cameras, self._say, self._clock = cameras, say, clock
        self._samples: deque[_Sample] = deque(maxlen=ENOUGH_S + 1)
        self._entries: dict[str, _Entry] = {}
        self._due_s = 0.0

    def look(self) -> None:
        """See how things are, and tell what has changed."""
        now_s = self._clock()
        if now_s < self._due_s:
            return
        self._due_s = now_s + LOOK_S
        self._samples.append(self._sample(now_s))
        engines = self._engines()
        self._entries = {name: self._entries.get(name) or _Entry() for name in engines}
        for name, entry in self._entries.items():
            changed = self._judge(name, entry)
            figures = self._figures(name, engines[name])
            if figures is None:
                continue
            old = not entry.told or (now_s >= entry.told_s + RETOLD_S and _moved(entry.told, figures))
            if changed:
                _log(name, entry, figures)
            if changed or old:
                entry.told, entry.told_s = figures, now_s
                self._say()

    def state(self) -> dict[str, dict[str, Any]]:
        """Model entry -> what status says: `overloaded` and since when, and figures of when that was said."""
        return {
            name: {"overloaded": entry.overloaded, "since": entry.since, **entry.told}
            for name, entry in self._entries.items()
        }

    def figures(self) -> dict[str, dict[str, Any]]:
        """Model entry -> figures of the last ten seconds, for metrics."""
        found: dict[str, dict[str, Any]] = {}
        for name, mailbox in self._engines().items():
            figures = self._figures(name, mailbox)
            if figures and name in self._entries:
                found[name] = {"overloaded": self._entries[name].overloaded, **figures}
        return found

    def _engines(self) -> dict[str, Mailbox]:
        """Model entry -> where its requests wait."""
        cameras = list(self._cameras.values())
        return {name: use.mailbox for camera in cameras for name, use in camera.uses_by_name.items()}

    def _sample(self, now_s: float) -> _Sample:
        asked = {}
        for camera in list(self._cameras.values()):
            for name, use in camera.uses_by_name.items():
                counts = use.account.counts()
                missed = counts["replaced"] + counts["stale"]
                asked[(name, camera.name), use.account] = _Asked(counts["inferred"], missed, counts["failed"])
        return _Sample(now_s, {mailbox: mailbox.work() for mailbox in self._engines().values()}, asked)

    def _span(self, seconds: float) -> tuple[_Sample, _Sample] | None:
        """The newest sample, and the one so long before; None if there is none."""
        if not self._samples:
            return None
        last = self._samples[-1]
        for first in reversed(self._samples):
            if last.at_s - first.at_s >= seconds - LOOK_S / 2:
                return first, last
        return None

    def _became(self, name: str, first: _Sample, last: _Sample) -> Iterator[tuple[Camera, _Asked]]:
        """Each camera of an entry that was there all the time, and what became of its pictures."""
        for (pair, account), after in last.asked.items():
            before, camera = first.asked.get((pair, account)), self._cameras.get(pair[1])
            if pair[0] == name and before is not None and camera is not None:
                yield (
                    camera,
                    _Asked(after.got - before.got, after.missed - before.missed, after.failed - before.failed),
                )

    def _met(self, name: str, seconds: float) -> float | None:
        """Share of what live cameras asked for, for so long; None: too little was asked for to say."""
        span = self._span(seconds)
        if span is None:
            return None
        live = [asked for camera, asked in self._became(name, *span) if not camera.lossless]
        got, missed = sum(asked.got for asked in live), sum(asked.missed for asked in live)
        return got / (got + missed) if got + missed >= FEWEST else None

    def _judge(self, name: str, entry: _Entry) -> bool:
        """Whether it has changed between being overloaded and not."""
        met = self._met(name, ENOUGH_S if entry.overloaded else SHORT_S)
        changed = met is not None and (met >= ENOUGH if entry.overloaded else met < SHORT)
        if changed:
            entry.overloaded, entry.since = not entry.overloaded, rfc3339(time.time_ns())
        return changed

    def _figures(self, name: str, mailbox: Mailbox) -> dict[str, Any] | None:
        """Rates of the last ten seconds, or as long as there is something known for; None: not yet."""
        span = self._span(WINDOW_S) or self._span(SHORT_S)
        if span is None:
            return None
        first, last = span
        before, after = first.work.get(mailbox), last.work.get(mailbox)
        if before is None or after is None:
            return None
        took_s = last.at_s - first.at_s
        busy_s = max(0.0, took_s - (after.idle_ns - before.idle_ns) / 1e9)
        taken = after.taken - before.taken
        met = self._met(name, took_s)
        cameras = {}
        for camera, asked in self._became(name, first, last):
            asks = asked.got + asked.missed + asked.failed
            cameras[camera.name] = {"asks": round(asks / took_s, 1), "gets": round(asked.got / took_s, 1)}
        return {
            "can": round(taken / busy_s, 1) if taken and busy_s else None,
            "asked": round((after.asked - before.asked) / took_s, 1),
            "busy": round(busy_s / took_s, 2),
            "met": None if met is None else round(met, 2),
            "cameras": cameras,
        }


def _moved(told: dict[str, Any], figures: dict[str, Any]) -> bool:
    """Whether a figure is no more what was told, by a margin."""
    pairs = [(told[key], figures[key]) for key in ("can", "asked", "busy", "met")]
    return any(a != b and (a is None or b is None or abs(a - b) > MOVED * max(a, b)) for a, b in pairs)


def _log(name: str, entry: _Entry, figures: dict[str, Any]) -> None:
    """One line each way."""
    rates = f"{figures['asked']:g} runs/s are asked for, {figures['can'] or 0:g} can be done"
    if entry.overloaded:
        worst = sorted(figures["cameras"].items(), key=lambda item: item[1]["gets"] / (item[1]["asks"] or 1))
        cameras = [f"{camera} gets {rate['gets']:g} of {rate['asks']:g}" for camera, rate in worst[:NAMED]]
        cameras += [f"{len(worst) - NAMED} more cameras"] if len(worst) > NAMED else []
        log.warning("models.%s: overloaded: %s; pictures/s: %s", name, rates, ", ".join(cameras))
    else:
        log.info("models.%s: keeps up again: %s", name, rates)
