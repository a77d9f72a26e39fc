"""The seam between a model and the device that runs it.

An engine takes pictures and geometries, and gives back the network's raw outputs. `prepare` writes the canonical
(N, 3, H, W) uint8 RGB tensor into memory the engine owns, `submit` starts the network, `Ticket.result` waits for it.
At most `depth` batches are in flight; the buffers of one are free again when its ticket has been read.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from engines.pixels import Geometry, Picture

Raw = dict[str, NDArray[np.generic]]


@dataclass(frozen=True)
class TensorSpec:
    """Name, shape (first entry -1 where the batch is free) and dtype of one input or output."""

    name: str
    shape: tuple[int, ...]
    dtype: np.dtype[np.generic]


@dataclass(frozen=True)
class Batch:
    """Prepared pictures: which of the engine's slots holds them, and how many they are."""

    slot: int
    count: int


class Ticket(Protocol):
    """One batch on its way through the network."""

    def done(self) -> bool:
        """True when `result` would not wait: also when it would raise."""
        ...

    def result(self) -> Raw:
        """Wait, and return output name -> array with `count` rows; views of engine memory, valid until `release`.

        Raises BackendError if the network failed.
        """
        ...

    def release(self) -> None:
        """Give the slot back. Must be called once, after the outputs have been read."""
        ...


class Engine(ABC):
    """One network on one device. Not thread-safe: one thread prepares, submits and reads."""

    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    max_batch: int
    depth: int
    """Batches that may be prepared or in flight at once."""
    description: dict[str, str | int]
    """Backend, device, threads, precision: what status and bench say of this engine."""
    slow: Callable[[str, float], None] = staticmethod(lambda _what, _within_s: None)
    """Set by who looks whether the engine hangs; called by one that now does what takes longer than a batch: what, and
    within how many seconds it is done."""

    @abstractmethod
    def prepare(self, pictures: Sequence[Picture], geometries: Sequence[Geometry]) -> Batch:
        """Turn up to `max_batch` pictures into a tensor in a free slot.

        Raises PictureError for pixels that cannot be read, BackendError when no slot is free.
        """

    @abstractmethod
    def submit(self, batch: Batch) -> Ticket:
        """Start the network on a prepared batch; returns at once.

        Raises BackendError, and the batch's slot is free again.
        """

    @abstractmethod
    def close(self) -> None:
        """Wait for what is in flight and free everything."""

    def abandon(self) -> None:  # noqa: B027  # most do nothing else
        """Its thread hangs in it: end what else it does. From any thread, and waits for nothing."""

    def __call__(self, pictures: Sequence[Picture], geometries: Sequence[Geometry]) -> Raw:
        """Prepare, submit and wait; the outputs are copies."""
        ticket = self.submit(self.prepare(pictures, geometries))
        try:
            return {name: array.copy() for name, array in ticket.result().items()}
        finally:
            ticket.release()
