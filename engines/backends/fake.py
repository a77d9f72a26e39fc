"""An engine without a network: for tests and for trying a configuration, with delays and faults on demand."""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

from engines.backends import BackendConfig
from engines.backends.slots import InputSlots
from engines.base import Batch, Engine, Raw, TensorSpec, Ticket
from engines.card import Card, Precision
from engines.errors import BackendError, EngineLost
from engines.pixels import Geometry, Picture

_built: Counter[tuple[Path, str, tuple[Fault, ...]]] = Counter()
"""How many engines of a file, with a name and faults, this process has made."""
_let_go = threading.Event()


def let_go() -> None:
    """End every hang that there is now: who hangs goes on, and finds that nobody waits for it any more."""
    global _let_go  # those who hang now are let go, not those who come after
    before, _let_go = _let_go, threading.Event()
    before.set()


class Fault(BaseModel):
    """`{kind: hang, at: 20, batches: 1, engines: 1}`: the first engine hangs on its 20th batch, the next is whole."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    kind: Literal["hang", "fail", "nan", "slow", "lost"]
    """hang: does not come back; fail: BackendError; nan: outputs are not numbers; slow: takes `slow_ms` longer; lost:
    EngineLost, from then on whatever is asked."""
    when: Literal["open", "prepare", "submit", "result", "close"] = "result"
    """Where it hangs, fails or is lost. `open` and `close` are of no batch."""
    at: int = Field(default=1, gt=0)
    """The first batch of an engine that has the fault, from 1."""
    batches: int | None = Field(default=None, gt=0)
    """So many, then it has recovered; absent: for ever."""
    engines: int | None = Field(default=None, gt=0)
    """Only the first so many engines that a process makes of this entry; absent: all of them."""
    unless: Path | None = None
    """Not while this file exists: how others, in another process too, begin and end it."""
    slow_ms: float = Field(default=0, ge=0)

    def strikes(self, number: int, batch: int) -> bool:
        """Whether the engine of that number has it with that batch, both from 1."""
        return (
            (self.engines is None or number <= self.engines)
            and batch >= self.at
            and (self.batches is None or batch < self.at + self.batches)
            and not (self.unless and self.unless.exists())
        )


class Config(BackendConfig):
    """`{type: fake, delay_ms: 5}`: outputs have the card's shapes and depend only on the prepared pixels."""

    type: Literal["fake"] = "fake"
    delay_ms: float = Field(default=0, ge=0)
    """How long the network takes."""
    fail_every: int = Field(default=0, ge=0)
    """Every n-th batch fails; 0: none."""
    overflows: bool = False
    """Outputs are not numbers (NaN)."""
    faults: tuple[Fault, ...] = ()
    standby: Config | None = None
    """What serves instead where this one hangs or fails again."""
    name: str = "fake"
    """What status calls it."""
    outputs: dict[str, tuple[int, ...]]
    """Output name -> shape of one picture's row, e.g. `{logits: [1000]}`."""
    batch: int = Field(default=1, gt=0)
    depth: int = Field(default=2, gt=0)

    def build(self, card: Card, model: Path, precision: Precision) -> FakeEngine:
        """Raises BackendError where a fault says so."""
        key = (model, self.name, self.faults)
        _built[key] += 1
        return FakeEngine(self, card, precision, _built[key])

    @property
    def called(self) -> str:
        """See BackendConfig."""
        return self.name

    def instead(self) -> tuple[BackendConfig, ...]:
        """See BackendConfig."""
        return () if self.standby is None else (self.standby,)


