"""Cards: read, written, and held against the graph they describe."""

from __future__ import annotations

from pathlib import Path

import onnx
import pytest
from onnx import TensorProto
from pydantic import ValidationError

from engines.card import ModelFile, model_file, read_card, sha256_of, write_card
from engines.errors import CardError, ModelFileError
from engines.graph import Normalisation, bake, check_fits, free_batch
from engines.tasks import classify
from tests.support.models import tiny_network
from tests.unit.test_store import card

TASK = classify.Config(scores="logits")


@pytest.fixture
def network() -> onnx.ModelProto:
    return free_batch(bake(tiny_network(), Normalisation(), "tiny"))


def test_survives_the_disk(tmp_path: Path) -> None:
    """Written and read back, it is equal; nothing partial stays."""
    write_card(card(), tmp_path)
    assert read_card(tmp_path) == card()
    assert [path.name for path in tmp_path.iterdir()] == ["card.yaml"]


def test_names_every_mistake(tmp_path: Path) -> None:
    """All at once, with the path."""
    (tmp_path / "card.yaml").write_text("schema: sightwire.card/1\nname: A!\nlabels: []\nmax_batch: 0\n")
    with pytest.raises(CardError) as caught:
        read_card(tmp_path)
    for part in ("card.yaml", "name:", "labels:", "max_batch:", "origin:"):
        assert part in str(caught.value)


def test_a_model_file_is_held_against_its_sha256(tmp_path: Path) -> None:
    """Sound, cut short, absent, or of a precision that the card does not have."""
    path = tmp_path / "model.onnx"
    path.write_bytes(b"weights")
    described = card(files={"fp32": ModelFile(path="model.onnx", sha256=sha256_of(path))})
    assert model_file(described, tmp_path, "fp32") == path
    with pytest.raises(CardError, match="has no int8 file, only fp32"):
        model_file(described, tmp_path, "int8")
    path.write_bytes(b"weight")
    with pytest.raises(ModelFileError, match=r"model\.onnx: sha256 is"):
        model_file(described, tmp_path, "fp32")
    path.unlink()
    with pytest.raises(ModelFileError, match="cannot be read"):
        model_file(described, tmp_path, "fp32")
    path.symlink_to("/dev/zero")
    with pytest.raises(ModelFileError, match="is no file"):
        model_file(described, tmp_path, "fp32")


@pytest.mark.parametrize("path", ["/dev/zero", "../other/model.onnx", "a/../../b"])
def test_a_card_names_files_of_its_own_folder(path: str) -> None:
    with pytest.raises(ValidationError, match="is not in the model's folder"):
        ModelFile(path=path, sha256="0" * 64)


def test_fits(network: onnx.ModelProto) -> None:
    """A graph that is what its card says passes."""
    check_fits(card(max_batch=4), network, TASK)


def test_label_list_of_the_wrong_length(network: onnx.ModelProto) -> None:
    """Both numbers are in the error."""
    with pytest.raises(
        CardError, match=r"thing: output logits has rows of shape \(5\), but 2 labels .* want \(2\); 5 labels would fit"
    ):
        check_fits(card(labels=("a", "b")), network, TASK)


def test_output_that_the_graph_lacks(network: onnx.ModelProto) -> None:
    """By name, with those that it has."""
    with pytest.raises(CardError, match="thing: has no output 'scores', only logits"):
        check_fits(card(), network, classify.Config(scores="scores"))


def test_input_of_another_size(network: onnx.ModelProto) -> None:
    """Found and expected are in the error."""
    described = card(input={"width": 32, "height": 16, "fit": "stretch"})
    with pytest.raises(CardError, match=r"images is uint8 \(-1, 3, 16, 16\), the card says uint8 \(N, 3, 16, 32\)"):
        check_fits(described, network, TASK)


def test_input_of_another_type_or_name(network: onnx.ModelProto) -> None:
    """Float pictures are not what engines are fed."""
    network.graph.input[0].type.tensor_type.elem_type = TensorProto.FLOAT
    with pytest.raises(CardError, match="images is float"):
        check_fits(card(), network, TASK)
    with pytest.raises(CardError, match="the graph's inputs are input; expected one, named images"):
        check_fits(card(), tiny_network(), TASK)


def test_batch_that_the_graph_does_not_take() -> None:
    """A graph fixed at one picture cannot have a card that says four."""
    fixed = bake(tiny_network(), Normalisation(), "tiny")
    with pytest.raises(CardError, match="fixed at batch 1, the card says max_batch 4"):
        check_fits(card(max_batch=4), fixed, TASK)
