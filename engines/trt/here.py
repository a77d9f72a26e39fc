"""Could TensorRT serve on this machine? Asked at every start of an agent, so nothing heavy is imported for it."""

from __future__ import annotations

from engines.cuda.driver import Facts
from engines.cuda.probe import probe
from engines.errors import BackendError
from engines.trt import flavours


def device(ordinal: int) -> Facts:
    """The GPU of that number, asked without a context. Raises NoDevice."""
    return probe().device(ordinal)


def lacking(ordinal: int, flavour: flavours.Name | None) -> str:
    """Why TensorRT cannot serve here, as far as can be told at once, and what to do; empty if it may."""
    try:
        device(ordinal)
        flavours.find(flavour)
    except BackendError as error:
        return str(error)
    return ""
