"""Devices that run networks: one file a kind, each with one `Config` class that is its factory."""

from __future__ import annotations

from abc import abstractmethod
from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field
from typing_extensions import Self

from engines.base import Engine
from engines.card import Card, Precision


class BackendConfig(BaseModel):
    """Base of every backend's config: the config is the factory."""

    model_config = ConfigDict(extra="forbid", frozen=True, defer_build=True)

    @abstractmethod
    def build(self, card: Card, model: Path, precision: Precision) -> Engine:
        """Compile the ONNX file `model` of `card`. Raises BackendError with what to do."""

    def serve(self, card: Card, model: Path, precision: Precision) -> Engine:
        """Engine for an agent, which wants to see at once: one that takes long to make ready may follow another.

        Raises BackendError only where nothing at all can run the model.
        """
        return self.build(card, model, precision)

    @property
    def called(self) -> str:
        """What status calls it while it does not serve."""
        return str(getattr(self, "type", type(self).__module__))

    def instead(self) -> tuple[BackendConfig, ...]:
        """What may serve where engines of this one hang or fail again and again, best first.

        Nothing, where somebody named this backend and no other: it is tried again then.
        """
        return ()

    def shared(self, threads: int, askers: int) -> Self:  # noqa: ARG002  # see ThreadedConfig
        """Return this config with its share of the machine: so many CPU threads, so many pictures at once at most."""
        return self


class ThreadedConfig(BackendConfig):
    """Base of the configs of engines that run on CPU threads."""

    threads: int | None = Field(default=None, gt=0)
    """CPU threads; the service divides the machine's among its engines where this is not set."""
    streams: int | None = Field(default=None, gt=0)
    """Batches that the network works on at once; default: one a thread, which is what gives most results a second."""
    batch: int = Field(default=1, gt=0)
    """Pictures in one run of the network, at most."""

    def shared(self, threads: int, askers: int) -> Self:
        """One camera is answered soonest when all threads work on its picture; many are answered most often when each
        thread works on a picture of its own. What is set stays.
        """  # noqa: D205
        threads = self.threads or threads
        streams = self.streams or max(1, min(askers, threads))
        return self.model_copy(update={"threads": threads, "streams": streams})
