"""What the agent says on stderr or in the journal: one line a fact, never a credential."""

from __future__ import annotations

import logging
import sys

from agent import journal
from agent.secrets import redact


class _Redacting(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        return redact(super().format(record))


class _Numbered(_Redacting):
    """`<4>...`: as whoever reads our stderr for a journal understands priorities (sd-daemon(3))."""

    def format(self, record: logging.LogRecord) -> str:
        number = journal.priority(record.levelno)
        return "\n".join(f"<{number}>{line}" for line in super().format(record).splitlines())


def configure(level: str) -> None:
    """Log to the journal where stderr goes there, else to stderr; a terminal gets time stamps of ours."""
    if sys.stderr is None:  # closed by whoever started us
        logging.disable()
        return
    handler: logging.Handler = logging.StreamHandler(sys.stderr)
    if journal.wanted():
        handler.setFormatter(_Numbered("%(message)s"))
        handler = journal.JournalHandler(handler)
        handler.setFormatter(_Redacting("%(message)s"))
    else:
        pattern = "%(asctime)s %(levelname)-7s %(message)s" if sys.stderr.isatty() else "%(levelname)s %(message)s"
        handler.setFormatter(_Redacting(pattern, datefmt="%H:%M:%S"))
    logging.basicConfig(level=level.upper(), handlers=[handler], force=True)
