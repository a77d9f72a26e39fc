"""Every command: thin, one file each. Heavy imports happen inside, so that `--help` is quick."""

from __future__ import annotations

from typing import NoReturn

import typer


def fail(message: object, code: int = 1) -> NoReturn:
    """End the command with an error on stderr."""
    typer.echo(f"sightwire: {message}", err=True)
    raise typer.Exit(code)
