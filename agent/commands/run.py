"""`sightwire run`: the agent itself."""

from __future__ import annotations

import signal
import threading
from pathlib import Path

import typer

from agent.commands import fail
from agent.exits import EX_CONFIG


def run(config: Path = typer.Argument(..., help="The configuration, a YAML file.")) -> None:
    """Capture, infer and publish until stopped (Ctrl-C, SIGTERM) or until every recording has ended.

    A configuration that is wrong ends it at once, with exit status 78 and a line for each mistake.

    Example: sightwire run site.yaml
    """
    # Before the heavy imports, so that a Ctrl-C during start-up ends it quietly too.
    stop = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stop.set())

    from agent.config import load
    from agent.errors import ConfigError
    from agent.log import configure
    from agent.service import Service

    try:
        settings = load(config)
        configure(settings.log)
        Service(settings).run(stop)
    except ConfigError as error:
        fail(error, EX_CONFIG)
