"""`sightwire check`: is this configuration right, before anything starts?"""

from __future__ import annotations

from pathlib import Path

import typer

from agent.commands import EX_CONFIG, fail


def check(
    config: Path = typer.Argument(..., help="The configuration, a YAML file."),
    models: bool = typer.Option(True, help="Also check that the models are here and fit their uses."),
) -> None:
    """Check a configuration: every mistake with its line, exit status 78 if there is one.

    Example: sightwire check site.yaml
    """
    from agent.config import load
    from agent.errors import ConfigError
    from agent.models import find_cards
    from engines.store import ModelStore, default_root

    try:
        settings = load(config)
        if models:
            find_cards(settings, ModelStore(default_root()))
    except ConfigError as error:
        fail(error, EX_CONFIG)
    typer.echo(
        f"{config}: right: {len(settings.cameras)} camera(s), {len(settings.models)} model(s), "
        f"{len(settings.all_sinks())} sink(s)"
    )
