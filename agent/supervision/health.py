"""What systemd is told of a running agent: that it is ready, what it does, and that it moves (sd_notify(3)).

`WATCHDOG=1` is sent by the main thread, and only while no thread is stuck that nothing replaces. A thread that waits
for work or for its next try is not stuck, and neither is a part that hangs while its successor works: those are a
status. What is left is what only a new process can mend, and systemd makes one when the watchdog is not fed.

Where nobody watches, in a container, `SIGHTWIRE_WATCHDOG_S` has the interpreter's own watchdog do it: it needs no lock
that a hanging thread may hold, says where every thread is, and ends the process for the container engine to restart.
"""

from __future__ import annotations

import faulthandler
import logging
import os
import socket
import time
from collections.abc import Callable, Iterable, Mapping

from agent.workers import Worker

log = logging.getLogger(__name__)

BEATS = 4
"""In the time after which systemd loses patience."""


class Health:
    """Speaks to whoever started this process, if they listen: `NOTIFY_SOCKET`. Used by the main thread."""

    def __init__(
        self,
        environ: Mapping[str, str] = os.environ,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._address = environ.get("NOTIFY_SOCKET", "")
        self._clock = clock
        ours = environ.get("WATCHDOG_PID", str(os.getpid())) == str(os.getpid())
        patience_us = environ.get("WATCHDOG_USEC", "0")
        self._beat_s = int(patience_us) / 1e6 / BEATS if ours and patience_us.isdigit() else 0.0
        own = environ.get("SIGHTWIRE_WATCHDOG_S", "0")
        self._own_patience_s = float(own) if own.replace(".", "", 1).isdigit() and not self._beat_s else 0.0
        if self._own_patience_s:
            self._beat_s = self._own_patience_s / BEATS
        self._next_s = 0.0
        self._stuck: list[str] = []
        self._said = ""

    def ready(self, status: str) -> None:
        """It serves; also after `reloading`."""
        self._said = status
        self._send("READY=1", f"STATUS={status}")

    def reloading(self) -> None:
        """The configuration is read again; `ready` follows."""
        self._send("RELOADING=1", f"MONOTONIC_USEC={time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000}")

    def stopping(self) -> None:
        """It ends because it was asked to."""
        if self._own_patience_s:
            faulthandler.cancel_dump_traceback_later()
        self._send("STOPPING=1", "STATUS=stopping")

    def beat(self, workers: Iterable[Worker], status: str) -> None:
        """The main thread moves. `workers`: those that nothing replaces when they hang; `status`: a line for people."""
        stuck = sorted(_words(worker) for worker in workers if worker.alive and worker.progress.overdue_s() > 0)
        if stuck != self._stuck:
            self._stuck = stuck
            if stuck:
                fed = "; the watchdog is not fed" if self._beat_s else ""
                log.error("stuck: %s%s", ", ".join(stuck), fed)
        if stuck:
            status = "stuck: " + ", ".join(stuck)
        if status != self._said:
            self._said = status
            self._send(f"STATUS={status}")
        now_s = self._clock()
        if self._beat_s and not stuck and now_s >= self._next_s:
            self._next_s = now_s + self._beat_s
            self._feed()

    def extend(self, seconds: float) -> None:
        """Starting or stopping takes longer, and so long at most."""
        self._send(f"EXTEND_TIMEOUT_USEC={round(seconds * 1e6)}")

    def _feed(self) -> None:
        if self._own_patience_s:
            faulthandler.dump_traceback_later(self._own_patience_s, exit=True)
        else:
            self._send("WATCHDOG=1")

    def _send(self, *lines: str) -> None:
        if not self._address:
            return
        # @ stands for the zero byte of an abstract address.
        address = "\0" + self._address[1:] if self._address.startswith("@") else self._address
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as door:
                door.settimeout(1)
                door.sendto("\n".join(lines).encode(), address)
        except OSError as error:
            log.debug("systemd does not hear us: %s", error)


def _words(worker: Worker) -> str:
    doing = worker.progress.doing
    return f"{worker.name} ({doing.what})" if doing else worker.name
