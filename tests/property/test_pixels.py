"""Pictures to tensors: geometry and its inverse, and that every pixel format gives the same tensor."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engines.card import Input
from engines.errors import PictureError
from engines.pixels import Image, Picture, TensorWriter, black, fit
from tests.support.pictures import image_from, smooth_bgr

inputs = st.builds(
    Input,
    width=st.integers(16, 320),
    height=st.integers(16, 320),
    fit=st.sampled_from(["stretch", "letterbox", "crop"]),
    resize=st.sampled_from(["area", "linear"]),
    fill=st.integers(0, 255),
    align=st.sampled_from(["centre", "top-left"]),
    crop=st.floats(0.3, 1.0),
)
sizes = st.tuples(st.integers(2, 2000), st.integers(2, 2000))


@st.composite
def regions(draw: st.DrawFn) -> tuple[tuple[int, int], tuple[int, int, int, int]]:
    width, height = draw(sizes)
    left, top = draw(st.integers(0, width - 1)), draw(st.integers(0, height - 1))
    return (width, height), (left, top, draw(st.integers(left + 1, width)), draw(st.integers(top + 1, height)))


@given(regions(), inputs)
def test_boxes_come_back_where_they_were(case, into) -> None:
    size, region = case
    geometry = fit(size, region, into)
    left, top, right, bottom = geometry.region
    box = np.array(
        [[left, top, right, bottom], [(3 * left + right) / 4, top, right, (top + 3 * bottom) / 4]], np.float32
    )
    assert np.allclose(geometry.to_source(geometry.to_tensor(box)), box, atol=max(size) * 1e-5 + 1e-2)


@given(regions(), inputs)
def test_a_geometry_stays_inside_picture_and_tensor(case, into) -> None:
    size, region = case
    geometry = fit(size, region, into)
    left, top, right, bottom = geometry.region
    assert 0 <= left < right <= size[0]
    assert 0 <= top < bottom <= size[1]
    assert left % 2 == top % 2 == 0
    assert (right - left) % 2**geometry.halvings == (bottom - top) % 2**geometry.halvings == 0
    x0, y0, x1, y1 = geometry.inner
    assert 0 <= x0 < x1 <= into.width
    assert 0 <= y0 < y1 <= into.height
    if into.fit != "letterbox":
        assert geometry.inner == (0, 0, into.width, into.height)


@given(regions(), inputs)
def test_a_region_loses_less_than_a_tensor_pixel_to_trimming(case, into) -> None:
    if into.fit == "crop":
        return
    size, region = case
    geometry = fit(size, region, into)
    sx, sy = geometry.scale
    assert region[2] - geometry.region[2] < max(sx, 1)
    assert region[3] - geometry.region[3] < max(sy, 1)


@settings(max_examples=40, deadline=None)
@given(
    st.tuples(st.integers(40, 900), st.integers(40, 900)),
    inputs,
    st.sampled_from(["i420", "nv12", "rgb"]),
    st.sampled_from(["601", "709"]),
    st.sampled_from(["limited", "full"]),
)
def test_every_pixel_format_gives_the_same_tensor(size, into, pixels, matrix, level) -> None:
    """Within two levels on average: 4:2:0 has a quarter of the colour."""
    bgr = smooth_bgr(*size)
    expected, actual = (np.empty((3, into.height, into.width), np.uint8) for _ in range(2))
    writer, geometry = TensorWriter(), fit(size, None, into)
    writer.write(Picture(image_from(bgr, "bgr")), geometry, expected)
    writer.write(Picture(image_from(bgr, pixels, matrix, level)), geometry, actual)
    assert np.abs(expected.astype(int) - actual).mean() < 2


@pytest.mark.parametrize("matrix", ["601", "709"])
@pytest.mark.parametrize("level", ["limited", "full"])
@given(colour=st.tuples(*[st.integers(0, 255)] * 3))
def test_flat_colours_come_through_within_two_levels(matrix, level, colour) -> None:
    bgr = np.empty((64, 64, 3), np.uint8)
    bgr[:] = colour
    out = np.empty((3, 32, 32), np.uint8)
    geometry = fit((64, 64), None, Input(width=32, height=32, fit="stretch"))
    TensorWriter().write(Picture(image_from(bgr, "i420", matrix, level)), geometry, out)
    assert np.abs(out.reshape(3, -1).T.astype(int) - np.array(colour[::-1])).max() <= 2


def test_reading_the_wrong_range_or_matrix_is_noticed() -> None:
    """The test above could not fail if the matrices were all the same."""
    bgr = np.full((64, 64, 3), (200, 40, 40), np.uint8)
    right = image_from(bgr, "i420", "601", "limited")
    geometry = fit((64, 64), None, Input(width=32, height=32, fit="stretch"))
    out = np.empty((3, 32, 32), np.uint8)
    for matrix, level in (("709", "limited"), ("601", "full")):
        TensorWriter().write(Picture(Image(right.planes, "i420", matrix, level, (64, 64))), geometry, out)
        assert np.abs(out[:, 5, 5].astype(int) - [40, 40, 200]).max() > 4


def test_gray_is_the_same_in_all_channels_and_expanded_from_limited_range() -> None:
    luma = np.full((40, 40), 16 + 219 // 2, np.uint8)
    out = np.empty((3, 20, 20), np.uint8)
    geometry = fit((40, 40), None, Input(width=20, height=20, fit="stretch"))
    TensorWriter().write(Picture(Image((luma,), "gray", "601", "limited", (40, 40))), geometry, out)
    assert set(np.unique(out)) == {127}


def test_letterbox_leaves_its_filling_outside_the_picture() -> None:
    into = Input(width=64, height=64, fit="letterbox", fill=114)
    out = np.zeros((3, 64, 64), np.uint8)
    geometry = fit((128, 64), None, into)
    TensorWriter().write(Picture(image_from(np.zeros((64, 128, 3), np.uint8), "i420")), geometry, out)
    assert geometry.inner == (0, 16, 64, 48)
    assert (out[:, :16] == 114).all()
    assert (out[:, 48:] == 114).all()
    assert (out[:, 17:47] <= 1).all()


def test_a_writer_can_be_used_again_for_smaller_and_larger_pictures() -> None:
    writer, into = TensorWriter(), Input(width=48, height=32, fit="stretch")
    for size in ((640, 480), (64, 48), (1280, 720), (49, 33)):
        image = image_from(smooth_bgr(*size), "i420")
        again, fresh = (np.empty((3, 32, 48), np.uint8) for _ in range(2))
        writer.write(Picture(image), fit(size, None, into), again)
        TensorWriter().write(Picture(image), fit(size, None, into), fresh)
        assert (again == fresh).all()


def test_padded_rows_are_not_read() -> None:
    """Decoders pad rows; a view less the padding gives the same tensor as a tight copy."""
    image = image_from(smooth_bgr(100, 80), "i420")
    padded = tuple(np.pad(plane, [(0, 0), (0, 28)], constant_values=255)[:, : plane.shape[1]] for plane in image.planes)
    geometry = fit((100, 80), (10, 20, 90, 80), Input(width=32, height=32, fit="stretch"))
    outs = [np.empty((3, 32, 32), np.uint8) for _ in range(2)]
    for planes, out in zip((image.planes, padded), outs, strict=True):
        TensorWriter().write(Picture(Image(planes, "i420", "601", "limited", (100, 80))), geometry, out)
    assert (outs[0] == outs[1]).all()


def test_planes_that_do_not_fit_are_refused_with_both_shapes() -> None:
    with pytest.raises(PictureError, match=r"i420 picture of 100x80: expected planes .*\(40, 50\).* got"):
        Image((np.zeros((80, 100), np.uint8),), "i420", "601", "limited", (100, 80))


@pytest.mark.parametrize("region", [(10, 10, 10, 20), (200, 0, 300, 50), (5, 9, 4, 12)])
def test_a_region_without_pixels_is_refused(region) -> None:
    with pytest.raises(PictureError, match="has no pixels"):
        fit((100, 80), region, Input(width=32, height=32, fit="stretch"))


@pytest.mark.parametrize("pixels", ["i420", "nv12", "bgr", "rgb", "gray"])
def test_masked_areas_are_black_in_every_plane_and_the_original_is_untouched(pixels) -> None:
    image = image_from(smooth_bgr(120, 80), pixels)
    before = [plane.copy() for plane in image.planes]
    masked = black(image, [np.array([[0, 0], [60, 0], [60, 40], [0, 40]], np.int32)])
    assert all((a == b).all() for a, b in zip(image.planes, before, strict=True))
    out = np.empty((3, 80, 120), np.uint8)
    TensorWriter().write(Picture(masked), fit((120, 80), None, Input(width=120, height=80, fit="stretch")), out)
    assert out[:, :40, :60].max() <= 1
    assert out[:, 45:, 65:].min() > 10


@given(
    st.sampled_from(["i420", "nv12", "bgr", "gray"]),
    st.tuples(st.integers(-5, 70), st.integers(-5, 50), st.integers(1, 80), st.integers(1, 60)),
)
def test_a_cropped_picture_is_what_was_there_in_every_plane(pixels, box) -> None:
    image = image_from(smooth_bgr(64, 48, seed=1), pixels)
    left, top = max(0, box[0]), max(0, box[1])
    region = (box[0], box[1], box[0] + box[2], box[1] + box[3])
    right, bottom = min(64, region[2]), min(48, region[3])
    if right <= left or bottom <= top:
        with pytest.raises(PictureError):
            image.cropped(region)
        return
    part = image.cropped(region)
    left, top = left & ~1, top & ~1
    assert part.size == (right - left, bottom - top)
    assert (part.planes[0] == image.planes[0][top:bottom, left:right]).all()
    assert all(np.shares_memory(a, b) for a, b in zip(part.planes, image.planes, strict=True))
    if pixels == "i420":
        assert (part.planes[1] == image.planes[1][top // 2 : -(-bottom // 2), left // 2 : -(-right // 2)]).all()
