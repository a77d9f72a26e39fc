"""`sightwire run`: the agent itself."""

from __future__ import annotations

import faulthandler
import os
import signal
import sys
from pathlib import Path
from queue import SimpleQueue
from typing import TYPE_CHECKING

import typer

from agent.allocator import share_arenas
from agent.commands import fail
from agent.exits import EX_CONFIG

DOOR = "SIGHTWIRE_CHAOS_FD"
"""Set by `sightwire chaos` alone, for agents that it starts: `agent.chaos.door`."""

if TYPE_CHECKING:
    from agent.running import Wish


def run(config: Path = typer.Argument(..., help="The configuration, a YAML file.")) -> None:
    """Capture, infer and publish until stopped (Ctrl-C, SIGTERM) or until every recording has ended.

    A configuration that is wrong ends it at once, with exit status 78 and a line for each mistake. SIGHUP has it read
    again: if it is right, what changed is begun anew, in the same process.

    Example: sightwire run site.yaml
    """
    # Before the heavy imports, which begin threads.
    share_arenas()
    # Before them, too, so that a Ctrl-C during start-up ends it quietly.
    asked: SimpleQueue[Wish] = SimpleQueue()
    on_terminal = sys.stdin is not None and sys.stdin.isatty()

    shown_on = [descriptor for descriptor in (1, 2) if os.isatty(descriptor)]

    def hang_up(*_: object) -> None:
        if not on_terminal or _has_terminal():
            asked.put("reload")
            return
        # Last words that find no terminal would make a failure of an end in order: Python's status 120.
        with Path(os.devnull).open("wb") as nobody:
            for descriptor in shown_on:
                os.dup2(nobody.fileno(), descriptor)
        asked.put("end")

    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: asked.put("end"))
    if signal.getsignal(signal.SIGHUP) != signal.SIG_IGN:  # as nohup wants it
        signal.signal(signal.SIGHUP, hang_up)

    if sys.stderr is not None:
        # What systemd's watchdog ends (SIGABRT), or a decoder (SIGSEGV), says where every thread was.
        faulthandler.enable()

    from agent.errors import ConfigError

    try:
        if DOOR in os.environ:
            from agent.chaos.door import open_door

            open_door()

        from agent.running import Running

        Running(config, asked).run()
    except ConfigError as error:
        fail(error, EX_CONFIG)


def _has_terminal() -> bool:
    """Whether there is still somebody to press Ctrl-C: a window that is closed sends SIGHUP too."""
    try:
        os.close(os.open("/dev/tty", os.O_RDONLY | os.O_NOCTTY))
    except OSError:
        return False
    return True
