"""From an order to a plan: parse, configure, build."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from engines.trt.flavours import Flavour
from engines.trt.order import Floats, Order

OnProgress = Callable[[float, str], None]
"""Share of the work that is done, 0 to 1, never falling, and what is being done; may be called from other threads."""


@dataclass(frozen=True)
class Built:
    """A plan, and what is worth keeping of its making."""

    plan: bytes = field(repr=False)
    timing_cache: bytes = field(repr=False)
    """For the next build on this GPU and version; empty where there is none."""
    warnings: tuple[str, ...]
    """What TensorRT warned of and is not known to be harmless."""
    seconds: float
    floats: Floats
    """What computes what is not INT8."""


def build(flavour: Flavour, order: Order, timing_cache: bytes = b"", on_progress: OnProgress | None = None) -> Built:
    """Make the plan. Takes from a second to half an hour, and on a device all of its memory that `order` allows.

    A Builder reaches for the driver: without one, only TensorRT-RTX builds, and for a target only.
    Raises BuildError that says what could not be built and what to do; ModelFileError for a file that is no ONNX.
    """
    raise NotImplementedError
