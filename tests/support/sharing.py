"""A mailbox in simulated time: cameras that offer at their rates, and an engine of a fixed speed."""

from __future__ import annotations

from dataclasses import dataclass, replace

from agent.flow import Mailbox, Request, Share, Work
from agent.frame import Frame, Timestamp
from agent.sources.synthetic import picture

IMAGE = picture(0, 320, 64, "gray")
STAMP = Timestamp(0, 0, "receive", 0)
DEPTH = 6
"""Requests of a recording that its camera lets wait."""


@dataclass
class Asker:
    """A camera."""

    rate: float
    """Pictures a second."""
    weight: float = 1.0
    regions: int = 1
    floor: float = 0.0
    lossless: bool = False

    @property
    def charge(self) -> float:
        """Of one picture, in virtual time."""
        return self.regions / self.weight


class Shared:
    """Cameras and the engine that they share; a turn is a batch through the engine, then what was offered meanwhile."""

    def __init__(self, cameras: list[Asker], speed: float, batch: int = 1) -> None:
        """`speed`: regions a second."""
        self.cameras, self.speed, self.batch = cameras, speed, batch
        self.now_s = 0.0
        self.idle_ns = 0
        self.mailbox = _Timed(self)
        self.taken = [0] * len(cameras)
        self.lost = [0] * len(cameras)
        """Pictures that newer ones replaced."""
        self.longest = [0] * len(cameras)
        """How many turns a slot waited at most."""
        self.had_something = False
        """Whether anything waited at the last turn."""
        # Each camera with a phase of its own.
        self._next_s = [(index * 0.618) % 1 / one.rate for index, one in enumerate(cameras)]
        self._waits = [0] * len(cameras)
        self._waiting = [0] * len(cameras)

    def run(self, until_s: float) -> Shared:
        """Take turns until then."""
        while self.now_s < until_s:
            self.turn()
        return self

    def rates(self) -> list[float]:
        """Pictures a second that each got."""
        return [n / self.now_s for n in self.taken]

    def turn(self) -> bool:
        """Offer what is due, take, and let the engine's time pass; False if there was nothing to take."""
        for index, due_s in enumerate(self._next_s):
            if due_s <= self.now_s:
                self._offer(index, self.cameras[index])
        self.had_something = any(self._waiting)
        batch = self.mailbox.take(self.batch, 0)
        if not batch:
            self.idle_ns += round((min(self._next_s) - self.now_s) * 1e9)
            self.now_s = min(self._next_s)
            return False
        for index, waiting in enumerate(self._waiting):
            self._waits[index] += waiting > 0
        for request in batch:
            index = int(request.key[0])
            self.longest[index] = max(self.longest[index], self._waits[index] - 1)
            self._waits[index] = 0
            self.taken[index] += 1
            self._waiting[index] -= 1
        self.now_s += sum(len(request.regions) for request in batch) / self.speed
        return True

    def _offer(self, index: int, one: Asker) -> None:
        """Every picture of a recording there is room for, the newest that is due of a live camera."""
        room = DEPTH - self._waiting[index] if one.lossless else 1
        key, share = (str(index), "use"), Share(one.weight, one.floor)
        while room and self._next_s[index] <= self.now_s:
            self._next_s[index] += 1 / one.rate
            self.lost[index] += not one.lossless and (self._waiting[index] > 0 or self._next_s[index] <= self.now_s)
            if not one.lossless and self._next_s[index] <= self.now_s:
                continue  # replaced by the next
            frame = Frame(key[0], 0, STAMP, IMAGE)
            request = Request(key, frame, (None,) * one.regions, one.lossless, 10**9, lambda *_: None, share)
            self.mailbox.offer(request)
            self._waiting[index] = self._waiting[index] + 1 if one.lossless else 1
            room -= 1


class _Timed(Mailbox):
    """Nobody waits in simulated time: how long there was nothing to take is known outside."""

    def __init__(self, shared: Shared) -> None:
        super().__init__(clock=lambda: round(shared.now_s * 1e9))
        self._shared = shared

    def work(self) -> Work:
        return replace(super().work(), idle_ns=self._shared.idle_ns)


def fair(cameras: list[Asker], speed: float) -> list[float]:
    """Pictures a second, weighted max-min fair: the larger of floor and weight's part, at most what is asked for."""
    low, high = 0.0, speed * 100

    def given(level: float) -> list[float]:
        return [min(one.rate, max(one.floor, level / one.charge)) for one in cameras]

    for _ in range(60):
        level = (low + high) / 2
        too_much = sum(x * one.regions for x, one in zip(given(level), cameras, strict=True)) > speed
        low, high = (low, level) if too_much else (level, high)
    return given(low)
