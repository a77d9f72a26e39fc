"""An engine without a network: for tests and for trying a configuration, with delays and faults on demand."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import numpy as np
from pydantic import Field

from engines.backends import BackendConfig
from engines.backends.slots import InputSlots
from engines.base import Batch, Engine, Raw, TensorSpec, Ticket
from engines.card import Card, Precision
from engines.errors import BackendError
from engines.pixels import Geometry, Picture


class Config(BackendConfig):
    """`{type: fake, delay_ms: 5}`: outputs have the card's shapes and depend only on the prepared pixels."""

    type: Literal["fake"] = "fake"
    delay_ms: float = Field(default=0, ge=0)
    """How long the network takes."""
    fail_every: int = Field(default=0, ge=0)
    """Every n-th batch fails; 0: none."""
    overflows: bool = False
    """Outputs are not numbers (NaN)."""
    outputs: dict[str, tuple[int, ...]]
    """Output name -> shape of one picture's row, e.g. `{logits: [1000]}`."""
    batch: int = Field(default=1, gt=0)
    depth: int = Field(default=2, gt=0)

    def build(self, card: Card, model: Path, precision: Precision) -> FakeEngine:  # noqa: ARG002  # no file is needed
        """Never fails."""
        return FakeEngine(self, card, precision)


class FakeEngine(Engine):
    """Row r of every output starts with the mean levels (0 to 1) of the picture's R, G and B; the rest is 0."""

    def __init__(self, config: Config, card: Card, precision: Precision) -> None:
        self._config = config
        self._submitted = 0
        self.max_batch, self.depth = config.batch, config.depth
        self._slots = InputSlots(self.depth, self.max_batch, card.input.height, card.input.width)
        shape = (-1, 3, card.input.height, card.input.width)
        self.inputs = (TensorSpec("images", shape, np.dtype(np.uint8)),)
        self.outputs = tuple(TensorSpec(n, (-1, *s), np.dtype(np.float32)) for n, s in config.outputs.items())
        self.description = {"backend": "fake", "device": "none", "precision": precision, "batch": self.max_batch}

    def prepare(self, pictures: Sequence[Picture], geometries: Sequence[Geometry]) -> Batch:
        """See Engine."""
        return Batch(self._slots.fill(pictures, geometries), len(pictures))

    def submit(self, batch: Batch) -> Ticket:
        """See Engine."""
        self._submitted += 1
        fails = self._config.fail_every and self._submitted % self._config.fail_every == 0
        means = self._slots.rows(batch.slot, batch.count).mean(axis=(2, 3), dtype=np.float32) / np.float32(255)
        raw: Raw = {}
        for spec in self.outputs:
            fill = np.nan if self._config.overflows else 0
            rows = np.full((batch.count, int(np.prod(spec.shape[1:]))), fill, np.float32)
            rows[:, :3] += means[:, : rows.shape[1]]
            raw[spec.name] = rows.reshape(batch.count, *spec.shape[1:])
        ready_ns = time.monotonic_ns() + int(self._config.delay_ms * 1e6)
        return _Ticket(self._slots, batch, None if fails else raw, ready_ns)

    def close(self) -> None:
        """See Engine."""


class _Ticket:
    def __init__(self, slots: InputSlots, batch: Batch, raw: Raw | None, ready_ns: int) -> None:
        self._slots, self._batch, self._raw, self._ready_ns = slots, batch, raw, ready_ns

    def done(self) -> bool:
        return time.monotonic_ns() >= self._ready_ns

    def result(self) -> Raw:
        time.sleep(max(0.0, (self._ready_ns - time.monotonic_ns()) / 1e9))
        if self._raw is None:
            raise BackendError("fake: this batch was asked to fail")
        return self._raw

    def release(self) -> None:
        self._slots.release(self._batch.slot)
