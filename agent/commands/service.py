"""`sightwire service`: the agent as a service of systemd, set up and taken away."""

from __future__ import annotations

import fcntl
import os
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from agent.commands import fail
from agent.exits import EX_INTERRUPTED

if TYPE_CHECKING:
    from agent.installing.plan import Wishes
    from agent.installing.steps import Step

app = typer.Typer(
    help="The agent as a service of this machine.",
    epilog="Example: sudo sightwire service install site.yaml --now",
    no_args_is_help=True,
    rich_markup_mode="rich",
)


class Tried(str, Enum):
    """What `try` runs: commands that take a configuration and look at the machine with it."""

    check = "check"
    doctor = "doctor"
    chaos = "chaos"
    bench = "bench"


NOT_RUNNING = 3
"""systemctl's own exit status for a service that does not run."""

_DRY_RUN = typer.Option(False, "--dry-run", help="Show every step, change nothing.")
_WHEEL = typer.Option(
    None, help="A wheel, or a version for pip ('sightwire==0.8').", show_default="the sightwire that runs this command"
)
_CREDENTIAL = typer.Option([], metavar="NAME=FILE", help="What 'credential:NAME' stands for in the configuration.")
_MODELS = typer.Option(None, help="Where your models are.", show_default="your model folder")
_REPLACE = typer.Option(False, "--replace", help="Your configuration and models instead of those the service has.")
_NOW = typer.Option(False, "--now", help="Start it now, and whenever the machine starts.")
_PYTHON = typer.Option(None, help="The interpreter that it shall run on.")
_EXTRA = typer.Option([], help="What GPUs need (cuda12, cuda13, gpu).", show_default="as before")
_SYSTEM = typer.Option(
    None, "--system-packages/--no-system-packages", help="See the system's Python packages: JetPack's TensorRT.",
    show_default="as before",
)  # fmt: skip
_LINKS = typer.Option([], metavar="FOLDER", help="Take packages from this folder only, for machines without an index.")


@app.command()
def install(
    config: Path = typer.Argument(None, help="The configuration, a YAML file.", show_default="the one it has"),
    wheel: str = _WHEEL,
    credential: list[str] = _CREDENTIAL,
    models: Path = _MODELS,
    replace: bool = _REPLACE,
    now: bool = _NOW,
    python: Path = _PYTHON,
    extra: list[str] = _EXTRA,
    system_packages: bool = _SYSTEM,
    find_links: list[Path] = _LINKS,
    dry_run: bool = _DRY_RUN,
) -> None:
    """Set it up: account, environment in /opt, configuration, models, unit. Nothing is started without --now.

    What is there already stays; if a step fails, those before it are undone. The service is checked in its own sandbox
    before anything is switched over. One that runs is started anew with what has changed.

    Example: sudo sightwire service install site.yaml --credential mqtt=password.txt --now
    """
    from agent.installing import plan

    with _said():
        given = dict(plan.credential(text) for text in credential)
        wished = plan.Wishes(
            config, given, models, replace, now, python, tuple(extra) or None, system_packages, tuple(find_links)
        )
        _install(wheel, wished, dry_run=dry_run, command="install")


@app.command()
def upgrade(
    wheel: str = _WHEEL,
    python: Path = _PYTHON,
    extra: list[str] = _EXTRA,
    system_packages: bool = _SYSTEM,
    find_links: list[Path] = _LINKS,
    dry_run: bool = _DRY_RUN,
) -> None:
    """Another version, with the configuration that is there. If it does not get ready, the one before goes on.

    Example: sudo sightwire service upgrade --wheel sightwire-0.8.0-py3-none-any.whl
    """
    from agent.installing import plan

    with _said():
        wished = plan.Wishes(
            python=python, extras=tuple(extra) or None, system_packages=system_packages, find_links=tuple(find_links)
        )
        _install(wheel, wished, dry_run=dry_run, command="upgrade")


@app.command()
def rollback(dry_run: bool = _DRY_RUN) -> None:
    """The version before this one again. Once more, and this one is back.

    Example: sudo sightwire service rollback
    """
    from agent.installing import plan

    with _said():
        _carry_out(plan.roll_back, dry_run=dry_run, command="rollback")


@app.command()
def uninstall(
    purge: bool = typer.Option(False, "--purge", help="Its configuration, models, events and account as well."),
    dry_run: bool = _DRY_RUN,
) -> None:
    """Stop it and take it away. Configuration and what it has kept stay, unless --purge.

    Example: sudo sightwire service uninstall
    """
    from agent.installing import plan

    with _said():
        _carry_out(lambda: plan.uninstall(purge=purge), dry_run=dry_run, command="uninstall")
        if not dry_run and (left := plan.left_over()):
            typer.echo(f"left: {', '.join(map(str, left))} and the account; --purge removes them too")