class FakeEngine(Engine):
    """Row r of every output starts with the mean levels (0 to 1) of the picture's R, G and B; the rest is 0."""

    def __init__(self, config: Config, card: Card, precision: Precision, number: int = 1) -> None:
        """`number`: of those that this process makes of the model, from 1."""
        self._config, self._number = config, number
        self._prepared = self._submitted = 0
        self._hangs: list[_Hang] = []
        self.max_batch, self.depth = config.batch, config.depth
        self._slots = InputSlots(self.depth, self.max_batch, card.input.height, card.input.width)
        shape = (-1, 3, card.input.height, card.input.width)
        self.inputs = (TensorSpec("images", shape, np.dtype(np.uint8)),)
        self.outputs = tuple(TensorSpec(n, (-1, *s), np.dtype(np.float32)) for n, s in config.outputs.items())
        self.description = {"backend": config.name, "device": "none", "precision": precision, "batch": self.max_batch}
        self._strike("open", 1)

    def prepare(self, pictures: Sequence[Picture], geometries: Sequence[Geometry]) -> Batch:
        """See Engine."""
        slot = self._slots.fill(pictures, geometries)
        self._prepared += 1
        try:
            self._strike("prepare", self._prepared)
        except BackendError:
            self._slots.release(slot)
            raise
        return Batch(slot, len(pictures))

    def submit(self, batch: Batch) -> Ticket:
        """See Engine."""
        self._submitted += 1
        number = self._submitted
        try:
            self._strike("submit", number)
        except BackendError:
            self._slots.release(batch.slot)
            raise
        fails = self._config.fail_every and number % self._config.fail_every == 0
        overflows = self._config.overflows or self._fault("nan", "result", number) is not None
        means = self._slots.rows(batch.slot, batch.count).mean(axis=(2, 3), dtype=np.float32) / np.float32(255)
        raw: Raw = {}
        for spec in self.outputs:
            fill = np.nan if overflows else 0
            rows = np.full((batch.count, int(np.prod(spec.shape[1:]))), fill, np.float32)
            rows[:, :3] += means[:, : rows.shape[1]]
            raw[spec.name] = rows.reshape(batch.count, *spec.shape[1:])
        slow = self._fault("slow", "result", number)
        delay_ms = self._config.delay_ms + (slow.slow_ms if slow else 0)
        ready_ns = time.monotonic_ns() + int(delay_ms * 1e6)
        return _Ticket(self, number, batch, None if fails else raw, ready_ns, self._hang("result", number))

    def close(self) -> None:
        """See Engine. Waits for what hangs."""
        for hang in self._hangs:
            hang.wait()
        self._strike("close", max(1, self._submitted))

    def _fault(self, kind: str, when: str, batch: int) -> Fault | None:
        found = (f for f in self._config.faults if f.kind == kind and f.when == when)
        return next((fault for fault in found if fault.strikes(self._number, batch)), None)

    def _hang(self, when: str, batch: int) -> _Hang | None:
        fault = self._fault("hang", when, batch)
        if fault is None:
            return None
        self._hangs.append(_Hang(fault, self._number, batch, _let_go))
        return self._hangs[-1]

    def _strike(self, when: str, batch: int) -> None:
        """Hang, or raise."""
        if hang := self._hang(when, batch) if when != "result" else None:  # a ticket has its own
            hang.wait()
        if self._fault("lost", when, batch):
            raise EngineLost(f"{self._config.name}: the device is gone, as asked")
        if self._fault("fail", when, batch):
            raise BackendError(f"{self._config.name}: asked to fail")


@dataclass(frozen=True)
class _Hang:
    fault: Fault
    number: int
    batch: int
    let_go: threading.Event

    def over(self) -> bool:
        return self.let_go.is_set() or not self.fault.strikes(self.number, self.batch)

    def wait(self) -> None:
        while not self.over():
            self.let_go.wait(0.05)


class _Ticket:
    def __init__(
        self, engine: FakeEngine, number: int, batch: Batch, raw: Raw | None, ready_ns: int, hang: _Hang | None
    ) -> None:
        self._engine, self._number, self._batch, self._raw = engine, number, batch, raw
        self._ready_ns, self._hang = ready_ns, hang

    def done(self) -> bool:
        return time.monotonic_ns() >= self._ready_ns and (self._hang is None or self._hang.over())

    def result(self) -> Raw:
        time.sleep(max(0.0, (self._ready_ns - time.monotonic_ns()) / 1e9))
        if self._hang:
            self._hang.wait()
        self._engine._strike("result", self._number)
        if self._raw is None:
            raise BackendError("fake: this batch was asked to fail")
        return self._raw

    def release(self) -> None:
        self._engine._slots.release(self._batch.slot)
