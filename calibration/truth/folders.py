"""Classes of pictures by the folders that they lie in."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from pathlib import Path

from calibration.errors import DatasetError
from calibration.pictures import Sample
from calibration.truth import Classes
from calibration.truth.names import classes, is_label

LABEL_FILES = (".csv", ".json", ".tsv")


def read_folders(root: Path, samples: Sequence[Sample], labels: Sequence[str], partial: bool) -> Classes:
    """Read one folder per class: `root/great white shark/…/1.jpg`. Raises DatasetError."""
    written = {path: path.partition("/")[0] for path in _files(root)}
    return classes(written, samples, labels, str(root), partial)


def has_classes(root: Path, labels: Sequence[str]) -> bool:
    """Whether one of the folders in it has the name of a label. Raises DatasetError."""
    return any(is_label(path.name, labels) for path in _entries(root) if path.is_dir())


def label_file(root: Path) -> Path | None:
    """The one label file that lies in a folder, else None. Raises DatasetError if there are several."""
    found = [path for path in _entries(root) if path.suffix.lower() in LABEL_FILES and path.is_file()]
    if len(found) > 1:
        raise DatasetError(f"{root}: has several label files ({', '.join(p.name for p in found)}): give one of them")
    return found[0] if found else None


def _entries(root: Path) -> list[Path]:
    try:
        return sorted(root.iterdir())
    except OSError as error:
        raise DatasetError(f"{root}: cannot be read ({error.strerror})") from None


def _files(root: Path) -> Iterator[str]:
    """Relative paths of what lies in folders of `root`."""

    def refuse(error: OSError) -> None:
        raise DatasetError(f"{error.filename}: cannot be read ({error.strerror})")

    for folder, folders, files in os.walk(root, onerror=refuse, followlinks=True):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        inside = Path(folder).relative_to(root).as_posix()
        if inside != ".":
            yield from (f"{inside}/{name}" for name in files)
