"""`nanodet-m@int8@openvino:GPU`: which model and what runs it."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from agent.commands._engine import choose
from engines.backends import onnxruntime, openvino
from engines.card import CARD_FILE
from engines.errors import EngineError
from engines.store import ModelStore
from tests.support.measured import made_store


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> ModelStore:
    return made_store(tmp_path_factory.mktemp("store"))


@pytest.mark.parametrize(
    ("text", "precision", "backend"),
    [
        ("tiny", "int8", openvino.Config()),
        ("other", "fp32", openvino.Config()),
        ("tiny@fp32", "fp32", openvino.Config()),
        ("tiny@auto", "int8", openvino.Config()),
        ("tiny@openvino:GPU@fp32", "fp32", openvino.Config(device="GPU")),
        ("tiny@openvino:AUTO:GPU.1,CPU", "int8", openvino.Config(device="AUTO:GPU.1,CPU")),
        ("tiny@bf16", "int8", openvino.Config(float_precision="bf16")),
        ("tiny@fp32@openvino:GPU@f16", "fp32", openvino.Config(device="GPU", float_precision="f16")),
        ("tiny@int8@onnxruntime", "int8", onnxruntime.Config()),
        ("tiny@onnxruntime:cpu", "int8", onnxruntime.Config(provider="cpu")),
    ],
)
def test_words_behind_the_name_say_file_and_backend(
    store: ModelStore, text: str, precision: str, backend: object
) -> None:
    choice = choose(text, store)
    assert (choice.precision, choice.backend) == (precision, backend)
    assert choice.card.name == text.partition("@")[0]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("tiny@int88", "tiny@int88: 'int88' is not known, did you mean 'int8'?"),
        ("tiny@openvin", "did you mean 'openvino'?"),
        ("tiny@", "'' is not known; known: fp32, int8; f32, bf16, f16; auto, fake, onnxruntime, openvino, tensorrt"),
        ("tiny@fp32@int8", "says two things of one kind, 'fp32' and 'int8'"),
        ("tiny@openvino@onnxruntime:cpu", "says two things of one kind, 'openvino' and 'onnxruntime:cpu'"),
        ("tiny@openvino:XPU", "openvino knows no device 'XPU'"),
        ("tiny@onnxruntime:GPU", "onnxruntime knows no provider 'GPU'"),
        ("tiny@onnxruntime@bf16", "onnxruntime has no choice of float precision"),
        ("tiny@fake", "fake cannot be used without outputs"),
        ("tiny@fake:CPU", "fake has no devices to choose from"),
        ("other@int8", "other@int8: other has no int8 file, only fp32"),
        ("tinny", "there is no model 'tinny', did you mean 'tiny'?"),
        ("", "there is no model ''"),
        ("@int8", "there is no model ''"),
        ("absent/card.yaml@int8", "absent/card.yaml: no such model card"),
        ("absent.onnx", "absent.onnx: cannot be read (No such file or directory)"),
    ],
)
def test_a_mistake_is_one_line_that_says_what_is_known(store: ModelStore, text: str, expected: str) -> None:
    with pytest.raises(EngineError) as error:
        choose(text, store)
    assert expected in str(error.value)
    assert "\n" not in str(error.value)


def test_a_device_that_is_not_here_is_said_with_the_choice(store: ModelStore) -> None:
    with pytest.raises(EngineError, match=r"^tiny@openvino:NPU@f16: OpenVINO finds no NPU here"):
        choose("tiny@openvino:NPU@f16", store).open()


def test_paths_may_have_an_at_of_their_own(store: ModelStore, tmp_path: Path) -> None:
    folder = tmp_path / "a@int8" / "tiny@2x"
    shutil.copytree(store.root / "tiny", folder)
    for text in (f"{folder}", f"{folder}@int8", f"{folder / CARD_FILE}@onnxruntime@int8"):
        assert choose(text, store).folder == folder
        assert choose(text, store).precision == "int8"


def test_an_onnx_file_is_read_by_the_card_beside_it(store: ModelStore, tmp_path: Path) -> None:
    folder = tmp_path / "tiny"
    shutil.copytree(store.root / "tiny", folder)
    assert choose(str(folder / "fp32.onnx"), store).precision == "fp32"
    assert choose(f"{folder / 'int8.onnx'}@onnxruntime", store).precision == "int8"
    for precision, other in (("fp32", store.root / "other" / "fp32.onnx"), ("int8", folder / "int8.onnx")):
        shutil.copy(other, folder / "new.onnx")
        with (folder / "new.onnx").open("ab") as file:  # a field that ONNX does not know
            file.write(b"\xfa\x7f\x00")
        choice = choose(str(folder / "new.onnx"), store)
        assert choice.precision == precision
        choice.open().close()
        with pytest.raises(EngineError, match=f"is the {precision} file, not the"):
            choose(f"{folder / 'new.onnx'}@{'fp32' if precision == 'int8' else 'int8'}", store)


def test_an_onnx_file_without_a_card_is_refused(store: ModelStore, tmp_path: Path) -> None:
    shutil.copy(store.root / "tiny" / "fp32.onnx", tmp_path)
    with pytest.raises(EngineError, match="no such model card; an ONNX file alone does not say how it is fed and read"):
        choose(str(tmp_path / "fp32.onnx"), store)
