"""What goes wrong during a soak: one fault after the other on each of two lanes, at times that a seed decides."""

from __future__ import annotations

import random
import signal
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import psutil

from tests.support.soak.heard import Heard
from tests.support.soak.site import CAMERAS, Site

GIVEN_UP_S = 90.0
"""So long is waited for a recovery."""
OVERLAP = 0.25
"""Share of the faults that do not wait until the one before is over."""


@dataclass(frozen=True)
class Kind:
    """One kind of fault."""

    name: str
    lasts_s: tuple[float, float]
    do: Callable[[Site, str], object]
    undo: Callable[[Site, str], object]


@dataclass
class Fault:
    """One fault, as it went."""

    kind: str
    where: str
    """The camera, `broker` or `agent`."""
    began_s: float
    """Unix time."""
    undone_s: float = 0.0
    found_s: float | None = None
    """How long until the agent said so."""
    back_s: float | None = None
    """From being undone to the first result of a picture taken since; None: not within `GIVEN_UP_S`."""
    alone: bool = True
    """The other lane was in order from beginning to end, so that the times are this fault's own."""
    over: bool = False
    """It was followed to its end, or given up, not cut off by the end of the soak."""
    idle: float = 0.0
    """Share of the machine's processors that nobody used from its beginning until all was well again."""


def _nothing(_site: Site, _where: str) -> None: ...


def _freeze(site: Site, where: str) -> None:
    site.cameras[where].freeze()


def _thaw(site: Site, where: str) -> None:
    site.cameras[where].thaw()


def _reload(site: Site, _where: str) -> None:
    site.agent.send(signal.SIGHUP)


def _reload_changed(site: Site, _where: str) -> None:
    site.change_config()
    site.agent.send(signal.SIGHUP)


def _reload_wrong(site: Site, _where: str) -> None:
    site.write_config(wrong=True)
    site.agent.send(signal.SIGHUP)


CAMERA_KINDS = (
    Kind("camera killed", (2, 15), lambda s, w: s.cameras[w].kill(), lambda s, w: s.cameras[w].restart()),
    Kind("camera stalled", (4, 15), lambda s, w: s.cameras[w].stall(), lambda s, w: s.cameras[w].flow()),
    Kind("camera frozen", (6, 15), _freeze, _thaw),
    Kind("burst", (1.5, 2.5), _freeze, _thaw),
)
OTHER_KINDS = (
    Kind("broker killed", (1, 12), lambda s, _: s.broker.kill(), lambda s, _: s.broker.restart()),
    Kind("broker stopped", (1, 12), lambda s, _: s.broker.stop(), lambda s, _: s.broker.restart()),
    Kind("broker frozen", (3, 12), lambda s, _: s.broker.freeze(), lambda s, _: s.broker.thaw()),
    Kind("reload", (0, 0), _reload, _nothing),
    Kind("reload changed", (0, 0), _reload_changed, _nothing),
    Kind("reload refused", (2, 2), _reload_wrong, lambda s, _: s.write_config()),
)


def _processors() -> tuple[float, float]:
    """Seconds that all processors have stood idle, and that there were; of all, for whatever reason the others work."""
    times = psutil.cpu_times()
    return times.idle, sum(times) - getattr(times, "guest", 0) - getattr(times, "guest_nice", 0)


class Mischief:
    """Two lanes of faults: cameras, and the rest. `tick` often, from one thread."""

    def __init__(self, site: Site, heard: Heard, seed: int, say: Callable[[str], None]) -> None:
        self.faults: list[Fault] = []
        self._site, self._heard, self._say = site, heard, say
        self._open: list[Fault] = []
        # Each has its own numbers, so that what one waits for does not change what the other does.
        self._lanes = [
            self._lane(random.Random(seed), CAMERA_KINDS, (3, 15)),
            self._lane(random.Random(seed + 1), OTHER_KINDS, (8, 25)),
        ]
        self._due_s = [next(lane) + time.monotonic() for lane in self._lanes]
        self._undo: dict[int, Callable[[], object]] = {}
        self._used: dict[int, tuple[float, float]] = {}
        """Of open faults: `_processors` when they began."""

    def tick(self) -> None:
        """Do what is due."""
        for index, lane in enumerate(self._lanes):
            if time.monotonic() >= self._due_s[index]:
                self._due_s[index] = time.monotonic() + next(lane)

    def end(self) -> None:
        """Undo what is done."""
        for undo in list(self._undo.values()):
            undo()
        self._undo.clear()

    def _lane(self, chance: random.Random, kinds: tuple[Kind, ...], pause_s: tuple[float, float]) -> Iterator[float]:
        """Yields how long to wait before it is asked again."""
        while True:
            yield chance.uniform(*pause_s)
            overlaps = chance.random() < OVERLAP
            while self._open and not overlaps:
                yield 0.2
            kind = chance.choice(kinds)
            where = chance.choice(CAMERAS) if kinds is CAMERA_KINDS else kind.name.split()[0]
            where = "agent" if where == "reload" else where
            fault = Fault(kind.name, where, time.time())
            self._begin(fault, kind)
            yield chance.uniform(*kind.lasts_s)
            self._undo.pop(id(fault))()
            fault.undone_s = time.time()
            while not (back_s := self._back_s(fault)) and time.time() - fault.undone_s < GIVEN_UP_S:
                yield 0.05
            fault.back_s = back_s - fault.undone_s if back_s else None
            fault.found_s = self._found_s(fault)
            self._end(fault)

    def _begin(self, fault: Fault, kind: Kind) -> None:
        for other in self._open:
            other.alone = fault.alone = False
        self._open.append(fault)
        self.faults.append(fault)
        self._used[id(fault)] = _processors()
        self._undo[id(fault)] = lambda: kind.undo(self._site, fault.where)
        self._say(f"{kind.name}: {fault.where}")
        kind.do(self._site, fault.where)

    def _end(self, fault: Fault) -> None:
        self._open.remove(fault)
        (idle_s, all_s), (idle_before_s, all_before_s) = _processors(), self._used.pop(id(fault))
        fault.idle = (idle_s - idle_before_s) / max(all_s - all_before_s, 1e-9)
        fault.over = True
        found = f"found after {fault.found_s:.1f} s, " if fault.found_s is not None else ""
        back = f"back after {fault.back_s:.1f} s" if fault.back_s is not None else "NOT BACK"
        self._say(f"{fault.kind}: {fault.where}: {found}{back}, {fault.idle:.0%} idle")

    def _back_s(self, fault: Fault) -> float | None:
        """When all was well again, by the wall clock; None if it is not yet."""
        newest = self._heard.newest_s()
        come = [camera for camera in CAMERAS if newest.get(camera, 0) > fault.undone_s]
        if fault.where in CAMERAS:
            back = fault.where in come
        elif fault.where == "broker":
            back = bool(come)
        else:
            # A camera that is away for itself cannot come back with the agent.
            away = {other.where for other in self._open}
            back = self._heard.notes.reload_s >= fault.began_s - 0.001 and {*CAMERAS} <= away | {*come}
        return time.time() if back else None

    def _found_s(self, fault: Fault) -> float | None:
        if fault.where in CAMERAS and fault.kind != "burst":
            return self._heard.lost_after_s(fault.where, fault.began_s)
        return self._heard.notes.reload_s - fault.began_s if fault.where == "agent" else None
