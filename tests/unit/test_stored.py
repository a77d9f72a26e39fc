"""Pictures in files: every byte of every plane comes back, and what was changed is refused."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engines.errors import PictureError
from engines.pixels import Image
from engines.stored import SUFFIX, most_bytes, pack, unpack
from tests.support.pictures import image_from, smooth_bgr

FORMATS = ("i420", "nv12", "bgr", "rgb", "gray")


def made(pixels: str, width: int, height: int, seed: int = 0) -> Image:
    return image_from(smooth_bgr(width, height, seed), pixels, "709", "full" if pixels in ("bgr", "rgb") else "limited")


def padded(like: np.ndarray, seed: int) -> np.ndarray:
    """Noise of that shape in rows that are longer, as decoders leave them."""
    rows, columns, *channels = like.shape
    return np.random.default_rng(seed).integers(0, 256, (rows, columns + 3, *channels), np.uint8)[:, :columns]


@settings(max_examples=60, deadline=None)
@given(
    pixels=st.sampled_from(FORMATS),
    matrix=st.sampled_from(("601", "709")),
    level=st.sampled_from(("limited", "full")),
    size=st.tuples(st.integers(1, 41), st.integers(1, 41)),
    seed=st.integers(0, 2**32 - 1),
)
def test_what_is_packed_comes_back_byte_for_byte(pixels, matrix, level, size, seed) -> None:
    width, height = size
    planes = tuple(padded(plane, seed) for plane in made(pixels, width, height).planes)
    image = Image(planes, pixels, matrix, level, size)
    data = pack(image)
    back = unpack(data, "x" + SUFFIX)
    assert back is not None
    assert (back.format, back.matrix, back.range, back.size) == (pixels, matrix, level, size)
    for mine, theirs in zip(image.planes, back.planes, strict=True):
        np.testing.assert_array_equal(mine, theirs)
    assert len(data) <= most_bytes(image), "pure noise is the worst there is"


@pytest.mark.parametrize("pixels", ["i420", "bgr"])
def test_a_large_picture_of_noise_is_no_larger_than_was_said(pixels) -> None:
    size = (640, 360)
    image = Image(tuple(padded(plane, 0) for plane in made(pixels, *size).planes), pixels, "709", "limited", size)
    assert len(pack(image)) <= most_bytes(image)


@pytest.mark.parametrize("pixels", FORMATS)
def test_any_program_shows_it_with_every_place_where_it_is_in_the_picture(pixels) -> None:
    bgr = smooth_bgr(64, 48)
    shown = cv2.imdecode(np.frombuffer(pack(image_from(bgr, pixels, "601", "full")), np.uint8), cv2.IMREAD_COLOR)
    if pixels in ("bgr", "rgb"):
        np.testing.assert_array_equal(shown, bgr)
    else:
        luma = image_from(bgr, "gray", "601", "full").planes[0]
        np.testing.assert_array_equal(shown[:48, :, 0], luma)


def test_pictures_of_others_are_left_to_their_own_decoders() -> None:
    bgr = smooth_bgr(16, 16)
    for ending in (".png", ".jpg"):
        assert unpack(cv2.imencode(ending, bgr)[1].tobytes(), f"photo{ending}") is None
    assert unpack(b"", "empty.png") is None


def test_one_whose_facts_were_stripped_is_not_taken_for_a_tall_grey_photo() -> None:
    stripped = cv2.imencode(".png", np.zeros((24, 16), np.uint8))[1].tobytes()
    with pytest.raises(PictureError, match=r"dock-0001\.planes\.png: has lost"):
        unpack(stripped, "/data/dock-0001.planes.png")


@settings(max_examples=60, deadline=None)
@given(at=st.integers(0, 2**31), how=st.sampled_from(("cut", "flip")), bit=st.integers(0, 7))
def test_damage_anywhere_is_an_error_with_the_name_of_the_file(at, how, bit) -> None:
    data = bytearray(pack(made("i420", 33, 21)))
    at %= len(data)
    if how == "cut":
        del data[at:]
    else:
        data[at] ^= 1 << bit
    with pytest.raises(PictureError, match=r"^x\.planes\.png: "):
        unpack(bytes(data), "x" + SUFFIX)


def test_facts_that_do_not_fit_the_pixels_are_an_error() -> None:
    small, large = pack(made("i420", 16, 16)), pack(made("i420", 18, 16))
    start = small.index(b"tEXt") - 4
    end = small.index(b"IDAT") - 4
    other = large[: large.index(b"tEXt") - 4] + small[start:end] + large[large.index(b"IDAT") - 4 :]
    with pytest.raises(PictureError, match="is not the i420 picture that it says it is"):
        unpack(other, "x" + SUFFIX)
