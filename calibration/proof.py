"""What was proved of an INT8 model: the JSON in its card, and all that the report page draws."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Set(_Strict):
    """Pictures by what is in them."""

    pictures: int
    hash: str
    """sha256 over the sorted sha256s of the pictures."""


class Data(_Strict):
    """Where the pictures came from and how they were divided."""

    source: str
    """As it was given: a folder, a video, a camera without its credentials."""
    way: Literal["bgr", "i420"]
    found: int
    duplicates: int
    """Left out because another picture shows nearly the same."""
    calibration: Set
    held_out: Set
    """Never calibrated, equalised, corrected or searched with."""
    labelled: bool


class Measured(_Strict):
    """FP32 against INT8 on the held-out pictures, in points of 100; see `calibration.measures.Comparison`."""

    metric: str
    fp32: float
    int8: float
    loss: float
    interval: tuple[float, float]
    pictures: int
    budget: float
    """Largest loss that is let pass."""
    inside: bool
    resolved: bool
    """False: the held-out set is too small to tell a loss of the budget from chance."""
    resolution: float | None = None
    """Points: smaller losses cannot be told from chance on these pictures."""
    pictures_needed: int | None = None
    """About how many pictures of this kind would resolve the budget."""
    details: dict[str, Any] = {}


class Layer(_Strict):
    """One operation that INT8 can take."""

    name: str
    operator: str
    depthwise: bool = False
    precision: Literal["int8", "float"]
    reason: str | None = None
    """Why it stays in float."""
    macs: int
    """Multiplications and additions for one picture."""
    signal_to_noise_db: float | None = None
    """Of its output, INT8 network against FP32 network, over calibration pictures; None: not measured."""
    alone_db: float | None = None
    """Of the network's outputs when only this operation is INT8: how sensitive it is."""


class Point(_Strict):
    """One candidate of the trade-off between accuracy and float operations."""

    method: str
    """How ranges were found, and what was done besides: `percentile 99.99 + equalisation + bias correction`."""
    kept_float: tuple[str, ...]
    float_macs: int
    output_db: float
    """Signal-to-noise of the network's outputs over calibration pictures: what candidates are ordered by."""
    loss: float | None = None
    """Points lost on the held-out pictures; None: not measured on them."""
    interval: tuple[float, float] | None = None
    chosen: bool = False


class Speed(_Strict):
    """Median milliseconds for one picture on one thread, the models taking turns. Never an input to a choice."""

    fp32_ms: float
    int8_ms: float
    bf16_ms: float | None = None
    """FP32 model with bfloat16 allowed; None: this CPU has none."""
    int8_bf16_ms: float | None = None
    device: str
    """The processor and what it can: `AMD EPYC 7B13, AVX2`."""

    @property
    def ratio(self) -> float:
        """How many times faster INT8 is than float32."""
        return self.fp32_ms / self.int8_ms


class Worst(_Strict):
    """A picture on which FP32 and INT8 differ most; the report shows both side by side."""

    picture: str
    badness: float
    fp32: str
    """What FP32 says of it, in a line."""
    int8: str


class Proof(_Strict):
    """Everything measured of one conversion."""

    schema_: Literal["sightwire.proof/1"] = Field(default="sightwire.proof/1", alias="schema")
    model: str
    """Name."""
    fp32_sha256: str
    int8_sha256: str
    table_sha256: str
    method: str
    data: Data
    measured: Measured
    layers: tuple[Layer, ...]
    trade_off: tuple[Point, ...]
    speed: Speed | None = None
    worst: tuple[Worst, ...] = ()
    versions: dict[str, str]
    """sightwire, openvino, onnxruntime, onnx, numpy."""
