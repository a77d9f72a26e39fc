"""What raw outputs mean: one file a kind, each with one `Config` class, the `task:` of a model card.

A task is pure: it knows neither the backend nor the camera.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence

from pydantic import BaseModel, ConfigDict, Field

from engines.base import Raw
from engines.pixels import Geometry
from engines.results import Result


class Task(ABC):
    """Reads a network's outputs."""

    @abstractmethod
    def read(self, raw: Raw, geometries: Sequence[Geometry]) -> list[Result]:
        """One result for each of the batch's pictures, from output arrays with one row for each of them."""


class TaskConfig(BaseModel):
    """Base of every task's config: the config is the factory."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    threshold: float = Field(default=0.0, ge=0, lt=1)
    """Least score that is reported."""
    top: int = Field(default=100, gt=0)
    """At most so many rows per picture."""

    @property
    def finds_boxes(self) -> bool:
        """Whether results have boxes, so that other models can look at what is in them."""
        return False

    @abstractmethod
    def outputs(self, labels: int) -> dict[str, tuple[int, ...]]:
        """Output name -> shape of one picture's row that the graph must have for that many labels."""

    @abstractmethod
    def open(self, labels: int, options: Options) -> Task:
        """Build the task for a model with that many labels."""


class Options(BaseModel):
    """What a user may change about the reading of a model: everything else is the card's."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    threshold: float | None = None
    """Least score that is reported, 0 to 1; None: the card's."""
    top: int | None = None
    """At most so many rows per picture; None: the card's."""
