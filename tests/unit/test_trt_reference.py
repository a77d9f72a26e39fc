"""What two honest engines may differ by passes, what a wrong one computes does not."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest

from engines.backends import onnxruntime
from engines.base import Batch, Engine, Raw, Ticket
from engines.card import Card, model_file
from engines.errors import BackendError
from engines.graph import constant, constants, load, serialise
from engines.pixels import Geometry, Picture
from engines.trt.reference import Reference, check, differs, distance, expected, outputs, probe_pictures, unsettled
from tests.support.models import SIZE
from tests.support.plans import tiny_store

Network = tuple[Card, Path]


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Network:
    card, folder = tiny_store(tmp_path_factory.mktemp("models")).find("tiny")
    return card, folder


@pytest.fixture(scope="module")
def wanted(tiny: Network) -> Reference:
    card, folder = tiny
    return expected(model_file(card, folder, "int8"), card, "int8", probe_pictures((SIZE, SIZE), 4))


def other_engine(card: Card, model: Path) -> Engine:
    return onnxruntime.Config(provider="cpu", threads=1, batch=4).build(card, model, "int8")


class Wrong(Engine):
    """An engine that changes what another one says."""

    depth = 1

    def __init__(self, engine: Engine, change: Callable[[Raw], Raw]) -> None:
        self.inputs, self.outputs, self.max_batch = engine.inputs, engine.outputs, engine.max_batch
        self._engine, self._change = engine, change

    def prepare(self, pictures: Sequence[Picture], geometries: Sequence[Geometry]) -> Batch:
        return self._engine.prepare(pictures, geometries)

    def submit(self, batch: Batch) -> Ticket:
        return self._engine.submit(batch)

    def __call__(self, pictures: Sequence[Picture], geometries: Sequence[Geometry]) -> Raw:
        return self._change(self._engine(pictures, geometries))

    def close(self) -> None:
        self._engine.close()


def verdict(tiny: Network, wanted: Reference, change: Callable[[Raw], Raw] = lambda raw: raw) -> str | None:
    card, folder = tiny
    engine = other_engine(card, model_file(card, folder, "int8"))
    try:
        return check(Wrong(engine, change), probe_pictures((SIZE, SIZE), 4), wanted)[1]
    finally:
        engine.close()


def test_probe_pictures_are_always_the_same_and_fill_whole_batches() -> None:
    pictures = probe_pictures((48, 32), 3)
    assert pictures.shape == (9, 3, 32, 48)
    assert pictures.dtype == np.uint8
    assert (pictures == probe_pictures((48, 32), 3)).all()
    assert len({picture.tobytes() for picture in pictures}) == 9
    assert len(probe_pictures((48, 32), 16)) == 16


def test_pixels_move_by_a_level_at_most() -> None:
    pictures = probe_pictures((48, 32), 1)
    moved = unsettled(pictures).astype(int) - pictures
    assert set(np.unique(moved)) == {-1, 0, 1}


def test_another_engine_of_the_same_file_passes(tiny: Network, wanted: Reference) -> None:
    assert verdict(tiny, wanted) is None


@pytest.mark.parametrize(
    ("change", "why"),
    [
        (lambda raw: {"logits": raw["logits"][::-1]}, "from what is expected"),
        (lambda raw: {"logits": raw["logits"][:, ::-1]}, "from what is expected"),
        (lambda raw: {"logits": raw["logits"] * 2}, "from what is expected"),
        (lambda raw: {"logits": raw["logits"] * 0}, "from what is expected"),
        (lambda raw: {"logits": raw["logits"] * np.nan}, "is not a number"),
        (lambda raw: {"logits": raw["logits"] + np.inf}, "is not a number"),
        (lambda raw: {"logits": raw["logits"][:, :4]}, r"is \(8, 4\), expected \(8, 5\)"),
        (lambda raw: {"scores": raw["logits"]}, r"not those of the model \(logits, scores\)"),
        (lambda _: {}, "not those of the model"),
    ],
)
def test_outputs_that_are_wrong_do_not_pass(tiny: Network, wanted: Reference, change, why: str) -> None:
    assert re.search(why, str(verdict(tiny, wanted, change)))


def test_one_wrong_row_of_one_size_of_batch_does_not_pass(tiny: Network, wanted: Reference) -> None:
    def last_of_three(raw: Raw) -> Raw:
        logits = raw["logits"].copy()
        if len(logits) == 3:
            logits[2] = logits[0]
        return {"logits": logits}

    assert str(verdict(tiny, wanted, last_of_three)).endswith("in batches of 3")


def test_exchanged_channels_do_not_pass(tiny: Network, wanted: Reference) -> None:
    card, folder = tiny
    engine = other_engine(card, model_file(card, folder, "int8"))
    found = outputs(engine, np.ascontiguousarray(probe_pictures((SIZE, SIZE), 4)[:, ::-1]), 4)
    engine.close()
    assert differs(wanted, found)


@pytest.mark.parametrize("name", ["stem.w", "deep.w", "fc.w"])
def test_a_layer_without_its_weights_does_not_pass(tiny: Network, wanted: Reference, name: str, tmp_path: Path) -> None:
    card, folder = tiny
    model = load(model_file(card, folder, "int8"))
    tensors = [tensor for tensor in model.graph.initializer if tensor.name.startswith(name) and len(tensor.dims) > 1]
    assert tensors
    for tensor in tensors:
        tensor.CopyFrom(constant(tensor.name, np.zeros_like(constants(model)[tensor.name])))
    path = tmp_path / "broken.onnx"
    path.write_bytes(serialise(model))
    engine = other_engine(card, path)
    found = outputs(engine, probe_pictures((SIZE, SIZE), 4), 4)
    engine.close()
    assert differs(wanted, found)


def test_what_is_let_pass_is_more_where_a_network_is_restless(tiny: Network, wanted: Reference) -> None:
    assert 0.1 <= wanted.limit <= 0.9


def test_a_head_is_not_hidden_behind_the_others() -> None:
    """Ten of 320 anchors are wrong, or one of three columns, beside one that is a thousand times as large."""
    rng = np.random.default_rng(0)
    right = rng.normal(0, 1, (8, 320, 3)) * [1000, 1, 1]
    part, column = right.copy(), right.copy()
    part[:, 40:50] = rng.normal(0, 1, (8, 10, 3)) * [1000, 1, 1]
    column[..., 2] = rng.normal(0, 1, (8, 320))
    assert distance({"out": right}, {"out": right * 1.01})[0] < 0.02
    assert distance({"out": right}, {"out": part})[0] > 1
    assert distance({"out": right}, {"out": column})[0] > 1


def test_what_never_changes_is_measured_by_its_size() -> None:
    anchors = np.tile(np.arange(100.0), (8, 1))
    assert distance({"out": anchors}, {"out": anchors * 1.0005})[0] < 0.1
    assert distance({"out": anchors}, {"out": anchors * 1.1})[0] > 1


def test_rows_that_the_network_ranks_may_change_places() -> None:
    rng = np.random.default_rng(0)
    boxes = rng.normal(0, 1, (8, 300, 4))
    shuffled = boxes[:, rng.permutation(300)]
    assert distance({"boxes": boxes}, {"boxes": shuffled})[0] > 1
    assert distance({"boxes": boxes}, {"boxes": shuffled}, ranked=True)[0] == 0


def test_a_model_that_is_no_number_itself_is_said(tiny: Network, tmp_path: Path) -> None:
    card, folder = tiny
    model = load(model_file(card, folder, "fp32"))
    for tensor in model.graph.initializer:
        if tensor.name == "fc.b":
            tensor.CopyFrom(constant("fc.b", np.full(5, np.nan, np.float32)))
    path = tmp_path / "broken.onnx"
    path.write_bytes(serialise(model))
    with pytest.raises(BackendError, match="not a number on the CPU either"):
        expected(path, card, "fp32", probe_pictures((SIZE, SIZE), 1))
