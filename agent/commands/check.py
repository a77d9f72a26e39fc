"""`sightwire check`: is this configuration right, before anything starts?"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import typer

from agent.commands import fail
from agent.exits import EX_CONFIG

if TYPE_CHECKING:
    from agent.config import Settings


def check(
    config: Path = typer.Argument(..., help="The configuration, a YAML file."),
    models: bool = typer.Option(
        True, help="Also check that the models are here and fit their uses, and the certificates of brokers."
    ),
) -> None:
    """Check a configuration: every mistake with its line, exit status 78 if there is one.

    Nothing is opened or connected; 'sightwire doctor CONFIG' does that.

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
            for sink in settings.all_sinks():
                sink.look_at_files()
    except ConfigError as error:
        fail(error, EX_CONFIG)
    typer.echo(f"{config}: right{'' if models else ' (models and certificates were not looked for)'}")
    for line in _holds(settings):
        typer.echo(f"  {line}")


def _holds(settings: Settings) -> list[str]:
    """What was checked, a line a kind: `2 cameras: dock, gate`."""
    models = [f"{name} ({section.model}, {section.precision})" for name, section in settings.models.items()]
    sinks = [str(getattr(sink, "type", "")) for sink in settings.all_sinks()]
    holds = [
        _counted("camera", list(settings.cameras)),
        _counted("model", models),
        _counted("sink", sinks) if sinks else "no sink: results go nowhere; add mqtt: or sinks:",
    ]
    if collect := settings.calibration.collect:
        holds.append(f"pictures are kept: at most {collect.limit} of each camera, in {collect.folder.absolute()}")
    if settings.commands.allow:
        holds.append(f"may be asked over MQTT: {', '.join(settings.commands.allow)}")
    return [*holds, *_kept(settings)]


def _kept(settings: Settings) -> list[str]:
    """What is kept of incidents, and which pictures leave this machine."""
    cameras = settings.cameras.items()
    kept = {
        "snapshots": [name for name, camera in cameras if camera.snapshots],
        "clips": [name for name, camera in cameras if camera.clips],
    }
    lines = [f"{what} of incidents are kept: {', '.join(names)}" for what, names in kept.items() if names]
    for name, camera in cameras:
        if camera.snapshots and camera.snapshots.publish:
            stays = ", and the newest stays at the broker" if camera.snapshots.retain else ""
            lines.append(f"pictures leave: {name}/snapshot is published{stays}")
    return lines


def _counted(what: str, names: list[str]) -> str:
    return f"{len(names)} {what}{'s' * (len(names) != 1)}: {', '.join(names)}"
