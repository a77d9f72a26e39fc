"""What the commands that measure share: bars for long work, and mistakes in one line."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from agent.commands import fail
from agent.errors import AgentError
from agent.exits import EX_INTERRUPTED
from calibration.errors import CalibrationError
from engines.errors import EngineError

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from calibration.evaluation import Stages
    from calibration.pictures import Sample, Way


@contextmanager
def answered() -> Iterator[None]:
    """End the command with a line, whatever is wrong: a traceback is for mistakes of ours."""
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

        def stage(name: str):  # noqa: ANN202  # Progress
            task = bar.add_task(name, total=None)
            return lambda done, total: bar.update(task, completed=done, total=total)

        yield stage


@contextmanager
def pictures(
    images: Path | None, video: Path | None, samples: int | None, way: Way, stages: Stages
) -> Iterator[tuple[Sequence[Sample], str]]:
    """The pictures to measure with, and what they are called. Raises CalibrationError."""
    from calibration.pictures import from_folder, limited

    if images is None:
        raise CalibrationError("give --images DIR or --video FILE")
    found = from_folder(images, way, stages("reading"))
    yield (found if samples is None else limited(found, samples)), str(images)
