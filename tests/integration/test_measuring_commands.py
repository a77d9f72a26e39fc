"""`compare` and `eval` as a user meets them, from pictures to figures and exit statuses."""

from __future__ import annotations

import json
import shutil
import sys
import time
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from typer.testing import CliRunner

from agent.commands._app import app
from engines.store import ModelStore
from tests.support.measured import LABELS, made_pictures, made_store
from tests.support.patience import PATIENCE_S
from tests.support.process import Sightwire
from tests.support.street import street_video
from tests.support.truths import boxes_seen, classes_seen

PICTURES = 12


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> ModelStore:
    return made_store(tmp_path_factory.mktemp("store"))


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return made_pictures(tmp_path_factory.mktemp("pictures"), PICTURES)


@pytest.fixture(autouse=True)
def _here(made: ModelStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("SIGHTWIRE_MODELS", str(made.root))
    monkeypatch.setenv("COLUMNS", "200")


def sightwire(*arguments: str | Path) -> tuple[int, str, str]:
    done = CliRunner().invoke(app, [*map(str, arguments)], catch_exceptions=False)
    return done.exit_code, done.stdout, done.stderr


def answer(*arguments: str | Path) -> dict[str, Any]:
    status, out, err = sightwire(*arguments, "--json")
    assert (status, err) == (0, "")
    return json.loads(out)


@pytest.fixture(scope="module")
def right(made: ModelStore, pictures: Path) -> dict[str, str]:
    return classes_seen(made, "tiny", pictures)


@pytest.fixture(scope="module")
def boxes(made: ModelStore, pictures: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A COCO json of the three best objects that `boxes` sees in each picture."""
    content = boxes_seen(made, "boxes", pictures)
    assert {annotation["category_id"] for annotation in content["annotations"]} >= {0, 1}
    path = tmp_path_factory.mktemp("labels") / "boxes.json"
    path.write_text(json.dumps(content), encoding="utf-8")
    return path


def table(path: Path, classes: dict[str, str]) -> Path:
    path.write_text("file,label\n" + "".join(f"{name},{label}\n" for name, label in classes.items()), encoding="utf-8")
    return path


# -- compare


def test_a_model_against_its_int8_without_labels(pictures: Path) -> None:
    status, out, err = sightwire("compare", "tiny@fp32", "tiny@int8", "--images", pictures)
    assert (status, err) == (0, "")
    for expected in ("A  tiny@fp32: openvino", "B  tiny@int8: openvino", "agreement", "ms a picture", "12 pictures"):
        assert expected in out, expected


def test_json_says_the_same_for_machines(pictures: Path, made: ModelStore) -> None:
    found = answer("compare", "tiny@fp32", "other", "--images", pictures)
    assert found["schema"] == "sightwire.comparison/1"
    assert [found[side]["name"] for side in "ab"] == ["tiny@fp32", "other"]
    assert found["a"]["sha256"] == made.find("tiny")[0].files["fp32"].sha256
    assert found["a_points"] == 100 > found["b_points"]
    assert found["loss"] == pytest.approx(found["a_points"] - found["b_points"])
    assert found["interval"][0] <= found["loss"] <= found["interval"][1]
    assert all(found[side]["ms"] > 0 for side in "ab")
    assert {worst["picture"] for worst in found["worst"]} <= {f"{i}.png" for i in range(PICTURES)}
    assert all(worst["badness"] > 0 for worst in found["worst"])
    assert (found["budget"], found["inside"]) == (None, None)


def test_labels_judge_both(pictures: Path, right: dict[str, str], made: ModelStore, tmp_path: Path) -> None:
    other = classes_seen(made, "other", pictures)
    labels = table(tmp_path / "labels.csv", right | {name: other[name] for name in ("0.png", "1.png")})
    found = answer("compare", "tiny@fp32", "other@fp32", "--images", pictures, "--labels", labels)
    assert (found["metric"], found["pictures"]) == ("top-1", PICTURES)
    assert found["a_points"] > found["b_points"] > 100 * 1.9 / PICTURES
    turned = answer("compare", "other@fp32", "tiny@fp32", "--images", pictures, "--labels", labels)
    assert turned["loss"] == -found["loss"]


def test_labels_by_which_nothing_is_right_are_refused(pictures: Path, right: dict[str, str], tmp_path: Path) -> None:
    """Else a budget would hold, whatever B says."""
    wrong = {name: LABELS[(LABELS.index(label) + 1) % len(LABELS)] for name, label in right.items()}
    labels = table(tmp_path / "labels.csv", wrong)
    status, out, err = sightwire(
        "compare", "tiny@fp32", "tiny", "--images", pictures, "--labels", labels, "--budget", "1"
    )
    assert (status, out) == (1, "")
    assert "tiny@fp32 has top-1 0 on the 12 pictures" in err


def test_a_budget_decides_the_exit_status(pictures: Path, right: dict[str, str], tmp_path: Path) -> None:
    asked = ["compare", "tiny@fp32", "other", "--images", pictures, "--labels", table(tmp_path / "l.csv", right)]
    status, out, err = sightwire(*asked, "--budget", "1")
    assert status == 1
    assert "top-1" in out
    assert err.startswith("sightwire: other loses ")
    assert err.endswith("points of top-1 against tiny@fp32, more than --budget 1\n")
    assert answer(*asked, "--budget", "100")["inside"] is True


def test_too_few_pictures_for_the_budget_are_said(pictures: Path) -> None:
    asked = ("compare", "tiny@fp32", "tiny@int8", "--images", pictures, "--budget")
    assert "too small to resolve the budget" in sightwire(*asked, "0.5")[1]
    assert answer(*asked, "100")["resolved"] is True


def test_detectors_are_compared_by_the_labels_that_both_have(pictures: Path, boxes: Path) -> None:
    status, out, err = sightwire("compare", "boxes", "fewer", "--images", pictures, "--labels", boxes)
    assert (status, err) == (0, "")
    assert "2 labels that both have are looked at, 1 that only one has are not" in out
    for expected in ("AP .50:.95  ", "AP medium", "AP .50:.95 against boxes's own detections", "dog"):
        assert expected in out, expected
    assert "car" not in out


def test_one_model_on_two_backends(pictures: Path) -> None:
    found = answer("compare", "boxes@openvino", "boxes@onnxruntime:cpu", "--images", pictures, "--budget", "1")
    assert "onnxruntime" in found["b"]["engine"]
    assert found["inside"] is True
    assert abs(found["loss"]) < 1


def test_the_page_shows_the_worst_pictures(pictures: Path, tmp_path: Path) -> None:
    page = tmp_path / "page.html"
    status, out, err = sightwire("compare", "tiny@fp32", "other", "--images", pictures, "--out", page, "--json")
    assert (status, err) == (0, f"page written to {page}\n")
    found = json.loads(out)
    text = page.read_text(encoding="utf-8")
    assert found["worst"][0]["picture"] in text
    assert "data:image/jpeg" in text


def test_fewer_pictures_are_the_same_ones_each_time(pictures: Path) -> None:
    several = [answer("compare", "tiny@fp32", "other", "--images", pictures, "--samples", "5") for _ in range(2)]
    assert several[0]["set"] == several[1]["set"]
    assert several[0]["set"]["pictures"] == 5
    assert several[0]["interval"] == several[1]["interval"]


def test_pixels_as_a_video_decoder_has_them_change_little(pictures: Path) -> None:
    found = {
        way: answer("compare", "tiny@fp32", "tiny@int8", "--images", pictures, "--as", way) for way in ("bgr", "i420")
    }
    assert abs(found["bgr"]["b_points"] - found["i420"]["b_points"]) <= 100 * 2 / PICTURES


def test_a_real_detector_on_frames_of_a_video(real_models: ModelStore, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SIGHTWIRE_MODELS", str(real_models.root))
    asked = ("person-ssdlite@fp32", "person-ssdlite@int8", "--video", street_video(real_models), "--samples", "12")
    found = answer("compare", *asked)
    assert found["metric"] == "AP .50:.95 against person-ssdlite@fp32's own detections"
    assert found["a_points"] == pytest.approx(100, abs=0.01)
    assert 0 < found["b_points"] < 100
    assert 0 < found["set"]["pictures"] <= 12
    assert found["worst"][0]["picture"].startswith("street-")
    assert "person" in found["worst"][0]["fp32"]


def test_bars_name_what_is_under_way_on_a_terminal_only(pictures: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")
    status, out, err = sightwire("compare", "tiny@fp32", "other", "--images", pictures, "--json")
    assert status == 0
    json.loads(out)
    for stage in ("reading pictures", "tiny@fp32", "other", "timing both by turns, one thread"):
        assert stage in err, stage


# -- eval


def test_a_folder_per_class(pictures: Path, right: dict[str, str], tmp_path: Path) -> None:
    for name, label in right.items():
        (tmp_path / "set" / label).mkdir(parents=True, exist_ok=True)
        shutil.copy(pictures / name, tmp_path / "set" / label)
    status, out, err = sightwire("eval", "tiny@fp32", "--dataset", tmp_path / "set")
    assert (status, err) == (0, "")
    for expected in ("top-1", "100.00", "95 %: 100.00 to 100.00", "pictures a second"):
        assert expected in out, expected
    found = answer("eval", "other", "--dataset", tmp_path / "set")
    assert found["schema"] == "sightwire.evaluation/1"
    assert found["points"] < 100
    assert found["interval"][0] <= found["points"] <= found["interval"][1]
    assert found["worst_classes"][0]["points"] == min(row["points"] for row in found["worst_classes"])
    assert found["per_second"] > 0


def test_a_csv_inside_the_folder_or_given(pictures: Path, right: dict[str, str], tmp_path: Path) -> None:
    folder = tmp_path / "set"
    shutil.copytree(pictures, folder)
    given = answer("eval", "tiny@fp32", "--dataset", folder, "--labels", table(tmp_path / "labels.csv", right))
    table(folder / "labels.csv", right)
    inside = answer("eval", "tiny@fp32", "--dataset", folder)
    assert given["points"] == inside["points"] == 100
    wrong = {name: LABELS[(LABELS.index(label) + 1) % len(LABELS)] for name, label in right.items()}
    table(folder / "labels.csv", wrong)
    assert answer("eval", "tiny@fp32", "--dataset", folder)["points"] == 0


def test_a_coco_json_gives_average_precision_by_size(pictures: Path, boxes: Path) -> None:
    found = answer("eval", "boxes", "--dataset", pictures, "--labels", boxes)
    assert found["metric"] == "AP .50:.95"
    assert 0 < found["points"] <= 100
    assert {"AP .50", "AP .75", "AP medium"} <= found["details"].keys()
    assert found["interval"][0] <= found["points"] <= found["interval"][1]


def test_pictures_that_the_labels_do_not_name_are_left_out_and_told(
    pictures: Path, right: dict[str, str], tmp_path: Path
) -> None:
    some = table(tmp_path / "some.csv", dict(list(right.items())[:7]))
    status, out, _ = sightwire("eval", "tiny@fp32", "--dataset", pictures, "--labels", some)
    assert status == 0
    assert "7 pictures" in out
    assert "5 pictures that it does not name are left out" in out


# -- mistakes


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (("compare", "tiny", "boxes", "--images", "PICTURES"), "tiny tells classes and boxes finds boxes"),
        (("compare", "tiny", "tiny@int8", "--images", "PICTURES"), "are the same file on the same backend"),
        (("compare", "tiny@int", "other", "--images", "PICTURES"), "did you mean 'int8'?"),
        (("compare", "tiny", "otter", "--images", "PICTURES"), "there is no model 'otter', did you mean 'other'?"),
        (
            ("compare", "tiny", "other@openvino:NPU@f16", "--images", "PICTURES"),
            "other@openvino:NPU@f16: OpenVINO finds no NPU",
        ),
        (("compare", "tiny", "other", "--images", "absent"), "absent"),
        (("compare", "tiny", "other", "--images", "EMPTY"), "has no pictures"),
        (("compare", "tiny", "other", "--images", "BROKEN"), "noise.jpg"),
        (("compare", "tiny", "other"), "--images DIR or --video FILE"),
        (("compare", "tiny", "other", "--images", "PICTURES", "--labels", "absent.csv"), "absent.csv: no such file"),
        (("compare", "tiny", "other", "--images", "PICTURES", "--labels", "WRONG"), "labels of another model"),
        (("compare", "tiny", "other", "--images", "PICTURES", "--out", "absent/page.html"), "absent/page.html"),
        (("eval", "tiny", "--dataset", "PICTURES"), "no CSV and no COCO json: give the labels by --labels"),
        (("eval", "boxes", "--dataset", "PICTURES"), "no CSV and no COCO json: give the labels by --labels"),
        (("eval", "tiny", "--dataset", "PICTURES", "--labels", "WRONG"), "labels of another model"),
        (("eval", "boxes", "--dataset", "PICTURES", "--labels", "WRONG"), "give a COCO json"),
    ],
)
def test_a_mistake_is_answered_in_one_line(
    pictures: Path, right: dict[str, str], tmp_path: Path, arguments: tuple[str, ...], expected: str
) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken" / "noise.jpg").write_bytes(b"no picture")
    wrong = table(tmp_path / "wrong.csv", dict.fromkeys(right, "zebra"))
    words = {"PICTURES": pictures, "EMPTY": tmp_path / "empty", "BROKEN": tmp_path / "broken", "WRONG": wrong}
    status, out, err = sightwire(*(words.get(word, word) for word in arguments))
    assert (status, out) == (1, "")
    assert err.count("\n") == 1
    assert err.startswith("sightwire: ")
    assert expected in err


def test_average_precision_without_pycocotools_says_what_to_install(
    pictures: Path, boxes: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in ("pycocotools", "pycocotools.coco", "pycocotools.cocoeval"):
        monkeypatch.setitem(sys.modules, module, None)
    status, _, err = sightwire("eval", "boxes", "--dataset", pictures, "--labels", boxes)
    assert (status, err.count("\n")) == (1, 1)
    assert "pip install 'sightwire[calibrate]'" in err


def test_ctrl_c_is_a_line_and_130_and_leaves_no_page(made: ModelStore, tmp_path: Path) -> None:
    root = tmp_path / "models"
    shutil.copytree(made.root, root, ignore=shutil.ignore_patterns(".openvino"))
    (tmp_path / "many").mkdir()
    noise = np.random.default_rng(0).integers(0, 256, (600, 600, 3), np.uint8)
    cv2.imwrite(str(tmp_path / "many" / "0.png"), noise)
    for index in range(1, 200):
        (tmp_path / "many" / f"{index}.png").hardlink_to(tmp_path / "many" / "0.png")
    page = tmp_path / "page.html"
    asked = ("compare", "tiny", "other", "--images", tmp_path / "many", "--out", page)
    with Sightwire(*asked, models=root) as running:
        deadline = time.monotonic() + PATIENCE_S
        while not list(root.glob("tiny/.openvino/*.blob")):  # compiled: from now on pictures go through it
            assert running.running
            assert time.monotonic() < deadline
            time.sleep(0.01)
        running.interrupt()
        assert running.wait() == 130
    assert (running.out, running.err) == ("", "sightwire: interrupted\n")
    assert not list(tmp_path.glob("page.html*"))
