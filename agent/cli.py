"""The entry point of the `sightwire` command. The commands themselves are thin files in `agent.commands`."""

from __future__ import annotations

import sys

from agent.crash import redact_tracebacks
from agent.exits import EX_INTERRUPTED


def main() -> None:
    """Run a command; a Ctrl-C while the libraries load is an end, not a traceback."""
    redact_tracebacks()
    try:
        from agent.commands._app import app
    except KeyboardInterrupt:
        sys.exit(EX_INTERRUPTED)
    app()
