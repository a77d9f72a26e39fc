"""Reads labelled data, of whichever kind it is."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from calibration.errors import DatasetError
from calibration.pictures import Sample
from calibration.truth import Truth
from calibration.truth.coco import Annotations
from calibration.truth.folders import has_classes, label_file, read_folders
from calibration.truth.table import WANTED, read_table

_KINDS = f"wants a folder per class, a CSV with {WANTED}, or a COCO json"


def read_truth(
    path: Path, samples: Sequence[Sample], labels: Sequence[str], finds_boxes: bool, partial: bool = False
) -> Truth:
    """What is in each of the samples, read from a folder per class, a CSV or a COCO json: its content tells which.

    A folder may also hold the one CSV or json itself. `labels` and `finds_boxes` (TaskConfig.finds_boxes) are the
    model's. Labels of pictures that are not among the samples are passed over. Raises DatasetError, one line: not a
    label file, labels of another model, pictures without labels (`partial` leaves those out of the truth, unless
    it is all of them), boxes for a classifier or classes for a detector.
    """
    if path.is_dir():
        inside = label_file(path) if finds_boxes or not has_classes(path, labels) else None
        if inside is None:
            if finds_boxes:
                raise DatasetError(f"{path}: a folder per class has no boxes, which this model finds: give a COCO json")
            return read_folders(path, samples, labels, partial)
        path = inside
    text = _text(path)
    if text.lstrip()[:1] not in ("{", "["):
        if finds_boxes:
            raise DatasetError(f"{path}: a CSV of classes has no boxes, which this model finds: give a COCO json")
        return read_table(text, samples, labels, str(path), partial)
    annotations = Annotations(_json(text, path), str(path))
    if not finds_boxes:
        raise DatasetError(
            f"{path}: a COCO json has boxes, and this model tells classes: give a folder per class, or a CSV "
            f"with {WANTED}"
        )
    return annotations.objects(samples, labels, partial)


def read_annotations(path: Path) -> Annotations:
    """A COCO json whose pictures are asked for by their ids. Raises DatasetError."""
    return Annotations(_json(_text(path), path), str(path))


def _text(path: Path) -> str:
    try:
        with path.open("rb") as file:
            # Somebody's video given by mistake is not read to its end.
            start = file.read(4096)
            if not start.strip() or b"\0" in start:
                raise DatasetError(f"{path}: not a label file: {_KINDS}")
            return (start + file.read()).decode("utf-8-sig")
    except FileNotFoundError:
        raise DatasetError(f"{path}: no such file or folder; {_KINDS}") from None
    except OSError as error:
        raise DatasetError(f"{path}: cannot be read ({error.strerror})") from None
    except UnicodeDecodeError:
        raise DatasetError(f"{path}: not a label file in UTF-8: {_KINDS}") from None


def _json(text: str, path: Path) -> Any:
    try:
        return json.loads(text)
    except RecursionError:
        raise DatasetError(f"{path}: not a COCO json: nested too deeply") from None
    except ValueError as error:  # also numbers of more digits than Python converts
        raise DatasetError(f"{path}: not a readable json: {error}") from None
