"""Calibration and run time make the same tensors: byte for byte in one pixel format, nearly so across formats."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper

from calibration.pictures import Sample, from_files, in_way, tensor
from engines.backends import fake
from engines.base import Engine
from engines.card import Card, Input
from engines.pixels import Image, Picture, fit
from tests.support.agents import fake_store
from tests.support.backends import BACKENDS
from tests.support.photos import photo, shared_photos
from tests.support.pictures import image_from

WIDTH, HEIGHT = 48, 32
MEANS = {"scores": (3,)}

inputs = st.builds(
    Input,
    width=st.just(WIDTH),
    height=st.just(HEIGHT),
    fit=st.sampled_from(["stretch", "letterbox", "crop"]),
    resize=st.sampled_from(["area", "linear"]),
    fill=st.integers(0, 255),
    align=st.sampled_from(["centre", "top-left"]),
    crop=st.floats(0.3, 1.0),
)
sizes = st.tuples(st.integers(2, 300), st.integers(2, 300))


@st.composite
def regions(draw: st.DrawFn) -> tuple[tuple[int, int], tuple[int, int, int, int] | None]:
    width, height = draw(sizes)
    left, top = draw(st.integers(0, width - 1)), draw(st.integers(0, height - 1))
    region = (left, top, draw(st.integers(left + 1, width)), draw(st.integers(top + 1, height)))
    return (width, height), draw(st.sampled_from([None, region]))


def pixels_model(path: Path) -> Path:
    """ONNX that gives out what it gets."""
    graph = helper.make_graph(
        [helper.make_node("Cast", ["images"], ["scores"], to=TensorProto.FLOAT)],
        "pixels",
        [helper.make_tensor_value_info("images", TensorProto.UINT8, ["N", 3, HEIGHT, WIDTH])],
        [helper.make_tensor_value_info("scores", TensorProto.FLOAT, ["N", 3, HEIGHT, WIDTH])],
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), path)
    return path


@pytest.fixture(scope="module")
def engines(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Engine]]:
    """Each kind that prepares pictures, on a network that gives out its input (the fake one: its means)."""
    card: Card = fake_store(tmp_path_factory.mktemp("store")).find("classes")[0]
    card = card.model_copy(update={"input": Input(width=WIDTH, height=HEIGHT, fit="stretch")})
    model = pixels_model(tmp_path_factory.mktemp("model") / "pixels.onnx")
    configs = {"fake": fake.Config(outputs=MEANS), **{name: BACKENDS[name] for name in ("openvino", "onnxruntime")}}
    built = {name: config.build(card, model, "fp32") for name, config in configs.items()}
    for engine in built.values():  # their threads are there now, not only in a test
        engine([Picture(image_from(photo(0, 64, 48), "bgr"))], [fit((64, 48), None, card.input)])
    yield built
    for engine in built.values():
        engine.close()


@settings(max_examples=60, deadline=None)
@given(
    regions(),
    inputs,
    st.sampled_from(["i420", "nv12", "bgr", "rgb", "gray"]),
    st.sampled_from(["601", "709"]),
    st.sampled_from(["limited", "full"]),
)
def test_calibration_sees_what_every_engine_is_given(engines, case, into, pixels, matrix, level) -> None:
    size, region = case
    image = image_from(photo(1, *size), pixels, matrix, level)
    calibrated, geometry = tensor(Sample("picture", "", lambda: image), into, region)
    assert geometry == fit(size, region, into)
    for name, engine in engines.items():
        given_out = engine([Picture(image, region)], [geometry])["scores"]
        if name == "fake":
            means = calibrated.mean(axis=(2, 3), dtype=np.float32) / np.float32(255)
            assert given_out.tobytes() == means.tobytes()
        else:
            assert given_out.astype(np.uint8).tobytes() == calibrated.tobytes(), name


def apart(one: Image, other: Image, into: Input) -> float:
    a, b = (tensor(Sample("picture", "", lambda image=image: image), into)[0] for image in (one, other))
    return float(np.abs(a.astype(int) - b).mean())


FITS = [
    Input(width=224, height=224, fit="crop", crop=0.875),
    Input(width=208, height=208, fit="letterbox", resize="linear", fill=114, align="top-left"),
    Input(width=150, height=150, fit="stretch"),
]


def as_nv12(image: Image) -> Image:
    return Image((image.planes[0], np.dstack(image.planes[1:])), "nv12", image.matrix, image.range, image.size)


@pytest.mark.parametrize("into", FITS, ids=lambda into: into.fit)
@pytest.mark.parametrize("seed", range(4))
def test_a_photo_is_nearly_the_same_tensor_in_every_way(seed, into) -> None:
    """At most two levels on average, of sides that are odd and even."""
    bgr = image_from(photo(seed, 640 - seed, 361 + seed), "bgr")
    i420 = in_way(bgr, "i420")
    for other in (i420, as_nv12(i420), in_way(i420, "bgr")):
        assert apart(bgr, other, into) <= 2


def test_real_photos_are_nearly_the_same_tensors_in_both_ways() -> None:
    paths = shared_photos()[::25]
    if not paths:
        pytest.skip("SIGHTWIRE_SHARED names no folder of photos")
    for path in paths:
        (bgr,), (i420,) = (from_files(path.parent, [path.name], way) for way in ("bgr", "i420"))
        assert all(apart(bgr.read(), i420.read(), into) <= 2 for into in FITS), path


@settings(max_examples=40, deadline=None)
@given(
    st.tuples(st.integers(1, 40), st.integers(1, 40)),
    st.sampled_from(["i420", "nv12", "gray"]),
    st.sampled_from(["601", "709"]),
    st.sampled_from(["limited", "full"]),
)
def test_what_a_decoder_delivers_keeps_every_byte_of_its_planes_as_i420(size, pixels, matrix, level) -> None:
    delivered = image_from(photo(0, *size), pixels, matrix, level)
    image = in_way(delivered, "i420")
    assert (image.format, image.matrix, image.range, image.size) == ("i420", matrix, level, size)
    assert image.planes[0] is delivered.planes[0]
    if pixels == "nv12":
        np.testing.assert_array_equal(np.dstack(image.planes[1:]), delivered.planes[1])
    if pixels == "i420":
        assert image is delivered


@settings(max_examples=40, deadline=None)
@given(st.tuples(st.integers(1, 60), st.integers(1, 60)), st.sampled_from(["bgr", "rgb"]))
def test_to_i420_a_photo_goes_by_the_standard(size, pixels) -> None:
    """BT.601, limited range, chroma by means of 2x2: within a level of the formula in floating point."""
    bgr = photo(3, *size)
    image, expected = in_way(image_from(bgr, pixels), "i420"), image_from(bgr, "i420", "601", "limited")
    assert (image.format, image.matrix, image.range) == ("i420", "601", "limited")
    for plane, right in zip(image.planes, expected.planes, strict=True):
        assert np.abs(plane.astype(int) - right).max() <= 1


@pytest.mark.parametrize("matrix", ["601", "709"])
@pytest.mark.parametrize("level", ["limited", "full"])
@pytest.mark.parametrize("pixels", ["i420", "nv12", "rgb", "gray"])
def test_to_bgr_a_picture_goes_by_its_own_matrix_and_range(pixels, matrix, level) -> None:
    bgr = cv2.GaussianBlur(photo(5, 241, 161), (9, 9), 0)
    if pixels == "gray":
        bgr = cv2.merge([cv2.cvtColor(bgr, cv2.COLOR_BGR2GRAY)] * 3)
    image = in_way(image_from(bgr, pixels, matrix, level), "bgr")
    assert image.format == "bgr"
    assert np.abs(image.planes[0].astype(int) - bgr).mean() < 2
