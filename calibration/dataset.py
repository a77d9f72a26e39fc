"""Pictures from a folder, prepared exactly as an engine gets them."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from calibration.errors import DatasetError
from calibration.pictures.folder import sample_of
from calibration.pictures.tensors import tensor
from engines.card import Input, sha256_of
from engines.pixels import Geometry

_SUFFIXES = (".bmp", ".jpeg", ".jpg", ".png", ".webp")


def pictures_in(folder: Path) -> list[Path]:
    """Picture files of a folder, by name. Raises DatasetError if there is none."""
    try:
        found = sorted(path for path in folder.iterdir() if path.suffix.lower() in _SUFFIXES)
    except OSError as error:
        raise DatasetError(f"{folder}: cannot be read ({error.strerror})") from None
    if not found:
        raise DatasetError(f"{folder}: has no pictures ({', '.join(_SUFFIXES)})")
    return found


def pictures_of_coco(annotations: Path, folder: Path) -> dict[Path, int]:
    """Picture file -> COCO image id, of the pictures that a COCO json lists. Raises DatasetError."""
    try:
        images = json.loads(annotations.read_text(encoding="utf-8"))["images"]
        return {folder / image["file_name"]: int(image["id"]) for image in images}
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DatasetError(f"{annotations}: not a COCO annotation file: {error!r}") from None


def spread(paths: Sequence[Path], count: int) -> list[Path]:
    """`count` of the paths, evenly spaced; all of them if they are fewer."""
    return [paths[i * len(paths) // count] for i in range(count)] if count < len(paths) else list(paths)


def prepare(path: Path, into: Input) -> tuple[NDArray[np.uint8], Geometry]:
    """Return the (1, 3, H, W) uint8 RGB tensor of a picture file, and its geometry."""
    return tensor(sample_of(path, path.name, "bgr"), into)


def set_hash(paths: Sequence[Path]) -> str:
    """sha256 over the sha256s of the files, sorted: names and order do not matter."""
    return hashlib.sha256("".join(sorted(sha256_of(path) for path in paths)).encode()).hexdigest()
