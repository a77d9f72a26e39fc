"""Every command: thin, one file each. Heavy imports happen inside, so that `--help` is quick."""

from __future__ import annotations

from typing import NoReturn

import typer

EX_CONFIG = 78
"""sysexits.h: something is wrong in the configuration. The service unit does not restart on it."""


def fail(message: object, code: int = 1) -> NoReturn:
    """End the command with an error on stderr."""
    typer.echo(f"sightwire: {message}", err=True)
    raise typer.Exit(code)
