"""The kernel that prepares pictures on a GPU makes the tensors that the CPU makes.

Its source is compiled as C++ here, with the indices of blocks and threads as loops: no GPU took part.
"""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engines.card import Input
from engines.pixels import YUV_TO_RGB, Image, Picture, fit
from tests.support.gpu_cases import MOST_APART, RULES, apart, by_cpu, cases
from tests.support.host_kernels import prepared
from tests.support.pictures import FORMATS, noise

SHARED = Input(width=45, height=37, fit="letterbox", fill=114)


@settings(max_examples=200)
@given(cases())
def test_the_kernel_and_the_cpu_make_the_same_tensor(drawn) -> None:
    _, case = drawn
    assert apart(prepared([case[0]], [case[1]])[0], by_cpu(case)) <= MOST_APART


@settings(max_examples=40)
@given(st.lists(cases(SHARED), min_size=1, max_size=6), st.integers(0, 2))
def test_pictures_of_a_batch_do_not_touch_each_other(drawn, more) -> None:
    """Of any formats and sizes; rows of the tensor that no picture fills are zero."""
    batch = [case for _, case in drawn]
    tensors = prepared([picture for picture, _ in batch], [geometry for _, geometry in batch], len(batch) + more)
    for row, case in zip(tensors[: len(batch)], batch, strict=True):
        assert apart(row, by_cpu(case)) <= MOST_APART
    assert not tensors[len(batch) :].any()


@pytest.mark.parametrize("pixels", FORMATS)
@pytest.mark.parametrize("side", [3, 9, 40])
def test_pictures_that_are_halved_many_times_come_out_the_same(pixels, side) -> None:
    size = (1400, 1045)
    geometry = fit(size, None, Input(width=side, height=side, fit="stretch"))
    case = Picture(noise(pixels, size, 6)), geometry
    assert geometry.halvings == {3: 8, 9: 6, 40: 4}[side]
    assert apart(prepared([case[0]], [geometry])[0], by_cpu(case)) <= MOST_APART


@pytest.mark.parametrize("size", [(20001, 3), (3, 20001)])
def test_pictures_that_floats_cannot_count_come_out_the_same(size) -> None:
    """Beyond 2**24 the kernel works positions out in double precision."""
    wide = size[0] > size[1]
    into = Input(width=1100 if wide else 5, height=5 if wide else 1100, fit="stretch", resize="linear")
    case = Picture(noise("bgr", size, 2)), fit(size, None, into)
    assert apart(prepared([case[0]], [case[1]])[0], by_cpu(case)) <= MOST_APART


@pytest.mark.parametrize("way", YUV_TO_RGB)
def test_every_colour_is_converted_as_on_the_cpu(way) -> None:
    """Every fourth level of each of Y, U and V; luma in blocks of 2x2, so that halving keeps them apart."""
    levels = np.arange(0, 256, 4, dtype=np.uint8) + np.uint8(3)
    y, u, v = (each.reshape(512, 512) for each in np.meshgrid(levels, levels, levels))
    image = Image((y.repeat(2, 0).repeat(2, 1), u, v), "i420", *way, (1024, 1024))
    case = Picture(image), fit(image.size, None, Input(width=512, height=512, fit="stretch"))
    assert apart(prepared([case[0]], [case[1]])[0], by_cpu(case)) <= MOST_APART


@pytest.mark.parametrize("rule", RULES)
def test_a_wrong_picture_would_be_noticed(rule) -> None:
    """The tests above could not fail if tensors were alike anyway."""
    into = Input(width=32, height=32, fit="stretch", resize=rule)
    one, other = ((Picture(noise("i420", (90, 70), seed)), fit((90, 70), None, into)) for seed in (2, 4))
    assert apart(prepared([one[0]], [one[1]])[0], by_cpu(other)) > 50
