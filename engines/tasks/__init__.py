"""What raw outputs mean: one file a kind, each with one `Config` class, the `task:` of a model card.

A task is pure: it knows neither the backend nor the camera.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

from engines.base import Raw
from engines.pixels import Geometry
from engines.results import Result

ANY = -1
"""In the shape of an output: as many as the graph has."""


class Task(ABC):
    """Reads a network's outputs."""

    @abstractmethod
    def read(self, raw: Raw, geometries: Sequence[Geometry]) -> list[Result]:
        """One result for each of the batch's pictures, from output arrays with one row for each of them."""


class TaskConfig(BaseModel):
    """Base of every task's config: the config is the factory."""

    # Exporters call outputs 758, which YAML takes for a number.
    model_config = ConfigDict(extra="forbid", frozen=True, coerce_numbers_to_str=True, defer_build=True)

    threshold: float = Field(default=0.0, ge=0, lt=1)
    """Least score that is reported."""
    top: int = Field(default=100, gt=0)
    """At most so many rows per picture."""

    @property
    def finds_boxes(self) -> bool:
        """Whether results have boxes, so that other models can look at what is in them."""
        return False

    @property
    def reading(self) -> str:
        """The settings that decide which shapes outputs must have, as `misfit` names them."""
        return f"type: {getattr(self, 'type', '?')}"

    @abstractmethod
    def outputs(self, labels: int, size: tuple[int, int]) -> dict[str, tuple[int, ...]]:
        """Output name -> shape of one picture's row that the graph must have, `ANY` where it is free.

        `size` is the input's (width, height), which says how many cells a grid has.
        """

    def alternatives(self) -> Iterator[TaskConfig]:
        """Other readings of the same outputs, to be proposed where this one does not fit."""
        return iter(())

    @abstractmethod
    def open(self, labels: Sequence[str], options: Options) -> Task:
        """Build the task for a model with those labels.

        Raises CardError for options that name a label which the model has not, or that mean nothing to this task.
        """


Stride = Annotated[int, Field(gt=0)]
"""Pixels of a tensor to a cell of a grid."""
Strides = Annotated[tuple[Stride, ...], Field(min_length=1)]
Share = Annotated[float, Field(ge=0, le=1)]
Count = Annotated[int, Field(gt=0)]


class Options(BaseModel):
    """What a user may change about the reading of a model: everything else is the card's. None: the card's too."""

    model_config = ConfigDict(extra="forbid", frozen=True, defer_build=True)

    threshold: Share | Mapping[str, Share] | None = None
    """Least score that is reported, 0 to 1; or label -> that, and the card's for the labels that are not named."""
    top: Count | Mapping[str, Count] | None = None
    """At most so many rows per picture; or label -> at most so many of it, and the card's number in all."""
    only: tuple[str, ...] | None = None
    """Labels that are reported at all; None: every one."""
    iou: Annotated[float, Field(gt=0, le=1)] | None = None
    """Detectors: overlap over which the weaker of two boxes goes; 1: none goes."""
    agnostic: bool | None = None
    """Detectors: whether a box also suppresses boxes of other labels."""


def misfit(config: TaskConfig, labels: int, size: tuple[int, int], found: Mapping[str, tuple[int, ...]]) -> str | None:
    """Say what keeps a task from reading outputs (name -> shape of one picture's row, -1 where free); None: nothing.

    Where another reading or another number of labels would fit, that is said too.
    """
    for name, wanted in config.outputs(labels, size).items():
        if name not in found:
            return f"has no output {name!r}, only {', '.join(found)}"
        if not _matches(found[name], wanted):
            count = f"{labels} label{'s' * (labels != 1)}"
            return (
                f"output {name} has rows of shape {_text(found[name])}, but {count} and {{{config.reading}}} "
                f"want {_text(wanted)}{_remedy(config, labels, size, found)}"
            )
    return None


def _matches(shape: tuple[int, ...], wanted: tuple[int, ...]) -> bool:
    if wanted == (1,) and shape == ():
        return True  # one number a picture, without a side of its own
    return len(shape) == len(wanted) and all(
        ANY in pair or pair[0] == pair[1] for pair in zip(shape, wanted, strict=True)
    )


def _fits(config: TaskConfig, labels: int, size: tuple[int, int], found: Mapping[str, tuple[int, ...]]) -> bool:
    wanted = config.outputs(labels, size)
    return all(name in found and _matches(found[name], shape) for name, shape in wanted.items())


def _remedy(config: TaskConfig, labels: int, size: tuple[int, int], found: Mapping[str, tuple[int, ...]]) -> str:
    for other in config.alternatives():
        if _fits(other, labels, size, found):
            return f"; {{{other.reading}}} would fit"
    for count in _counts(config, size, found):
        if count > 0 and _fits(config, count, size, found):
            return f"; {count} label{'s' * (count != 1)} would fit"
    return ""


def _counts(config: TaskConfig, size: tuple[int, int], found: Mapping[str, tuple[int, ...]]) -> Iterator[int]:
    """Numbers of labels for which some side of an output would be right: sides grow evenly with them."""
    two = config.outputs(2, size)
    for name, one in config.outputs(1, size).items():
        for side, a, b in zip(found.get(name, ()), one, two[name], strict=False):
            if a != b:
                yield 1 + (side - a) // (b - a)


def _text(shape: tuple[int, ...]) -> str:
    return f"({', '.join('any' if side == ANY else str(side) for side in shape)})"
