"""Pictures from files: photographs, and those that were stored in their own planes."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable
from functools import partial
from pathlib import Path

from calibration.errors import DatasetError
from calibration.pictures.sample import Progress, Sample, Way, nobody
from calibration.pictures.ways import in_way
from engines.card import sha256_of
from engines.errors import PictureError
from engines.picture_files import ENDINGS, read
from engines.pixels import Image


def from_folder(folder: Path, way: Way, progress: Progress = nobody) -> list[Sample]:
    """All pictures of a folder and of the folders in it, links too, by name; hidden ones are left out.

    Names are paths within the folder, with slashes. Nothing is decoded yet. Raises DatasetError where there is no such
    folder, no picture in it, or something of it may not be read.
    """
    names = sorted(_found(folder))
    if not names:
        raise DatasetError(f"{folder}: has no pictures ({', '.join(sorted(ENDINGS))})")
    return from_files(folder, names, way, progress)


def from_files(folder: Path, names: Iterable[str], way: Way, progress: Progress = nobody) -> list[Sample]:
    """These pictures of a folder, in this order. Raises DatasetError for one that is not there."""
    wanted = list(names)
    samples = []
    for count, name in enumerate(wanted, 1):
        samples.append(sample_of(folder / name, name, way))
        progress(count, len(wanted))
    return samples


def sample_of(path: Path, name: str, way: Way) -> Sample:
    """One file as a sample. Raises DatasetError where it cannot be read."""
    try:
        digest = sha256_of(path)
    except (OSError, ValueError) as error:  # ValueError: a name that can be none
        raise DatasetError(f"{path}: cannot be read: {getattr(error, 'strerror', None) or error}") from None
    # Bytes of a name that are no UTF-8 could stand neither in a card nor on a page.
    shown = name.encode(errors="backslashreplace").decode()
    return Sample(shown, digest, partial(_read, path, digest, way))


def read_picture(path: Path) -> Image:
    """A picture file as it is, a photograph as bgr. Raises DatasetError naming it."""
    return _decoded(path, _bytes(path))


def _read(path: Path, digest: str, way: Way) -> Image:
    data = _bytes(path)
    if hashlib.sha256(data).hexdigest() != digest:
        raise DatasetError(f"{path}: has changed since the run began; start it again")
    return in_way(_decoded(path, data), way)


def _bytes(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise DatasetError(f"{path}: cannot be read: {error.strerror}") from None


def _decoded(path: Path, data: bytes) -> Image:
    try:
        return read(data, str(path))
    except PictureError as error:
        raise DatasetError(str(error)) from None


def _found(folder: Path) -> Iterable[str]:
    walked = set()
    for parent, folders, files in os.walk(folder, onerror=_refuse, followlinks=True):
        if (real := Path(parent).resolve()) in walked:
            folders.clear()  # a link back to where we came from
            continue
        walked.add(real)
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        for name in files:
            path = Path(parent, name)
            if not name.startswith(".") and path.suffix.lower() in ENDINGS:
                yield path.relative_to(folder).as_posix()


def _refuse(error: OSError) -> None:
    raise DatasetError(f"{error.filename}: cannot be read: {error.strerror}")
