"""What systemd is told of a running agent: that it is ready, what it does, and that it moves (sd_notify(3)).

`WATCHDOG=1` is sent by the main thread, and only while nothing is stuck that only a new process can mend: what was
replaced so often that this process carries too many hanging threads, or all sinks at once, so that nothing gets out. A
thread that waits for work or for its next try is not stuck, nor is a part that hangs while another does its work: those
are a status, since a restart would cost the others more than it mends.

Where nobody watches, in a container, `SIGHTWIRE_WATCHDOG_S` has the interpreter's own watchdog do it: it needs no lock
that a hanging thread may hold, says where every thread is, and ends the process for the container engine to restart.
"""

from __future__ import annotations

import faulthandler
import logging
import os
import socket
import time
from collections.abc import Callable, Mapping, Sequence

log = logging.getLogger(__name__)

BEATS = 4
"""In the time after which systemd loses patience."""
START_S, STOP_S = 300.0, 45.0
"""Where nobody watches: how long each may take, as systemd's unit has it (TimeoutStartSec, TimeoutStopSec)."""


class Health:
    """Speaks to whoever started this process, if they listen: `NOTIFY_SOCKET`. Of the main thread, but `stopping`."""

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
            faulthandler.dump_traceback_later(START_S, exit=True)
        self._next_s = 0.0
        self._stuck: list[str] = []
        self._said = ""
        self._ends = False

    def ready(self, status: str) -> None:
        """It serves; also after `reloading`."""
        self._said = status
        self._send("READY=1", f"STATUS={status}")

    def reloading(self) -> None:
        """The configuration is read again; `ready` follows."""
        self._send("RELOADING=1", f"MONOTONIC_USEC={time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000}")

    def stopping(self) -> None:
        """It ends because it was asked to, in whoever's time who asked; any thread."""
        self._ends = True
        if self._own_patience_s:
            faulthandler.dump_traceback_later(STOP_S, exit=True)
        self._send("STOPPING=1", "STATUS=stopping")

    def beat(self, status: str, stuck: Sequence[str] = ()) -> None:
        """The main thread moves. `status`: a line for people; `stuck`: what only a new process mends, if anything."""
        if self._ends:
            return
        if list(stuck) != self._stuck:
            self._stuck = list(stuck)
            if stuck:
                log.error("stuck: %s%s", ", ".join(stuck), "; the watchdog is not fed" if self._beat_s else "")
        if stuck:
            status = f"stuck: {', '.join(stuck)}"
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
