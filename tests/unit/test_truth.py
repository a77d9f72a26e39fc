"""Labelled data: what is read from each kind of file, and what is said of a wrong one."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from calibration.errors import DatasetError
from calibration.truth import Classes, Objects
from calibration.truth.read import read_truth
from tests.support.labelled import samples

LABELS = ("tench", "great white shark", "fire truck", "crane", "crane")
PEOPLE = ("person", "car")


def classes(path: Path, *names: str, labels: Sequence[str] = LABELS, partial: bool = False) -> dict[str, int]:
    truth = read_truth(path, samples(*names), labels, finds_boxes=False, partial=partial)
    assert isinstance(truth, Classes)
    return dict(truth.of)


def objects(path: Path, *names: str, labels: Sequence[str] = PEOPLE, partial: bool = False) -> Objects:
    truth = read_truth(path, samples(*names), labels, finds_boxes=True, partial=partial)
    assert isinstance(truth, Objects)
    return truth


def file_of(folder: Path, text: str, name: str = "labels.csv") -> Path:
    path = folder / name
    path.write_text(text, encoding="utf-8")
    return path


def coco(folder: Path, name: str = "instances.json", **parts: Any) -> Path:
    content = {
        "images": [{"id": 7, "file_name": "a.jpg"}, {"id": 9, "file_name": "empty.jpg"}],
        "categories": [{"id": 3, "name": "car"}, {"id": 1, "name": "person"}, {"id": 44, "name": "bottle"}],
        "annotations": [
            {"image_id": 7, "category_id": 1, "bbox": [10, 20, 30.5, 40], "area": 700.5, "iscrowd": 1},
            {"image_id": 7, "category_id": 44, "bbox": [0, 0, 5, 5]},
            {"image_id": 7, "category_id": 3, "bbox": [1, 2, 3, 4]},
        ],
    }
    return file_of(folder, json.dumps(content | parts), name)


def refused(read: Any, *args: Any, **options: Any) -> str:
    with pytest.raises(DatasetError) as caught:
        read(*args, **options)
    line = str(caught.value)
    assert "\n" not in line
    return line


def test_a_csv_names_labels(tmp_path: Path) -> None:
    path = file_of(tmp_path, "file,label\na.jpg,tench\nb.jpg,great white shark\n")
    assert classes(path, "/data/b.jpg", "/data/a.jpg") == {"/data/a.jpg": 0, "/data/b.jpg": 1}


@pytest.mark.parametrize("column", ["class", "class_index"])
def test_a_csv_numbers_labels(tmp_path: Path, column: str) -> None:
    assert classes(file_of(tmp_path, f"file,{column}\na.jpg,4\nb.jpg,0\n"), "a.jpg", "b.jpg") == {
        "a.jpg": 4,
        "b.jpg": 0,
    }


def test_a_spreadsheet_writes_a_mark_semicolons_and_more_columns(tmp_path: Path) -> None:
    path = file_of(tmp_path, '\ufeffWho;File;Class\r\nme;"a;1.jpg";TENCH\r\n;;\r\n')
    assert classes(path, "x/a;1.jpg") == {"x/a;1.jpg": 0}


def test_folders_name_labels_as_file_systems_let_them(tmp_path: Path) -> None:
    for name in ("tench/1.jpg", "Great_White_Shark/deep/1.jpg", ".cache/x.jpg"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    assert classes(tmp_path, f"{tmp_path}/tench/1.jpg", "Great_White_Shark/deep/1.jpg") == {
        f"{tmp_path}/tench/1.jpg": 0,
        "Great_White_Shark/deep/1.jpg": 1,
    }


def test_folders_number_labels(tmp_path: Path) -> None:
    for name in ("0/1.jpg", "2/2.jpg"):
        (tmp_path / name).parent.mkdir()
        (tmp_path / name).touch()
    assert classes(tmp_path, "0/1.jpg", "2/2.jpg") == {"0/1.jpg": 0, "2/2.jpg": 2}


def test_a_folder_may_hold_the_csv_beside_the_pictures(tmp_path: Path) -> None:
    file_of(tmp_path, "file,label\na.jpg,tench\n")
    assert classes(tmp_path, f"{tmp_path}/a.jpg") == {f"{tmp_path}/a.jpg": 0}


def test_a_file_beside_folders_of_classes_is_not_taken_for_their_labels(tmp_path: Path) -> None:
    (tmp_path / "tench").mkdir()
    (tmp_path / "tench" / "1.jpg").touch()
    file_of(tmp_path, "{}", "licence.json")
    assert classes(tmp_path, "tench/1.jpg") == {"tench/1.jpg": 0}


def test_a_coco_json_gives_the_objects_that_the_model_knows(tmp_path: Path) -> None:
    truth = objects(coco(tmp_path), "val/a.jpg", "val/empty.jpg")
    found = truth.of["val/a.jpg"]
    np.testing.assert_array_equal(found.xyxy, [[10, 20, 40.5, 60], [1, 2, 4, 6]])
    assert found.label.tolist() == [0, 1]
    assert found.crowd.tolist() == [True, False]
    assert found.area.tolist() == [700.5, 12.0]
    assert truth.of["val/empty.jpg"].xyxy.shape == (0, 4)


def test_labels_without_pictures_are_passed_over(tmp_path: Path) -> None:
    assert classes(file_of(tmp_path, "file,label\na.jpg,tench\ngone.jpg,unicorn\n"), "a.jpg") == {"a.jpg": 0}
    assert set(objects(coco(tmp_path), "a.jpg").of) == {"a.jpg"}


def test_pictures_without_labels_may_be_left_out_but_not_all_of_them(tmp_path: Path) -> None:
    path = file_of(tmp_path, "file,label\na.jpg,tench\n")
    assert classes(path, "a.jpg", "b.jpg", "c.jpg", partial=True) == {"a.jpg": 0}
    assert "1 of 1 pictures have no label" in refused(classes, path, "b.jpg", partial=True)


def test_pictures_without_labels_are_counted_and_the_first_is_named(tmp_path: Path) -> None:
    line = refused(classes, file_of(tmp_path, "file,label\na.jpg,tench\n"), "a.jpg", "b.jpg", "c.jpg")
    assert line.endswith("labels.csv: 2 of 3 pictures have no label in it, the first is 'b.jpg'; it labels 'a.jpg'")


def test_a_picture_of_another_folder_is_another_picture(tmp_path: Path) -> None:
    path = file_of(tmp_path, "file,label\ntrain/a.jpg,tench\n")
    assert classes(path, "/data/train/a.jpg") == {"/data/train/a.jpg": 0}
    assert "1 of 1 pictures" in refused(classes, path, "/data/val/a.jpg")


def test_names_that_may_mean_two_pictures_are_refused(tmp_path: Path) -> None:
    once = file_of(tmp_path, "file,label\na.jpg,tench\n", "once.csv")
    assert "'a.jpg' may be 'x/a.jpg', 'y/a.jpg'" in refused(classes, once, "x/a.jpg", "y/a.jpg")
    twice = file_of(tmp_path, "file,label\nx/a.jpg,tench\ny/a.jpg,0\n", "twice.csv")
    assert "'a.jpg' may be 'x/a.jpg', 'y/a.jpg'" in refused(classes, twice, "a.jpg")


def test_labels_of_another_model_are_shown_beside_the_models_own(tmp_path: Path) -> None:
    path = file_of(tmp_path, "file,label\na.jpg,helmet\nb.jpg,vest\n")
    assert refused(classes, path, "a.jpg", "b.jpg").endswith(
        "labels of another model: it has 'helmet', 'vest', this model knows 'tench', 'great white shark', "
        "'fire truck', …"
    )
    assert "it has 'car', 'person', 'bottle', this model knows 'helmet'" in refused(
        objects, coco(tmp_path), "a.jpg", labels=["helmet"]
    )


def test_an_unknown_folder_is_named_with_the_nearest_label(tmp_path: Path) -> None:
    for name in ("tench/1.jpg", "fire_trucks/2.jpg", "zzz/3.jpg"):
        (tmp_path / name).parent.mkdir()
        (tmp_path / name).touch()
    line = refused(classes, tmp_path, "tench/1.jpg", "fire_trucks/2.jpg", "zzz/3.jpg")
    assert line.endswith("the model has no label 'fire_trucks' and 1 more; did you mean 'fire truck'?")


def test_indices_that_start_at_one_are_noticed_by_the_last(tmp_path: Path) -> None:
    path = file_of(tmp_path, "file,class_index\na.jpg,1\nunused.jpg,5\n")
    assert refused(classes, path, "a.jpg").endswith("it has class_index '5', this model knows 0 to 4")


def test_a_name_of_two_labels_is_refused(tmp_path: Path) -> None:
    assert "more than one of the model's labels (3 and 4): give a class_index" in refused(
        classes, file_of(tmp_path, "file,label\na.jpg,crane\n"), "a.jpg"
    )


def test_two_lines_that_disagree_are_named(tmp_path: Path) -> None:
    assert "line 3: 'a.jpg' is 'crane' here and 'tench' above" in refused(
        classes, file_of(tmp_path, "file,label\na.jpg,tench\na.jpg,crane\n"), "a.jpg"
    )


def test_a_short_line_is_named(tmp_path: Path) -> None:
    assert "line 3: wants columns file and one of" in refused(
        classes, file_of(tmp_path, "file,label\na.jpg,tench\nb.jpg\n"), "a.jpg"
    )


def test_boxes_for_a_classifier_and_classes_for_a_detector_are_refused(tmp_path: Path) -> None:
    assert "has boxes, and this model tells classes" in refused(classes, coco(tmp_path), "a.jpg")
    path = file_of(tmp_path, "file,label\na.jpg,tench\n")
    assert "a CSV of classes has no boxes, which this model finds: give a COCO json" in refused(objects, path, "a.jpg")
    (tmp_path / "sorted" / "tench").mkdir(parents=True)
    assert "a folder per class has no boxes" in refused(objects, tmp_path / "sorted", "a.jpg")


def test_several_label_files_in_a_folder_are_named(tmp_path: Path) -> None:
    coco(tmp_path, "train.json")
    coco(tmp_path, "val.json")
    assert "has several label files (train.json, val.json): give one of them" in refused(objects, tmp_path, "a.jpg")


def test_a_file_that_is_not_there_is_said_so(tmp_path: Path) -> None:
    assert "no such file or folder; wants a folder per class, a CSV" in refused(classes, tmp_path / "no.csv", "a.jpg")


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "not a label file"),
        (b"\xff\xd8\xff\xe0\x00\x10JFIF", "not a label file"),
        (b"file,label\n\xe9.jpg,tench\n", "not a label file in UTF-8"),
        (b"tench\ncrane\n", "not a list of labels: wants a CSV with columns file"),
        (b'"file,label\n', "not a list of labels"),
        (b'{"images": [', "not a readable json: Expecting value: line 1"),
        (b"[" * 100_000, "nested too deeply"),
        (b"[1, 2]", "not a COCO json: wants lists called images, categories, annotations"),
        (b'{"images": [], "categories": {}, "annotations": []}', "not a COCO json"),
    ],
)
def test_what_is_no_label_file_is_said_to_be_none(tmp_path: Path, content: bytes, said: str) -> None:
    path = tmp_path / "labels"
    path.write_bytes(content)
    assert said in refused(classes, path, "a.jpg")


@pytest.mark.parametrize(
    ("parts", "said"),
    [
        ({"images": [{"id": 7}]}, "image 0: file_name is None, not a text"),
        ({"images": [{"id": [], "file_name": "a.jpg"}]}, "image 0: id is [], not a number"),
        (
            {"images": [{"id": 7, "file_name": "a.jpg"}, {"id": 8, "file_name": "a.jpg"}]},
            "image 1: 'a.jpg' has the id 8 here and another above",
        ),
        ({"categories": ["person"]}, "category 0: is 'person', not an object"),
        ({"annotations": [{"image_id": 7, "category_id": 2, "bbox": []}]}, "annotation 0: no category has the id 2"),
        (
            {"annotations": [{"image_id": 7, "category_id": 1}]},
            "annotation 0: bbox is None, not [left, top, width, height]",
        ),
        ({"annotations": [{"image_id": 7, "category_id": 1, "bbox": [0, 0, -1, 1]}]}, "bbox is [0, 0, -1, 1]"),
        (
            {"annotations": [{"image_id": 7, "category_id": 1, "bbox": [0, 0, float("nan"), 1]}]},
            "bbox is [0, 0, nan, 1]",
        ),
        ({"annotations": [{"image_id": 7, "category_id": 1, "bbox": [0, 0, 10**400, 1]}]}, "bbox is [0, 0, 1000"),
        ({"annotations": [{"image_id": 7, "category_id": 1, "bbox": [0, 0, 1, 1], "area": "x"}]}, "area is 'x'"),
        ({"annotations": [{"image_id": 7, "category_id": 1, "bbox": [0, 0, 1, 1], "iscrowd": 2}]}, "iscrowd is 2"),
    ],
)
def test_a_wrong_entry_of_a_coco_json_is_named(tmp_path: Path, parts: dict[str, Any], said: str) -> None:
    line = refused(objects, coco(tmp_path, **parts), "a.jpg")
    assert said in line
    assert len(line) < 250 + len(str(tmp_path))
