"""What the agent says on stderr: one line a fact, never a credential."""

from __future__ import annotations

import logging
import sys

from agent.secrets import redact


class _Redacting(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        return redact(super().format(record))


def configure(level: str) -> None:
    """Log to stderr. journald adds its own time stamps; a terminal gets ours."""
    if sys.stderr is None:  # closed by whoever started us
        logging.disable()
        return
    handler = logging.StreamHandler(sys.stderr)
    pattern = "%(asctime)s %(levelname)-7s %(message)s" if sys.stderr.isatty() else "%(levelname)s %(message)s"
    handler.setFormatter(_Redacting(pattern, datefmt="%H:%M:%S"))
    logging.basicConfig(level=level.upper(), handlers=[handler], force=True)
