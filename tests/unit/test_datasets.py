"""Labelled data is found by what is in the files, however the folder is laid out."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import pytest

from calibration.errors import DatasetError
from tests.support.datasets import datasets, pictures_of_coco

CLASSES = ("great white shark", "tench", "barrel")


def pictures(folder: Path, *names: str) -> None:
    for name in names:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()


def coco(path: Path, names: Sequence[str], first: int = 1) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    images = [{"id": first + index, "file_name": name} for index, name in enumerate(names)]
    path.write_text(json.dumps({"images": images, "categories": [{"id": 1, "name": "tench"}], "annotations": []}))


def test_two_coco_jsons_side_by_side_are_splits_with_the_folders_that_have_their_pictures(tmp_path: Path) -> None:
    """Also where both folders have a picture of the same name."""
    for name in ("train", "val"):
        pictures(tmp_path / "set" / f"{name}2017", "1.jpg", f"{name}.jpg")
        coco(tmp_path / "set" / "annotations" / f"instances_{name}.json", [f"{name}.jpg", "1.jpg"])
    (found,) = datasets(tmp_path, CLASSES)
    assert (found.kind, [part.folder.name for part in found.parts]) == ("boxes", ["train2017", "val2017"])


def test_of_two_jsons_about_the_same_pictures_one_counts(tmp_path: Path) -> None:
    """COCO's key points are not a second split of its instances."""
    pictures(tmp_path / "val", "1.jpg")
    coco(tmp_path / "instances.json", ["1.jpg"])
    coco(tmp_path / "keypoints.json", ["1.jpg"])
    (found,) = datasets(tmp_path, CLASSES)
    assert [part.labels.name for part in found.parts] == ["instances.json"]


def test_two_lists_of_pictures_in_one_folder_are_splits(tmp_path: Path) -> None:
    """Who has which picture is in the lists."""
    pictures(tmp_path / "images", "1.jpg", "2.jpg")
    for index, name in enumerate(("train", "val"), 1):
        (tmp_path / f"{name}.csv").write_text(f"file;label\n{index}.jpg;tench\n")
    (found,) = datasets(tmp_path, CLASSES)
    assert [(part.labels.stem, set(part.pictures)) for part in found.parts] == [
        ("train", {"1.jpg"}),
        ("val", {"2.jpg"}),
    ]


def test_folders_called_as_classes_are_one_set_and_other_folders_are_none(tmp_path: Path) -> None:
    """Of a tree with good and defective tiles nothing is taken."""
    pictures(tmp_path / "fish", "Great_White_Shark/1.jpg", "tench/2.jpg")
    pictures(tmp_path / "tiles", "good/1.jpg", "defect/2.jpg")
    (found,) = datasets(tmp_path, CLASSES)
    assert (found.name, found.kind, len(found.parts[0].pictures)) == ("fish", "classes", 2)


def test_labels_beside_their_pictures_in_two_folders_are_splits(tmp_path: Path) -> None:
    """As folders of classes would be."""
    for name in ("a", "b"):
        pictures(tmp_path / "set" / name, "1.jpg")
        (tmp_path / "set" / name / "labels.csv").write_text("file,class_index\n1.jpg,2\n")
    (found,) = datasets(tmp_path, CLASSES)
    assert [part.folder.name for part in found.parts] == ["a", "b"]


@pytest.mark.parametrize("content", ["{", '{"images": 1}', "file,frame\n1.jpg,2\n", "\0"])
def test_files_that_label_nothing_are_passed_over(tmp_path: Path, content: str) -> None:
    """Whatever lies beside the pictures; without any labels it is an error that says what is looked for."""
    pictures(tmp_path, "1.jpg")
    for name in ("a.json", "a.csv"):
        (tmp_path / name).write_text(content)
    with pytest.raises(DatasetError, match="no COCO json, no CSV"):
        datasets(tmp_path, CLASSES)


def test_pictures_of_a_coco_json_come_with_its_ids(tmp_path: Path) -> None:
    """In its order."""
    coco(tmp_path / "a.json", ["2.jpg", "1.jpg"], first=7)
    assert pictures_of_coco(tmp_path / "a.json", tmp_path) == {tmp_path / "2.jpg": 7, tmp_path / "1.jpg": 8}
