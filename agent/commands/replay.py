"""`sightwire replay`: a recording through a camera's rules; a test that they say what they said before."""

from __future__ import annotations

import signal
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from agent.commands import fail
from agent.exits import EX_CONFIG, EX_INTERRUPTED

if TYPE_CHECKING:
    from rich.table import Table

    from agent.replay.baseline import Difference

DIFFERENT = 1
CALLED_WRONGLY = 2
"""Not 1: that the events cannot be had is not that they are different."""


def replay(
    file: str = typer.Argument(..., help="The recording: a video file, or a folder of pictures."),
    config: Path = typer.Option(..., help="The configuration whose rules are asked."),
    camera: str | None = typer.Option(None, help="Whose rules; not needed where there is one camera."),
    against: Path | None = typer.Option(None, metavar="BASELINE", help="Events of an earlier replay: what differs?"),
    within: str = typer.Option("500ms", help="With --against: how far an event may move in time."),
    update: bool = typer.Option(False, "--update", help="Write these events to BASELINE: they are right."),
    out: Path | None = typer.Option(None, help="Write the events to this file, a JSON object a line."),
) -> None:
    """Run a recording through a camera's models, tracks and rules, and show the events or how they differ.

    Nothing is published, sent or kept. The same file gives the same events, whatever the machine's clock and load. Exit
    status: 0 as before, 1 different, 2 or 78 where they cannot be compared.

    Example: sightwire replay gate.mp4 --config site.yaml --camera dock --against gate.events.jsonl
    """
    # Before the heavy imports, and not as an exception: that could strike while a lock is being taken.
    stop = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stop.set())

    from agent.replay import baseline

    if update and against is None:
        fail("--update: which file? Give it with --against BASELINE", CALLED_WRONGLY)
    within_s = _duration(within)
    before = None
    if against is not None and not (update and not against.exists()):
        try:
            before = baseline.read(against)
        except baseline.BaselineError as error:
            hint = "" if against.exists() else "; --update writes it"
            fail(f"{error}{hint}", CALLED_WRONGLY)
    for path in (out, against if update else None):
        if path is not None and (path.is_dir() or not path.parent.is_dir()):  # to be said before the work, not after
            fail(f"{path}: cannot be written: not a file in a folder that is there", CALLED_WRONGLY)
    events = _events(file, config, camera, stop)
    if out is not None:
        _write(out, baseline.written(events))
    if update and against is not None:
        _write(against, baseline.written(events))
    if against is None:
        if out is None:
            _show(events)
        return
    found = [] if before is None else baseline.differences(before, events, within_s)
    if before is not None:
        _tell(found, len(events))
    if update:
        typer.echo(f"{against}: {_counted(len(events), 'event')} written")
    elif found:
        raise typer.Exit(DIFFERENT)


def _events(file: str, config: Path, camera: str | None, stop: threading.Event) -> list[dict[str, Any]]:
    from agent.config import load
    from agent.errors import ConfigError, SourceError
    from agent.log import configure
    from agent.replay.replaying import Replay

    try:
        settings = load(config)
        configure("error" if settings.log == "error" else "warning")
        replayed = Replay(settings, camera, file)
        with _bar(file) as progress:
            events = replayed.run(stop, progress)
    except ConfigError as error:
        fail(error, EX_CONFIG)
    except SourceError as error:
        fail(error, CALLED_WRONGLY)
    if stop.is_set():
        fail("interrupted", EX_INTERRUPTED)
    if replayed.unreadable:
        lost = f"{_counted(replayed.unreadable, 'frame')} could not be read"
        typer.echo(f"sightwire: {file}: {lost}, {replayed.frames} could", err=True)
    return events


@contextmanager
def _bar(file: str) -> Iterator[Callable[[int, int | None], None]]:
    """A bar of frames on standard error; nothing where that is no terminal."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    console = Console(stderr=True)
    columns = (TextColumn("{task.description}", markup=False), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as bar:
        task = bar.add_task(Path(file).name, total=None)
        yield lambda done, total: bar.update(task, completed=done, total=total)


def _show(events: Sequence[dict[str, Any]]) -> None:
    from rich.console import Console

    from agent.replay import baseline

    console = Console()
    if not console.is_terminal:
        sys.stdout.write(baseline.written(events))
    elif events:
        console.print(_table(events))
    else:
        console.print("no events")


def _table(events: Sequence[dict[str, Any]]) -> Table:
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None)
    for column in ("at", "rule", "phase", "what", "label", "score", "track"):
        table.add_column(column, justify="right" if column in ("at", "score", "track") else "left")
    for event in events:
        row = (
            _clock(event["at_s"]),
            event["rule"],
            event["phase"],
            _what(event),
            event.get("label", ""),
            f"{event['score']:.2f}" if "score" in event else "",
            str(event.get("track", "")),
        )
        table.add_row(*(Text(cell) for cell in row))
    return table


def _what(event: dict[str, Any]) -> str:
    """What happened, in the words of its data: `leave, left, inside_s 4.2`."""
    data = event.get("data", {})
    words = [data["event"]] if "event" in data else []
    words += [event["reason"]] if event.get("reason") else []
    for key, value in data.items():
        if value is True:
            words.append(key)
        elif value is not False and key not in ("event", "attributes"):
            words.append(f"{key} {value}")
    return ", ".join(words)


def _tell(found: Sequence[Difference], events: int) -> None:
    from rich.console import Console
    from rich.text import Text

    from agent.replay import baseline

    console = Console(highlight=False, soft_wrap=True)
    colours = {"missing": "red", "new": "green", "moved": "yellow"}
    for difference in found:
        words = baseline.told(difference.before or difference.now or {})
        at = _clock(difference.at_s)
        if difference.before and difference.now:
            at += f" -> {_clock(difference.now['at_s'])}"
        console.print(Text(f"{difference.what:<8} {at}  {words}", style=colours[difference.what]))
    if found:
        each = [f"{n} {what}" for what in colours if (n := sum(d.what == what for d in found))]
        console.print(f"{', '.join(each)}; {_counted(events, 'event')} now")
    else:
        console.print(f"{_counted(events, 'event')}, no difference")


def _write(path: Path, text: str) -> None:
    try:
        path.write_text(text, encoding="utf-8")
    except OSError as error:
        fail(f"{path}: cannot be written: {error.strerror}", CALLED_WRONGLY)


def _duration(text: str) -> float:
    from pydantic import TypeAdapter, ValidationError

    from agent.durations import Seconds

    try:
        return TypeAdapter[float](Seconds).validate_python(text)
    except ValidationError:
        fail("--within: expected a duration such as 500ms, 1s or 2m", CALLED_WRONGLY)


def _clock(at_s: float) -> str:
    """`1:02:03.450` of the recording."""
    minutes, seconds = divmod(at_s, 60)
    hours, minutes = divmod(int(minutes), 60)
    return f"{hours}:{minutes:02d}:{seconds:06.3f}" if hours else f"{minutes}:{seconds:06.3f}"


def _counted(n: int, what: str) -> str:
    return f"{n} {what}{'s' * (n != 1)}"
