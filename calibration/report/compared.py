"""Two models or engines on the same pictures: what `sightwire compare` prints as JSON, and its page draws."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from calibration.proof import Layer, Set, Worst


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Side(_Strict):
    """One of the two."""

    name: str
    """Short, and not that of the other: it stands over pictures and in columns."""
    sha256: str
    """Of the model file."""
    engine: str
    """What ran it: `openvino, f32`."""
    ms: float | None = None
    """Median milliseconds for one picture, the two taking turns; None: not timed."""


class Compared(_Strict):
    """How much worse the second model is than the first, in points of 100; see `calibration.measures.Comparison`."""

    schema_: Literal["sightwire.comparison/1"] = Field(default="sightwire.comparison/1", alias="schema")
    a: Side
    b: Side
    source: str
    """Where the pictures come from, as it was given and without credentials."""
    set_: Set = Field(alias="set")
    """The pictures that both looked at."""
    metric: str
    a_points: float
    b_points: float
    loss: float
    interval: tuple[float, float]
    pictures: int
    """That counted."""
    details: dict[str, Any] = {}
    budget: float | None = None
    """Largest loss that is let pass; None: nobody asked."""
    inside: bool | None = None
    resolved: bool | None = None
    """False: too few pictures to tell a loss of the budget from chance."""
    resolution: float | None = None
    """Points: smaller losses cannot be told from chance on these pictures."""
    pictures_needed: int | None = None
    """About how many pictures of this kind would resolve the budget."""
    device: str | None = None
    """The processor that both were timed on."""
    layers: tuple[Layer, ...] = ()
    worst: tuple[Worst, ...] = ()
    versions: dict[str, str] = {}
