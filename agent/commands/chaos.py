"""`sightwire chaos`: break what surrounds an agent, on purpose, and see how it takes that."""

from __future__ import annotations

import logging
import signal
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from agent.commands import fail
from agent.durations import Seconds
from agent.exits import EX_CONFIG, EX_INTERRUPTED

if TYPE_CHECKING:
    from agent.chaos.faults import Fault, Outcome
    from agent.chaos.stage import Stage
    from agent.config import Settings

WIDTH = 120
"""Letters a line, of a table that nobody reads on a terminal."""


def _seconds(text: str) -> float:
    from pydantic import TypeAdapter, ValidationError

    try:
        return TypeAdapter[float](Seconds).validate_python(text)
    except ValidationError:
        raise typer.BadParameter("expected a duration such as 500ms, 8s or 1m") from None


def chaos(
    config: Path | None = typer.Argument(None, help="Your configuration; without one, the demo's street video."),
    only: str | None = typer.Option(None, help="Only these faults, e.g. 'camera-cut,broker-stop'; see --list."),
    camera: str | None = typer.Option(None, help="The camera to torment; default: the first that can be cut."),
    outage: float = typer.Option("8s", parser=_seconds, metavar="DURATION", help="How long a fault lasts."),
    key_frame: float = typer.Option(
        "2s", parser=_seconds, metavar="DURATION", help="Longest time between two key frames of your cameras."
    ),
    as_json: bool = typer.Option(False, "--json", help="The result as a JSON object."),
    listed: bool = typer.Option(False, "--list", help="Say which faults there are, and do nothing."),
) -> None:
    """Cut the camera, stop the broker, hang the engine, kill the agent: does it come back, and is anything lost?

    Starts an agent of its own with your cameras and models, and a broker for it; yours are not touched, nor are your
    events, pictures and settings. Network cameras are reached through a proxy that can be cut; the camera itself only
    sees one more viewer, who comes and goes. Ends with 1 where something did not go as it must.

    Example: sightwire chaos site.yaml --only camera-cut,agent-kill
    """
    from agent.chaos.faults import FAULTS

    if listed:
        width = max(len(fault.name) for fault in FAULTS)
        typer.echo("\n".join(f"{fault.name:{width}}  {fault.does}" for fault in FAULTS))
        return
    chosen = _chosen(only, list(FAULTS))
    # Told to end, by whomever: clean up.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    # What our own listener says of the broker is no news.
    logging.getLogger("agent").addHandler(logging.NullHandler())

    from agent.chaos.children import ChaosError
    from agent.chaos.report import as_json as json_of
    from agent.chaos.report import held, summary, table
    from agent.chaos.stage import Patience, Stage
    from agent.errors import ConfigError
    from engines.errors import EngineError

    outcomes: list[Outcome] = []
    interrupted = False
    try:
        with _Progress(len(chosen)) as progress:
            settings, document = _configuration(config, progress)
            with Stage(settings, document, Patience(outage, key_frame), progress.say) as stage:
                stage.set(camera)
                _try(stage, chosen, outcomes, progress)
    except KeyboardInterrupt:
        interrupted = True
    except ConfigError as error:
        fail(error, EX_CONFIG)
    except (ChaosError, EngineError) as error:
        fail(error)
    if as_json:
        typer.echo(json_of(outcomes))
    elif outcomes:
        from rich.console import Console

        console = Console(width=None if sys.stdout.isatty() else WIDTH)
        console.print(table(outcomes))
        console.print(summary(outcomes), highlight=False)
    if interrupted:
        fail("stopped; what was started for it has ended", EX_INTERRUPTED)
    if not held(outcomes):
        raise typer.Exit(1)


def _chosen(only: str | None, faults: list[type[Fault]]) -> list[type[Fault]]:
    if only is None:
        return faults
    import difflib

    names = [name.strip() for name in only.split(",") if name.strip()]
    known = {fault.name: fault for fault in faults}
    for name in names:
        if name not in known:
            near = difflib.get_close_matches(name, known, n=1)
            hint = f", did you mean {near[0]!r}?" if near else f"; known: {', '.join(known)}"
            fail(f"--only: there is no fault {name!r}{hint}", 2)
    if not names:
        fail(f"--only: names no fault; known: {', '.join(known)}", 2)
    return [fault for fault in faults if fault.name in names]


def _configuration(config: Path | None, progress: _Progress) -> tuple[Settings, dict[str, Any]]:
    """The user's, or the demo's; checked with its models."""
    from agent.config import load, loads
    from agent.models import find_cards
    from agent.yaml_lines import parse
    from engines.store import ModelStore, default_root

    store = ModelStore(default_root())
    if config is None:
        from agent.commands._fetch import fetch_video, pull_with_bar
        from agent.commands.demo import CONFIG

        with progress.paused():  # these draw bars of their own
            for name in ("person-ssdlite", "efficientnet-lite0"):
                pull_with_bar(name, store)
            video = fetch_video(store.root.parent / "demo")
        text = CONFIG.format(broker="mqtt://127.0.0.1", video=video, protocol="", events="events.db")
        name, settings = "the demo's configuration", loads(text, "the demo's configuration")
    else:
        settings = load(config)
        name, text = str(config), config.read_text(encoding="utf-8")
    find_cards(settings, store)
    return settings, parse(text, name).value


def _try(stage: Stage, chosen: list[type[Fault]], outcomes: list[Outcome], progress: _Progress) -> None:
    for fault in chosen:
        outcomes.append(fault().tried(stage))
        progress.done(f"{outcomes[-1].fault}: {outcomes[-1].result}")


class _Progress:
    """A line on stderr, where somebody looks at it."""

    def __init__(self, total: int) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

        columns = (SpinnerColumn(), BarColumn(20), MofNCompleteColumn(), TimeElapsedColumn())
        self._console = Console(stderr=True)
        self._bar = Progress(
            *columns,
            TextColumn("{task.description}"),
            console=self._console,
            transient=True,
            disable=not self._console.is_terminal,
        )
        self._task = self._bar.add_task("", total=total)

    def say(self, what: str) -> None:
        """What is being done."""
        self._bar.update(self._task, description=what)

    def done(self, what: str) -> None:
        """One more fault is over."""
        self._bar.advance(self._task)
        self.say(what)
        if self._console.is_terminal:
            self._console.print(what, highlight=False)

    def paused(self) -> _Paused:
        """While something else draws."""
        return _Paused(self._bar)

    def __enter__(self) -> _Progress:
        self._bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._bar.stop()


class _Paused:
    def __init__(self, bar: Any) -> None:
        self._bar = bar

    def __enter__(self) -> None:
        self._bar.stop()

    def __exit__(self, *_: object) -> None:
        self._bar.start()
