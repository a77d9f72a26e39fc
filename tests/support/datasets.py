"""Labelled data in a folder that nobody described: what is there is seen in the files."""

from __future__ import annotations

import csv
import os
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Literal

from calibration.errors import DatasetError
from calibration.truth.names import is_label
from calibration.truth.read import read_annotations
from calibration.truth.table import COLUMNS
from engines.picture_files import ENDINGS

Kind = Literal["boxes", "classes"]
_ASKED = 50
"""Pictures of a label file that are looked for, to find the folder that they are in."""


@dataclass(frozen=True)
class Part:
    """Pictures that one file, or the names of folders, says the truth of."""

    kind: Kind
    folder: Path
    """Of the pictures; may have others too."""
    labels: Path
    """As `calibration.truth.read.read_truth` takes it."""
    pictures: frozenset[str]
    """Names in the label file, or paths in the folder."""


@dataclass(frozen=True)
class Dataset:
    """The splits of one set of pictures: its two largest, or all of it, which is to be divided then."""

    name: str
    kind: Kind
    parts: tuple[Part, ...]
    """One or two, the first by name first."""


def pictures_of_coco(annotations: Path, folder: Path) -> dict[Path, int]:
    """Picture file -> COCO image id, of the pictures that a COCO json lists. Raises DatasetError."""
    return {folder / name: int(image) for name, image in read_annotations(annotations).ids.items()}


def datasets(root: Path, classes: Sequence[str]) -> list[Dataset]:
    """All labelled sets under `root`: COCO jsons, CSVs of classes, folders called as `classes` are.

    Label files, or folders of classes, that lie in one folder are splits of one set. Raises DatasetError if `root`
    cannot be read or has none.
    """
    if not root.is_dir():
        raise DatasetError(f"{root}: no such folder")
    files = list(_files(root))
    pictures: dict[str, list[Path]] = defaultdict(list)
    for path in files:
        if path.suffix.lower() in ENDINGS:
            pictures[path.name].append(path)
    groups: dict[tuple[Kind, Path], list[Part]] = defaultdict(list)
    for path in files:
        if (part := _labelled(path, pictures)) is not None:
            # `a/labels.csv` and `b/labels.csv` beside their pictures are splits as `a/` and `b/` of classes are.
            own = part.kind == "classes" and part.folder == path.parent != root
            groups[part.kind, path.parent.parent if own else path.parent].append(part)
    for part in _folders_of_classes(root, classes):
        groups["classes", part.folder.parent if part.folder != root else root].append(part)
    found = [Dataset(_name(root, where, parts), kind, _two(parts)) for (kind, where), parts in groups.items()]
    if not found:
        raise DatasetError(f"{root}: has no labelled pictures: no COCO json, no CSV of classes, no folder per class")
    return sorted(found, key=lambda dataset: (dataset.kind, dataset.name))


def _files(root: Path) -> Iterator[Path]:
    for folder, folders, files in os.walk(root):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        yield from (Path(folder, name) for name in sorted(files) if not name.startswith("."))


def _labelled(path: Path, pictures: dict[str, list[Path]]) -> Part | None:
    """What a label file labels; None if it is none, or its pictures are not there."""
    kind: Kind = "boxes" if path.suffix.lower() == ".json" else "classes"
    if path.suffix.lower() == ".json":
        try:
            listed = [str(name) for name in read_annotations(path).ids]
        except DatasetError:
            return None
    elif path.suffix.lower() in (".csv", ".tsv"):
        listed = _listed(path)
    else:
        return None
    folder = _folder_of(path, listed, pictures)
    return None if folder is None else Part(kind, folder, path, frozenset(listed))


def _listed(path: Path) -> list[str]:
    """The column `file` of a CSV that has classes too."""
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            head = file.readline()
            separator = max(",;\t", key=head.count)
            columns = [name.strip().lower() for name in head.split(separator)]
            if "file" not in columns or not set(columns) & set(COLUMNS):
                return []
            place = columns.index("file")
            return [row[place].strip() for row in csv.reader(file, delimiter=separator) if len(row) > place]
    except (OSError, UnicodeDecodeError, csv.Error):
        return []


def _folder_of(labels: Path, listed: Sequence[str], pictures: dict[str, list[Path]]) -> Path | None:
    """The folder in which a label file's pictures lie by the names that it gives them; of several the nearest one."""
    votes: Counter[Path] = Counter()
    for name in islice(listed, _ASKED):
        parts = Path(name).parts
        for path in pictures.get(Path(name).name, ()):
            if path.parts[-len(parts) :] == parts:
                votes[Path(*path.parts[: -len(parts)])] += 1
    near = {folder: len(os.path.commonpath([folder, labels])) for folder in votes}
    return max(votes, key=lambda folder: (votes[folder], near[folder], str(folder)), default=None)


def _folders_of_classes(root: Path, classes: Sequence[str]) -> Iterator[Part]:
    for folder, folders, _ in os.walk(root):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        if len(folders) > 1 and all(is_label(name, classes) for name in folders):
            inside = [path for path in _files(Path(folder)) if path.suffix.lower() in ENDINGS]
            names = frozenset(path.relative_to(folder).as_posix() for path in inside)
            if names:
                yield Part("classes", Path(folder), Path(folder), names)
            folders.clear()


def _name(root: Path, where: Path, parts: Sequence[Part]) -> str:
    """As people know it: the folder that has all of it."""
    folder = parts[0].folder if len(parts) == 1 and parts[0].kind == "classes" else where
    return folder.relative_to(root).as_posix() if folder != root else root.resolve().name


def _two(parts: Sequence[Part]) -> tuple[Part, ...]:
    """The two largest, of those that label the same pictures (COCO's key points, say) the first; in order of names."""
    named = sorted(parts, key=lambda part: str(part.labels))
    once = {(part.folder, part.pictures): part for part in reversed(named)}
    largest = sorted(once.values(), key=lambda part: (-len(part.pictures), str(part.labels)))[:2]
    return tuple(sorted(largest, key=lambda part: str(part.labels)))
