"""Frames of a video or a camera, stored as the decoder left them: read again without the camera."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from calibration.errors import DatasetError
from calibration.pictures.folder import from_folder
from calibration.pictures.sample import Progress, Sample, Way, nobody
from engines.errors import PictureError
from engines.pixels import Image
from engines.stored import SUFFIX, pack


def from_frames(
    frames: Iterable[tuple[str, Image]], into: Path, way: Way, limit: int, progress: Progress = nobody
) -> list[Sample]:
    """Store frames in the folder `into` until there are `limit`, and return all that are in it.

    `into` belongs to one source and one limit: what an earlier call stored there counts, and where that is enough no
    frame is asked for. A frame's file is named after it, so its name must be one of a file; it is there whole or not
    at all. Raises DatasetError where the folder cannot be written and where no frame came; whatever `frames` raises
    passes through, and what came before stays.
    """
    stored = _stored(into)
    progress(len(stored), limit)
    if len(stored) < limit:
        for name, image in frames:
            if name not in stored:
                _store(image, into / f"{name}{SUFFIX}")
                stored.add(name)
                progress(len(stored), limit)
            if len(stored) >= limit:
                break
    if not stored:
        raise DatasetError(f"{into}: no frame came that could be stored there")
    return from_folder(into, way)


def _stored(into: Path) -> set[str]:
    """Names of the frames that are there; makes the folder."""
    try:
        into.mkdir(parents=True, exist_ok=True)
        return {path.name.removesuffix(SUFFIX) for path in into.iterdir() if path.name.endswith(SUFFIX)}
    except OSError as error:
        raise DatasetError(f"{into}: cannot be a folder for frames: {error.strerror}") from None


def _store(image: Image, path: Path) -> None:
    partial = path.with_name(f".{path.name}.partial")
    try:
        try:
            partial.write_bytes(pack(image))
            partial.replace(path)
        finally:
            partial.unlink(missing_ok=True)
    except OSError as error:
        raise DatasetError(f"{path}: cannot be written: {error.strerror}") from None
    except PictureError as error:
        raise DatasetError(f"{path}: cannot be written: {error}") from None
