"""A candidate: everything that decides a table, and the table itself."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
import onnx
from numpy.typing import NDArray

from calibration.ranges import METHODS, Observed
from engines.graph import serialise
from engines.qdq import (
    Table,
    activations,
    pack_correction,
    pack_exponents,
    pack_moments,
    quantised_nodes,
    scale_of,
    shiftable,
)

_LOPSIDED = 0.5
"""Of the largest value: tensors that reach farther below zero are not worth a shift."""
Step = Literal["feedback", "equalised", "shifted", "corrected"]


@dataclass(frozen=True)
class Recipe:
    """How a network becomes INT8."""

    method: str
    """One of `calibration.ranges.METHODS`."""
    feedback: bool = True
    """Whether weights are rounded so that errors cancel on the inputs seen (`engines.qdq.rounding`)."""
    equalised: bool = False
    corrected: bool = False
    shifted: bool = False
    """Whether what lies to one side of zero is moved to use all levels (`engines.qdq.shifts`)."""
    kept_float: tuple[str, ...] = ()

    @property
    def words(self) -> str:
        """As it stands in tables and reports."""
        extra = [
            said
            for said, done in (
                ("feedback rounding", self.feedback),
                ("equalisation", self.equalised),
                ("bias correction", self.corrected),
                ("shifts", self.shifted),
            )
            if done
        ]
        return " + ".join([self.method, *extra])

    def changed(self, step: Step) -> Recipe:
        """Return the same with one step done that was not, or not done that was."""
        if step == "feedback":
            return replace(self, feedback=not self.feedback)
        if step == "corrected":
            return replace(self, corrected=not self.corrected)
        if step == "shifted":
            return replace(self, shifted=not self.shifted)
        return replace(self, equalised=not self.equalised)

    def keeping(self, nodes: tuple[str, ...]) -> Recipe:
        """Return the same with these nodes in float."""
        return replace(self, kept_float=nodes)


@dataclass(frozen=True)
class Seen:
    """What a table is made from."""

    fp32: onnx.ModelProto
    observed: dict[str, Observed]
    """Of the network as it is, every tensor that may need a scale."""
    equalised: dict[str, Observed]
    """Of the equalised network; empty where nothing can be equalised."""
    exponents: dict[str, NDArray[np.int8]]
    """Equalised tensor -> exponent of each channel."""
    calibration_set: str
    pictures: int

    def table(self, recipe: Recipe, corrections: dict[str, NDArray[np.float64]] | None = None) -> Table:
        """Return the table of a recipe; `corrections` of biases by node, where it has them."""
        nodes = quantised_nodes(self.fp32, recipe.kept_float)
        needed = activations(nodes)
        seen = self.equalised if recipe.equalised else self.observed
        read = {str(node.input[0]) for node in nodes if node.op_type in ("Conv", "Gemm")}
        running = {str(node.name) for node in nodes}
        magnitudes = {name: METHODS[recipe.method](seen[name]) for name in needed}
        shifts: dict[str, int] = {}
        if recipe.shifted:
            for name in shiftable(self.fp32, recipe.kept_float):
                if recipe.equalised and name in self.exponents:
                    continue
                half, shift = _centred(magnitudes[name], seen[name].lowest)
                if shift:
                    magnitudes[name], shifts[name] = half, shift
        return Table(
            model=hashlib.sha256(serialise(self.fp32)).hexdigest(),
            method=recipe.words,
            calibration_set=self.calibration_set,
            pictures=self.pictures,
            kept_float=recipe.kept_float,
            equalisation={
                name: pack_exponents(row) for name, row in self.exponents.items() if recipe.equalised and row.any()
            },
            bias_corrections={
                name: pack_correction(row)
                for name, row in (corrections or {}).items()
                if recipe.corrected and name in running and row.any()
            },
            inputs={
                name: pack_moments(seen[name].channel_mean, seen[name].channel_deviation)
                for name in needed
                if recipe.feedback and name in read
            },
            shifts=shifts,
            scales={name: scale_of(magnitude) for name, magnitude in magnitudes.items()},
        )


def _centred(magnitude: float, lowest: float) -> tuple[float, int]:
    """Return half the range from `lowest` to `magnitude`, and the levels of that scale from zero to its middle.

    A tensor that is clipped at `magnitude` below zero as well gains nothing: its shift is 0.
    """
    low = max(lowest, -magnitude)
    half = (magnitude - low) / 2
    if not half > 0 or low <= -_LOPSIDED * magnitude:
        return magnitude, 0
    return half, int(np.rint((magnitude + low) / 2 / scale_of(half)))
