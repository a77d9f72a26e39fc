"""What the commands that measure share: bars for long work, and mistakes in one line."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from agent.commands import fail
from agent.errors import AgentError
from agent.exits import EX_INTERRUPTED

if TYPE_CHECKING:
    from calibration.evaluation import Stages
    from calibration.pictures import Progress as Told
    from calibration.pictures import Sample, Way

FRAMES = 200
"""Of a video, where nobody asked for another number."""


@contextmanager
def answered() -> Iterator[None]:
    """End the command with a line, whatever is wrong: a traceback is for mistakes of ours."""
    from calibration.errors import CalibrationError
    from engines.errors import EngineError

    try:
        yield
    except (AgentError, CalibrationError, EngineError) as error:
        fail(error)
    except KeyboardInterrupt:
        fail("interrupted", EX_INTERRUPTED)


@contextmanager
def bars() -> Iterator[Stages]:
    """A bar for each stage, on standard error; nothing where that is no terminal."""
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        SpinnerColumn,
        TextColumn,
        TimeRemainingColumn,
    )

    from calibration.evaluation import unnamed

    console = Console(stderr=True)
    if not console.is_terminal:
        yield unnamed
        return
    text = TextColumn("{task.description}", markup=False)
    columns = (SpinnerColumn(), text, BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, transient=True) as bar:

        def stage(name: str) -> Told:
            task = bar.add_task(name, total=None)
            return lambda done, total: bar.update(task, completed=done, total=total)

        yield stage


@contextmanager
def pictures(
    images: Path | None, video: Path | None, frames: int | None, way: Way, stages: Stages
) -> Iterator[list[Sample]]:
    """All pictures of a folder, or so many different frames of a video. Raises CalibrationError, SourceError."""
    from calibration.errors import CalibrationError
    from calibration.pictures import distinct, from_folder, from_frames

    if (images is None) == (video is None):
        raise CalibrationError("give pictures: --images DIR or --video FILE" + (", not both" if images else ""))
    if images is not None:
        yield from_folder(images, way, stages("reading pictures"))
    if video is not None:
        from agent.commands._pictures import video_frames

        limit = frames or FRAMES
        with _room() as folder:
            with video_frames(video, limit) as found:
                stored = from_frames(found, folder, way, limit, stages("reading frames"))
            yield list(distinct(stored, stages("looking for repeated frames")).kept)


@contextmanager
def _room() -> Iterator[Path]:
    """A folder for frames, for a while. Raises CalibrationError."""
    from calibration.errors import CalibrationError

    try:
        room = tempfile.TemporaryDirectory(prefix="sightwire-")
    except OSError as error:
        raise CalibrationError(f"no room for frames: {error.strerror}; set TMPDIR to a folder that has some") from None
    with room as folder:
        yield Path(folder)


def counted(row: Mapping[str, Any]) -> str:
    """How many pictures or objects a class has, of a row of `worst classes`."""
    from calibration.report.words import count

    return next((count(row[f"{thing}s"], thing) for thing in ("picture", "object") if f"{thing}s" in row), "")
