"""What a plan was made for, compared before it is used; and how it was made, recorded for people."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

from engines.card import Precision
from engines.cuda.driver import Facts
from engines.errors import BackendError
from engines.trt.flavours import Name
from engines.trt.order import Floats, Order
from engines.trt.reference import Reference

FORM = 1
"""Of what TensorRT is given for a file (`engines.trt.network`, `engines.qdq.half`); older plans are not used."""
AMPERE = (8, 0)
"""Compute capability from which on GPUs take hardware-compatible plans, of both flavours."""
_Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, defer_build=True, allow_inf_nan=False)


class Made(_Strict):
    """How a plan was made, and what was found when it was checked: recorded, not compared."""

    plan_sha256: _Sha256
    cubin_sha256: _Sha256 | None = None
    """Of the compiled preparation kernel beside it; None: the CPU prepares."""
    kernel: str | None = None
    """Version of the source that the cubin was compiled from (`engines.trt.kernel`)."""
    reference_sha256: _Sha256 | None = None
    """Of the CPU engine's outputs of the probe pictures beside it."""
    floats: Floats
    """What really computes what is not INT8."""
    driver: str = ""
    """The CUDA version of the driver that it was made with; empty: without one."""
    built_on: str = ""
    """Name of the GPU that it was made with; empty: without one."""
    built_at: str
    """RFC 3339, UTC."""
    seconds: float = Field(ge=0)
    """That TensorRT took."""
    warnings: tuple[str, ...] = ()
    """TensorRT's, and what is missing (no NVRTC: no kernel)."""
    latency_ms: float | None = Field(default=None, ge=0)
    """Of one run of the largest batch, preparation included, when it was checked."""
    agreement: float | None = Field(default=None, ge=0)
    """How far from the CPU engine it is on the probe pictures, as a share of what is let pass."""
    unchecked: str | None = None
    """Why its results were not compared with the CPU engine's; None: they were."""
    instead_of: str | None = None
    """What was asked for and could not be made, and why; None: this is what was asked for."""


class Passport(_Strict):
    """What a plan depends on. `key` stands for all of it; two plans with equal keys are interchangeable."""

    model: _Sha256
    """Of the ONNX file."""
    form: int = FORM
    flavour: Name
    version: str
    """Of TensorRT; its first number alone where later versions may load the plan."""
    compute_capability: str
    """Of the GPU, `8.7`; or in words, of a plan for many."""
    device: str | None
    """The GPU's name; None: whatever has that compute capability."""
    precision: Precision
    floats: Floats
    size: tuple[int, int]
    """Input width and height."""
    batches: tuple[int, int, int]
    hardware_compatible: bool = False
    version_compatible: bool = False
    workspace_mb: int | None = None
    made: Made | None = None
    """Not compared; None: of a plan that is only looked for."""

    @classmethod
    def of(cls, order: Order, flavour: Name, version: str, facts: Facts | None) -> Passport:
        """The passport of the plan that `order` asks for, by this version of TensorRT; `facts`: of the GPU, if any.

        Raises BackendError for an order that contradicts itself, and without a GPU for one that names no other.
        """
        if order.target is not None and order.hardware_compatible:
            raise BackendError("a plan is for one compute capability or hardware-compatible, not both: leave one out")
        capability = order.target or (facts.compute_capability if facts else None)
        if order.hardware_compatible:
            said = "{}.{} and later".format(*AMPERE)
        elif capability is not None:
            said = "{}.{}".format(*capability)
        else:
            raise BackendError("there is no GPU here to make a plan for: say for which one, as in --target 8.6")
        # Kernels of TensorRT-RTX are chosen on the GPU when the plan is loaded: nothing in the plan is one device's.
        anywhere = flavour == "tensorrt_rtx" or order.hardware_compatible
        return cls(
            model=order.sha256,
            flavour=flavour,
            version=version.partition(".")[0] if order.version_compatible else version,
            compute_capability=said,
            device=None if anywhere or facts is None else facts.name,
            precision=order.precision,
            floats=order.floats,
            size=order.size,
            batches=order.batches,
            hardware_compatible=order.hardware_compatible,
            version_compatible=order.version_compatible,
            workspace_mb=order.workspace_mb,
        )

    @property
    def key(self) -> str:
        """16 hex digits that change with anything that is compared."""
        compared = self.model_dump(mode="json", exclude={"made"})
        return hashlib.sha256(json.dumps(compared, sort_keys=True).encode()).hexdigest()[:16]

    @property
    def gpu(self) -> str:
        """The GPU that it is for, as people call it."""
        return f"{self.device or 'any GPU'} (compute capability {self.compute_capability})"


def read_passport(content: bytes) -> Passport | None:
    """The passport in a file's bytes; None for anything else, a later version's included: such a plan is made anew."""
    try:
        return Passport.model_validate_json(content)
    except ValueError:  # pydantic's ValidationError, and text that is none
        return None


@dataclass(frozen=True, eq=False)
class Plan:
    """A plan as it was read: its bytes are those that were written."""

    path: Path
    data: bytes
    """For TensorRT's `deserialize_cuda_engine`."""
    passport: Passport
    """With `made`."""
    cubin: bytes | None = None
    """The compiled preparation kernel; None: it is compiled anew, and where that cannot be, the CPU prepares."""
    reference: Reference | None = None
    """What the CPU engine says of the probe pictures; None: the plan cannot be checked, and is made anew."""

    @property
    def made(self) -> Made:
        """How it was made."""
        assert self.passport.made is not None, "a plan that was read has a whole passport"  # noqa: S101
        return self.passport.made