@app.command()
def status() -> None:
    """How it is: version, state, watchdog, the newest errors. Exit status 3 if it does not run.

    Example: sightwire service status
    """
    from agent.installing import systemd
    from agent.installing.status import describe, is_active

    with _said():
        systemd.must_run_here()
        for what, said in describe():
            typer.echo(f"{what:<10} {said}")
        active = is_active()
    raise typer.Exit(0 if active else NOT_RUNNING)


@app.command("try", context_settings={"ignore_unknown_options": True, "allow_extra_args": True})
def try_(
    context: typer.Context,
    command: Tried = typer.Argument(..., help="Which; its options follow."),
) -> None:
    """A command as the service would run it: its configuration, models and passwords, in its sandbox, by its account.

    What works by hand and not as a service shows here. Ends with the exit status of the command.

    Example: sudo sightwire service try chaos --only camera-cut,agent-kill
    """
    from agent.installing import sandbox, systemd

    with _said():
        systemd.must_run_here()
        systemd.must_be_root(f"try {command.value}")
        terminal = os.isatty(0) and os.isatty(1)
        words = sandbox.as_the_service(command.value, context.args, terminal=terminal)
    os.execvp(words[0], words)  # noqa: S606  # it is systemd-run from here on


@app.command()
def logs(
    lines: int = typer.Option(50, min=0, help="So many of the newest lines first."),
    follow: bool = typer.Option(True, help="Go on with what comes, until Ctrl-C."),
    priority: str = typer.Option("debug", help="This and worse: debug, info, notice, warning, err."),
) -> None:
    """What it says, as the journal has it.

    Example: sightwire service logs --priority warning
    """
    from agent.installing import layout, systemd

    with _said():
        systemd.must_run_here()
    words = [
        "journalctl",
        "--unit",
        layout.UNIT_NAME,
        f"--lines={lines}",
        f"--priority={priority}",
        "--output=short-iso",
    ]
    os.execvp(words[0], [*words, *(["--follow"] if follow else ["--no-pager"])])  # noqa: S606  # it is journalctl from here on


def _install(wheel: str | None, wished: Wishes, *, dry_run: bool, command: str) -> None:
    from agent.installing import layout, plan, systemd
    from agent.installing.errors import InstallError
    from agent.installing.wheels import wheel_from

    with tempfile.TemporaryDirectory(prefix="sightwire-") as folder:

        def steps() -> list[Step]:
            if command == "upgrade" and not layout.CURRENT.is_symlink():
                raise InstallError("there is no service to upgrade: sudo sightwire service install site.yaml")
            links = [word for place in wished.find_links for word in ("--no-index", "--find-links", str(place))]
            return plan.install(wheel_from(wheel, Path(folder), links), wished)

        kept = layout.CONFIG.exists() and wished.config is not None and not wished.replace
        _carry_out(steps, dry_run=dry_run, command=command)
        if not dry_run and not systemd.is_up():
            typer.echo("not started: sudo systemctl enable --now sightwire")
        if kept:
            typer.echo(f"{layout.CONFIG} was there and stays; --replace puts {wished.config} in its place")


def _carry_out(steps: Callable[[], list[Step]], *, dry_run: bool, command: str) -> None:
    from agent.installing import systemd
    from agent.installing.steps import carry_out, show

    if dry_run:
        show(steps(), typer.echo)
        return
    systemd.must_run_here()
    systemd.must_be_root(command)
    os.umask(0o022)  # the service's account reads what root makes here, whatever root's usual rights are
    with _alone():
        if not carry_out(steps(), typer.echo, back=command != "uninstall"):
            typer.echo("all is so already")


@contextmanager
def _alone() -> Iterator[None]:
    """One at a time."""
    from agent.installing.errors import InstallError

    with Path("/run/sightwire-service.lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise InstallError("another 'sightwire service' is at work; wait for its end") from None
        yield


@contextmanager
def _said() -> Iterator[None]:
    """Mistakes as one line, an interruption as an end."""
    from agent.errors import AgentError

    try:
        yield
    except AgentError as error:
        fail(error)
    except PermissionError as error:
        fail(f"{error.filename}: may not be read by this user; root may (sudo)")
    except KeyboardInterrupt:
        raise typer.Exit(EX_INTERRUPTED) from None
