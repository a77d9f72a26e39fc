"""What every backend asks of a graph's inputs, and how it says what it found."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from engines.base import TensorSpec
from engines.errors import ModelFileError


def check_inputs(model: Path, inputs: Sequence[TensorSpec], width: int, height: int, batch: int) -> None:
    """Raise ModelFileError unless there is one input, (N, 3, H, W) uint8, that takes `batch` pictures.

    For graphs as they were written: some runtimes would reshape many a graph that is none of ours to look like one.
    """
    if len(inputs) == 1 and inputs[0].dtype == "uint8" and len(inputs[0].shape) == 4:
        first, *sides = inputs[0].shape
        takes = first == -1 or first == batch == 1
        if takes and all(side in (-1, want) for side, want in zip(sides, (3, height, width), strict=True)):
            return
    found = ", ".join(_said(spec) for spec in inputs) or "none"
    raise ModelFileError(
        f"{model}: its inputs are {found}, not one u8 (?, 3, {height}, {width}): the card does not fit it"
    )


def _said(spec: TensorSpec) -> str:
    sides = ", ".join("?" if side == -1 else str(side) for side in spec.shape)
    return f"{spec.dtype.kind}{8 * spec.dtype.itemsize} ({sides})"
