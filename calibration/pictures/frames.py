"""Frames of a video or a camera, kept on disk as the decoder left them: read again without the camera."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from calibration.errors import DatasetError
from calibration.pictures.folder import from_folder
from calibration.pictures.sample import Progress, Sample, Way, nobody
from engines.picture_files import FRAME, packed
from engines.pixels import Image


def from_frames(
    frames: Iterable[tuple[str, Image]], into: Path, way: Way, limit: int, progress: Progress = nobody
) -> list[Sample]:
    """Keep frames in the folder `into` until there are `limit`, and return all that are in it.

    `into` belongs to one source: what an earlier call kept there counts, and if that is enough no frame is asked for.
    Each is named after its own name, which must be one of a file. A frame is there whole or not at all.
    Raises DatasetError where the folder cannot be written or no frame came; whatever `frames` raises passes through.
    """
    try:
        into.mkdir(parents=True, exist_ok=True)
        kept = {path.stem for path in into.glob(f"*{FRAME}")}
        progress(len(kept), limit)
        if len(kept) < limit:
            for name, image in frames:
                if name not in kept:
                    _keep(packed(image), into / f"{name}{FRAME}")
                    kept.add(name)
                    progress(len(kept), limit)
                if len(kept) >= limit:
                    break
    except OSError as error:
        raise DatasetError(f"{into}: frames cannot be kept there: {error.strerror}") from None
    if not kept:
        raise DatasetError(f"{into}: no frame came to be kept there")
    return from_folder(into, way)


def _keep(data: bytes, path: Path) -> None:
    partial = path.with_suffix(".partial")
    try:
        partial.write_bytes(data)
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)
