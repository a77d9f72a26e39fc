"""How far the outputs of two engines may lie apart, and why.

FP32: the same sums in another order. Deviations are shares of the range that the reference's output spans over all
pictures, so that one number fits logits and boxes: 1e-6 in practice, where bfloat16 rounds every value at 4e-3.

INT8: one rounding that goes the other way in the first layer is another level for all that follow, so that exact
engines differ too, by how much depends on the network and the picture. The measure is the network's own restlessness:
how far the reference's outputs move when every pixel changes by one level at most. Nor may an engine lose more against
FP32 than the reference does. Measured with 12 pictures on a CPU without VNNI: 0.3 to 1.0 times the restlessness and
0.97 to 1.04 times the loss; with weights at which its sums saturate (ADR 5), 2.3 to 5.2 and 2.1 to 3.3 times.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from engines.base import Engine, Raw
from engines.card import Card
from engines.pixels import Image, Picture, fit

FP32_MOST = 1e-4
"""Largest deviation of any FP32 output value, of its output's range."""
INT8_APART = 1.5
"""RMS between two engines, of the RMS by which the reference moves."""
INT8_LOSS = 1.25
"""RMS between an engine's INT8 and FP32, of the reference's."""


def outputs(engine: Engine, card: Card, pictures: list[Picture]) -> Raw:
    """Raw outputs of all pictures, (len(pictures), ...) each, run in batches as large as the engine takes."""
    geometries = [fit(picture.image.size, None, card.input) for picture in pictures]
    steps = range(0, len(pictures), engine.max_batch)
    parts = [engine(pictures[i : i + engine.max_batch], geometries[i : i + engine.max_batch]) for i in steps]
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


def unsettled(pictures: list[Picture]) -> list[Picture]:
    """The same pictures (BGR), every value changed by -1, 0 or 1."""
    rng = np.random.default_rng(0)
    changed = []
    for picture in pictures:
        image = picture.image
        levels = image.planes[0].astype(np.int16) + rng.integers(-1, 2, image.planes[0].shape)
        plane = np.clip(levels, 0, 255).astype(np.uint8)
        changed.append(Picture(Image((plane,), image.format, image.matrix, image.range, image.size)))
    return changed


def most_apart(reference: Raw, other: Raw) -> dict[str, float]:
    """Output name -> largest deviation, of the output's range."""
    return {name: float(np.abs(reference[name] - other[name]).max() / np.ptp(reference[name])) for name in reference}


@dataclass(frozen=True)
class Reference:
    """What the reference says of some pictures."""

    fp32: Raw
    int8: Raw
    moved: Raw
    """By INT8, of the `unsettled` pictures."""


def int8_apart(reference: Reference, other: Raw) -> dict[str, tuple[float, float]]:
    """Output name -> RMS apart, of the reference's restlessness; RMS lost against FP32, of the reference's."""
    floats, exact, moved = reference.fp32, reference.int8, reference.moved
    return {
        name: (
            _rms(other[name], exact[name]) / _rms(moved[name], exact[name]),
            _rms(other[name], floats[name]) / _rms(exact[name], floats[name]),
        )
        for name in exact
    }


def _rms(a: NDArray, b: NDArray) -> float:
    return float(np.sqrt(np.square(a.astype(np.float64) - b).mean()))
