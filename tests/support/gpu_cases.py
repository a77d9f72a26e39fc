"""Pictures of every format with geometries of every kind: what the kernel has to prepare as the CPU does."""

from __future__ import annotations

import platform
from typing import get_args

import numpy as np
from hypothesis import strategies as st
from numpy.typing import NDArray

from engines.card import Input
from engines.pixels import Geometry, Matrix, Picture, Range, TensorWriter, fit
from tests.support.pictures import FORMATS, noise

RULES = ("area", "linear")

# OpenCV adds up as we found it to on x86-64; elsewhere other libraries may stand behind it.
MOST_APART = 0 if platform.machine() == "x86_64" else 1

Case = tuple[Picture, Geometry]

inputs = st.builds(
    Input,
    width=st.integers(1, 90),
    height=st.integers(1, 90),
    fit=st.sampled_from(["stretch", "letterbox", "crop"]),
    resize=st.sampled_from(RULES),
    fill=st.integers(0, 255),
    align=st.sampled_from(["centre", "top-left"]),
    crop=st.floats(0.3, 1.0),
)


@st.composite
def sizes(draw: st.DrawFn, into: Input) -> tuple[int, int]:
    """Any, and often those at which a step is left out or turns into another: 1:1, 2:1, 4:1 and one more or less."""
    if draw(st.booleans()):
        most = draw(st.sampled_from([3, 60, 400, 1000]))
        return draw(st.integers(1, most)), draw(st.integers(1, most))
    times, more = draw(st.sampled_from([1, 2, 4, 8])), draw(st.sampled_from([0, 0, 1, -1]))
    return max(1, into.width * times + more), max(1, into.height * times + more)


@st.composite
def cases(draw: st.DrawFn, into: Input | None = None) -> tuple[Input, Case]:
    """A picture, and how it goes into a tensor."""
    into = into or draw(inputs)
    width, height = draw(sizes(into))
    left, top = draw(st.integers(0, width - 1)), draw(st.integers(0, height - 1))
    part = (left, top, draw(st.integers(left + 1, width)), draw(st.integers(top + 1, height)))
    region = draw(st.sampled_from([None, part]))
    image = noise(
        draw(st.sampled_from(FORMATS)),
        (width, height),
        draw(st.integers(0, 2**32 - 1)),
        draw(st.sampled_from(get_args(Matrix))),
        draw(st.sampled_from(get_args(Range))),
    )
    return into, (Picture(image, region), fit((width, height), region, into))


def by_cpu(case: Case) -> NDArray[np.uint8]:
    """(3, H, W): what the CPU makes of it."""
    picture, geometry = case
    out = np.empty((3, *geometry.tensor[::-1]), np.uint8)
    TensorWriter().write(picture, geometry, out)
    return out


def apart(one: NDArray[np.uint8], other: NDArray[np.uint8]) -> int:
    """The largest difference."""
    return int(np.abs(one.astype(int) - other).max())
