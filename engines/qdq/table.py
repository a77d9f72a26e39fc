"""The calibration table: everything that INT8 adds to an FP32 graph (docs/tables.md)."""

from __future__ import annotations

import json
from typing import Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    SerializerFunctionWrapHandler,
    ValidationError,
    model_serializer,
)

from engines.errors import CardError
from engines.qdq.stored import unpack_correction, unpack_exponents, unpack_moments

WRITER = 1
"""Raised whenever `apply` writes other bytes for the same table."""
LARGEST_SHARE = 0.01
"""Of its FP32 file's size: more than that is no longer a table but a second set of weights."""


def _exponents(text: str) -> str:
    unpack_exponents(text)
    return text


def _correction(text: str) -> str:
    unpack_correction(text)
    return text


def _moments(text: str) -> str:
    unpack_moments(text)
    return text


class Table(BaseModel):
    """Everything that INT8 adds to an FP32 graph: the same two always give the same bytes."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    schema_: Literal["sightwire.table/1"] = Field(default="sightwire.table/1", alias="schema")
    writer: int = WRITER
    """Version of `engines.qdq` that it was proved with."""
    model: str = Field(pattern="^[0-9a-f]{64}$")
    """sha256 of the FP32 file."""
    method: str
    """How the ranges were found."""
    calibration_set: str = Field(pattern="^[0-9a-f]{64}$")
    """sha256 over the sha256s of the calibration pictures, sorted."""
    pictures: int = Field(gt=0)
    kept_float: tuple[str, ...] = ()
    """Nodes left in float."""
    weights: Literal["pair-safe", "full"] = "pair-safe"
    """How far weights use their 127 levels: see `quantise_weights`."""
    equalisation: dict[str, Annotated[str, AfterValidator(_exponents)]] = {}
    """Activation tensor -> exponent k of each channel, which is divided by 2**k: see `pack_exponents`, `equalised`."""
    bias_corrections: dict[str, Annotated[str, AfterValidator(_correction)]] = {}
    """Conv or Gemm -> what is added to the bias of each output channel, after equalisation: see `pack_correction`."""
    shifts: dict[str, Annotated[int, Field(ge=-127, le=127)]] = {}
    """Activation tensor -> whole levels that are subtracted before it is quantised, and given back in the biases of
    what reads it: `engines.qdq.shifts`."""
    inputs: dict[str, Annotated[str, AfterValidator(_moments)]] = {}
    """Activation tensor, equalised -> mean and deviation of each channel: weights of Conv and Gemm that read it are
    rounded so that errors cancel on them (`engines.qdq.rounding`); see `pack_moments`."""
    scales: dict[str, float]
    """Activation tensor, equalised -> size of one of its 127 levels, of 12 significant bits."""

    @classmethod
    def parse(cls, text: str | bytes, where: str) -> Table:
        """Read a table's JSON text. Raises CardError naming `where`."""
        try:
            return cls.model_validate_json(text)
        except ValidationError as error:
            first = error.errors()[0]
            place = ".".join(map(str, first["loc"])) or "table"
            raise CardError(f"{where}: not a calibration table: {place}: {first['msg']}") from None

    @model_serializer(mode="wrap")
    def _without_what_is_empty(self, serialise: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Leave out fields that came later where they say nothing: older tables keep their text."""
        content: dict[str, Any] = serialise(self)
        return {key: value for key, value in content.items() if value or key not in _LATER}

    def text(self) -> str:
        """JSON text, the same for the same table."""
        content = self.model_dump(mode="json", by_alias=True)
        for key, value in content.items():
            if isinstance(value, dict):
                content[key] = dict(sorted(value.items()))
        return json.dumps(content, indent=1) + "\n"

    def share(self, fp32_bytes: int) -> float:
        """Size of its text as a share of its FP32 file's, which is to be at most `LARGEST_SHARE`."""
        return len(self.text().encode()) / fp32_bytes


_LATER = ("equalisation", "bias_corrections", "shifts", "inputs")
