"""`models import` and `models try` as a user meets them, from a file to a picture."""

from __future__ import annotations

import json
import os
from pathlib import Path

import cv2
import numpy as np
import pytest
from typer.testing import CliRunner

from agent.commands._app import app
from tests.support.exports import export, ultralytics
from tests.support.pictures import smooth_bgr

SIZE = (64, 64)


@pytest.fixture(autouse=True)
def models(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty model folder, and a folder with nothing in it to work in."""
    (tmp_path / "work").mkdir()
    monkeypatch.chdir(tmp_path / "work")
    monkeypatch.setenv("SIGHTWIRE_MODELS", str(tmp_path / "models"))
    monkeypatch.setenv("COLUMNS", "160")
    return tmp_path / "models"


@pytest.fixture
def best(tmp_path: Path) -> Path:
    path = tmp_path / "Best Helmets.onnx"
    model = export({"output0": (7, 84)}, size=SIZE, end="Sigmoid", metadata=ultralytics(size=SIZE))
    path.write_bytes(model.SerializeToString())
    return path


@pytest.fixture
def picture(tmp_path: Path) -> Path:
    path = tmp_path / "street.jpg"
    cv2.imwrite(str(path), smooth_bgr(320, 240))
    return path


def sightwire(*arguments: str | Path) -> tuple[int, str, str]:
    done = CliRunner().invoke(app, [*map(str, arguments)], catch_exceptions=False)
    return done.exit_code, done.stdout, done.stderr


def test_an_export_becomes_a_model_and_its_results_a_picture(best: Path, picture: Path, tmp_path: Path) -> None:
    status, out, err = sightwire("models", "import", best, "--task", "boxes=unit", "--max-batch", "2")
    assert (status, err) == (0, "")
    assert "labels" in out
    assert "metadata" in out
    assert "best-helmets: fp32 in" in out
    status, out, err = sightwire(
        "models", "try", "best-helmets", picture, "--threshold", "0.1", "--out", tmp_path / "seen.png"
    )
    assert (status, err) == (0, "")
    assert "kind " in out
    drawn = cv2.imread(str(tmp_path / "seen.png"))
    assert drawn.shape == (240, 320, 3)
    assert np.abs(drawn.astype(int) - cv2.imread(str(picture))).max() > 60
    assert sightwire("models", "show", "best-helmets")[0] == 0


def test_json_says_the_same_for_machines(best: Path, picture: Path, tmp_path: Path) -> None:
    told = ["--name", "ppe", "--licence", "MIT", "--task", "boxes=unit", "--max-batch", "1"]
    status, out, _ = sightwire("models", "import", best, *told, "--json")
    card = json.loads(out)
    assert (status, card["name"], card["origin"]["licence"]) == (0, "ppe", "MIT")
    assert card["imported"]["facts"]["labels"] == "metadata"
    (tmp_path / "more").mkdir()
    for index in range(2):
        (tmp_path / "more" / f"{index}.jpg").write_bytes(picture.read_bytes())
    status, out, _ = sightwire(
        "models", "try", "ppe", tmp_path / "more", "--out", tmp_path / "seen", "--threshold", "0.01", "--json"
    )
    pictures = json.loads(out)["pictures"]
    assert (status, len(pictures)) == (0, 2)
    assert all(Path(seen["drawn"]).is_file() for seen in pictures)
    assert {"label", "score", "box"} <= set(pictures[0]["detections"][0])


def test_a_classifier_gets_a_panel_beside_the_working_folder(tmp_path: Path, picture: Path) -> None:
    path = tmp_path / "scene.onnx"
    path.write_bytes(export({"logits": (3,)}).SerializeToString())
    told = ["--mean", "imagenet", "--crop", "0.9", "--labels", "day,night,dusk", "--max-batch", "1"]
    assert sightwire("models", "import", path, "--family", "timm", *told)[0] == 0
    status, out, _ = sightwire("models", "try", "scene", picture)
    assert status == 0
    assert all(label in out for label in ("day", "night", "dusk"))
    assert Path("street.scene.png").is_file()


def test_families_are_listed() -> None:
    status, out, _ = sightwire("models", "import", "--families")
    assert status == 0
    assert "yolov8" in out
    assert {row["family"] for row in json.loads(sightwire("models", "import", "--families", "--json")[1])} >= {"yolox"}


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (("import",), "name the ONNX file"),
        (("import", "no.onnx", "--family", "yolov8"), "no.onnx: cannot be read (No such file or directory)"),
        (("import", "BEST", "--size", "wide"), "--size wide: expected WIDTHxHEIGHT"),
        (("import", "BEST", "--layout", "chw"), "--layout chw: expected nchw or nhwc"),
        (("import", "BEST", "--task", "iou"), "--task iou: expected KEY=VALUE"),
        (("import", "BEST", "--labels", "a,b"), "its outputs have 3 classes, and there are 2 labels"),
        (("import", "BEST", "--task", "iou=7"), "task.iou"),
        (("try", "nobody", "PICTURE"), "there is no model 'nobody'"),
        (("try", "nobody", "nothing.jpg"), "nothing.jpg: no such picture"),
        (("try", "nobody", "PICTURE", "--out", "PICTURE"), "is the picture that is looked at"),
        (("try", "nobody", "PICTURE", "--out", "seen.gif"), "not a kind of picture that can be written"),
    ],
)
def test_a_mistake_is_answered_in_one_line(
    best: Path, picture: Path, arguments: tuple[str, ...], expected: str
) -> None:
    words = {"BEST": best, "PICTURE": picture}
    status, out, err = sightwire("models", *(words.get(word, word) for word in arguments))
    assert (status, out) == (1, "")
    assert err.count("\n") == 1
    assert err.startswith("sightwire: ")
    assert expected in err


def test_a_file_that_is_no_picture_is_named(best: Path, tmp_path: Path) -> None:
    sightwire("models", "import", best, "--name", "ppe", "--max-batch", "1")
    (tmp_path / "noise.jpg").write_bytes(os.urandom(64))
    status, _, err = sightwire("models", "try", "ppe", tmp_path / "noise.jpg")
    assert status == 1
    assert "noise.jpg: not a readable picture" in err
