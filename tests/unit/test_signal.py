"""Signal-to-noise of INT8: of each layer, and of what the network says."""

from __future__ import annotations

import hashlib

import numpy as np
import onnx
import pytest
from numpy.typing import NDArray

from calibration.ranges import METHODS, observe
from calibration.signal import CEILING_DB, layer_signal_to_noise, output_signal_to_noise, outputs, predictions
from engines.graph import Normalisation, bake, serialise
from engines.qdq import Table, activations, apply, quantised_nodes, scale_of
from tests.support.models import SIZE, tiny_network

RNG = np.random.default_rng(0)
PICTURES = [RNG.integers(0, 256, (1, 3, SIZE, SIZE), np.uint8) for _ in range(4)]
NODES = ["stem", "deep", "sum", "pool", "fc"]


@pytest.fixture(scope="module")
def fp32() -> onnx.ModelProto:
    return bake(tiny_network(), Normalisation(mean=(127,), std=(128,)), "tiny")


def int8_of(fp32: onnx.ModelProto, kept_float: tuple[str, ...] = ()) -> onnx.ModelProto:
    observed = observe(fp32, activations(quantised_nodes(fp32, kept_float)), PICTURES)
    scales = {name: scale_of(METHODS["min-max"](one)) for name, one in observed.items()}
    digest = hashlib.sha256(serialise(fp32)).hexdigest()
    return apply(
        fp32,
        Table(
            model=digest,
            method="min-max",
            calibration_set="0" * 64,
            pictures=4,
            kept_float=kept_float,
            scales=scales,
        ),
    )


def detector(positions: int = 400) -> dict[str, NDArray[np.float32]]:
    """Scores of three classes, near -8 but for a few peaks, and boxes whose numbers are a thousand times as large."""
    rng = np.random.default_rng(1)
    scores = rng.normal(-8, 0.5, (2, 3, positions)).astype(np.float32)
    scores[:, 1, ::80] = 2
    return {"scores": scores, "boxes": rng.normal(0, 1000, (2, 4, positions)).astype(np.float32)}


def noisy(reference: dict[str, NDArray[np.float32]], **amounts: float) -> dict[str, NDArray[np.float32]]:
    rng = np.random.default_rng(2)
    return {
        name: (values + amounts.get(name, 0) * rng.normal(0, 1, values.shape)).astype(np.float32)
        for name, values in reference.items()
    }


def test_layers_of_an_int8_network_keep_most_of_their_signal(fp32: onnx.ModelProto) -> None:
    """Each layer has a figure, of some tens of dB."""
    found = layer_signal_to_noise(fp32, int8_of(fp32), NODES, PICTURES)
    assert list(found) == NODES
    assert all(20 < decibels < 60 for decibels in found.values())


def test_layers_before_the_first_int8_one_lose_nothing(fp32: onnx.ModelProto) -> None:
    """And one that stays in float still has the noise that reaches it."""
    found = layer_signal_to_noise(fp32, int8_of(fp32, ("stem", "sum")), NODES, PICTURES)
    assert found["stem"] == CEILING_DB
    assert found["deep"] < 60
    assert found["sum"] < 60


def test_the_figure_of_a_layer_is_that_of_its_definition(fp32: onnx.ModelProto) -> None:
    """Ten times the logarithm of power over power of the difference."""
    int8 = int8_of(fp32)
    a, b = outputs(fp32, ["logits"], PICTURES)["logits"], outputs(int8, ["logits"], PICTURES)["logits"]
    expected = 10 * np.log10(np.square(a).sum() / np.square(a - b).sum())
    assert layer_signal_to_noise(fp32, int8, ["fc"], PICTURES)["fc"] == pytest.approx(expected, abs=1e-3)


def test_what_a_classifier_says_is_its_logits(fp32: onnx.ModelProto) -> None:
    assert predictions(fp32) == ["logits"]
    reference = outputs(fp32, ["logits"], PICTURES)
    assert reference["logits"].shape == (4, 5)
    whole = output_signal_to_noise(reference, outputs(int8_of(fp32), ["logits"], PICTURES))
    part = output_signal_to_noise(reference, outputs(int8_of(fp32, ("stem", "deep")), ["logits"], PICTURES))
    assert 5 < whole < part < 60


def test_the_same_outputs_have_no_noise() -> None:
    assert output_signal_to_noise(detector(), detector()) == CEILING_DB


def test_ten_times_the_noise_is_twenty_decibels() -> None:
    small = output_signal_to_noise(detector(), noisy(detector(), scores=0.01, boxes=1))
    large = output_signal_to_noise(detector(), noisy(detector(), scores=0.1, boxes=10))
    assert small - large == pytest.approx(20, abs=0.1)


def test_the_scale_of_a_tensor_does_not_matter() -> None:
    """Boxes in pixels or in strides, scores in logits of whatever base."""
    reference, other = detector(), noisy(detector(), scores=0.1, boxes=30)
    scaled = [{"scores": part["scores"], "boxes": part["boxes"] / 1024} for part in (reference, other)]
    assert output_signal_to_noise(*scaled) == pytest.approx(output_signal_to_noise(reference, other), abs=1e-3)


def test_noise_where_objects_are_counts_more_than_in_the_background() -> None:
    """The same amount of it, in the scores as in the boxes."""
    reference = detector()
    sign = np.where(np.arange(reference["scores"].shape[2]) // 80 % 2, 1, -1)
    for name, amount in (("scores", 1.0), ("boxes", 1000.0)):
        objects, background = detector(), detector()
        objects[name][:, :, ::80] += amount * sign[::80]
        background[name][:, :, 1::80] += amount * sign[1::80]
        assert output_signal_to_noise(reference, objects) < output_signal_to_noise(reference, background) - 10


def test_what_shifts_all_scores_alike_is_no_noise() -> None:
    """It changes no order, nor the shares of a softmax."""
    for reference, name in ((detector(), "scores"), ({"logits": np.eye(3, dtype=np.float32)}, "logits")):
        assert output_signal_to_noise(reference, {**reference, name: reference[name] + 0.5}) > 100


def test_a_channel_that_says_nothing_does_not_drown_the_rest() -> None:
    """One that is constant in FP32, and nearly so in INT8."""
    reference = detector()
    reference["scores"][:, 2] = -9
    other = noisy(reference, scores=0.01, boxes=10)
    assert output_signal_to_noise(reference, other) > 20


def test_a_single_picture_and_outputs_that_never_change_have_a_figure() -> None:
    one = {"logits": np.array([[1.0, 2.0, 9.0]], np.float32)}
    assert 20 < output_signal_to_noise(one, {"logits": one["logits"] * np.float32(1.05)}) < 40
    flat = {"map": np.ones((1, 2, 4, 4), np.float32)}
    assert output_signal_to_noise(flat, flat) == CEILING_DB
    rising = np.arange(32, dtype=np.float32).reshape(1, 2, 4, 4)
    assert output_signal_to_noise(flat, {"map": rising}) < 0


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_an_int8_network_that_overflows_is_all_noise(value: float) -> None:
    other = detector()
    other["scores"][0, 0, 0] = value
    assert output_signal_to_noise(detector(), other) == -CEILING_DB
