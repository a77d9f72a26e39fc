"""The agent's end: starts the process, yields what comes of it, and sees to it that it ends."""

from __future__ import annotations

import json
import logging
import os
import pickle
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from threading import Event
from typing import Any

from agent.errors import SourceError
from agent.frame import Timestamp
from agent.sources import Intake, Pictures, SourceConfig
from agent.sources._isolated import LEAVE_S, START_S
from agent.sources._isolated.slots import HEADER, Reader
from agent.sources._isolated.words import KINDS, MOST_BYTES, Order
from engines.errors import PictureError
from engines.pixels import Image

_ROOT = Path(__file__).resolve().parents[3]
_LOOK_S = 0.1
"""How often it is looked whether we are to stop, while nothing comes."""
_NOT_ITS = ("NOTIFY_SOCKET", "WATCHDOG_PID", "WATCHDOG_USEC", "PYTHONFAULTHANDLER")
"""The agent's own affairs with systemd; and what would write pages to the log each time that a decoder crashes."""


class _Ended(Exception):
    """The process has ended, or has closed its socket."""


class _Process:
    """One process and its socket."""

    def __init__(self, source: SourceConfig) -> None:
        """Raises SourceError where it cannot be started."""
        self._label = source.label
        try:
            order = pickle.dumps(Order(source, _folder(), logging.getLogger("agent").getEffectiveLevel()))
        except Exception as error:  # noqa: BLE001 - what cannot be pickled raises whatever it likes
            raise SourceError(f"{self._label}: cannot be isolated: {type(error).__name__}") from None
        if len(order) > MOST_BYTES:
            raise SourceError(f"{self._label}: cannot be isolated: its configuration has {len(order)} bytes")
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs:
            try:
                # A session of its own: Ctrl-C is our business. It dies with this thread, which waits for it.
                self._process = subprocess.Popen(
                    [sys.executable, "-m", "agent.sources._isolated.child"],
                    stdin=theirs.fileno(),
                    stdout=subprocess.DEVNULL,
                    env=_environment(),
                    cwd="/",
                    start_new_session=True,
                )
            except OSError as error:
                ours.close()
                raise SourceError(f"{self._label}: its process cannot be started: {error.strerror}") from None
        self._socket, self.pid = ours, self._process.pid
        ours.settimeout(_LOOK_S)
        with suppress(ConnectionError):  # one that has died already is found out when it is listened to
            ours.send(order)

    def hear(self) -> tuple[bytes, int | None] | None:
        """What it says next, and the file that comes with it; None: nothing for a while. Raises _Ended."""
        try:
            packet, fds, _, _ = socket.recv_fds(self._socket, MOST_BYTES, 1)
        except TimeoutError:
            return None
        except ConnectionResetError:
            raise _Ended from None
        if not packet:
            raise _Ended
        return packet, fds[0] if fds else None

    def kill(self) -> None:
        """At once."""
        self._process.kill()

    def end(self) -> str:
        """How it ended, once it has; killed where it takes long."""
        try:
            status = self._process.wait(LEAVE_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            status = self._process.wait()
        if status >= 0:
            return f"ended with status {status}"
        known = {number.value: number.name for number in signal.Signals}
        hint = ": out of memory?" if -status == signal.SIGKILL else ""
        return f"was ended by {known.get(-status, f'signal {-status}')}{hint}"

    def close(self) -> None:
        """Let it leave the camera, then end it; nothing of it is left."""
        with suppress(OSError):
            self._socket.shutdown(socket.SHUT_WR)
        until = time.monotonic() + LEAVE_S
        with suppress(_Ended):
            while time.monotonic() < until:
                heard = self.hear()
                if heard is not None and heard[1] is not None:
                    os.close(heard[1])
            self.kill()
        self.end()
        self._socket.close()


class _Reading:
    """What comes of one process."""

    def __init__(self, process: _Process, source: SourceConfig, stop: Event, intake: Intake) -> None:
        self._process, self._label, self._stop, self._intake = process, source.label, stop, intake
        self._times = source.times
        self._slots = Reader()
        self._state = "begins"
        """begins, opens, reads, ended"""

    def open(self) -> None:
        """Until the source is open, or `stop` is set. Raises as SourceConfig.open."""
        while self._state in ("begins", "opens") and self._next() is not None:
            pass

    def pictures(self) -> Pictures:
        """See SourceConfig.open."""
        while (heard := self._next()) is not None:
            if heard["is"] == "picture":
                yield self._picture(heard)

    def _next(self) -> dict[str, Any] | None:
        """What is said next; None at the source's end, or when `stop` is set. Raises SourceError, ConfigError."""
        if self._state == "ended":
            return None
        since, within_s = time.monotonic(), self._within_s()
        while not self._stop.is_set():
            try:
                heard = self._process.hear()
            except _Ended:
                raise SourceError(f"{self._label}: its process {self._process.end()}") from None
            if heard is None:
                if within_s is not None and time.monotonic() - since > within_s:
                    self._process.kill()
                    raise SourceError(f"{self._label}: its process hung for {within_s:g} s, and was killed")
                continue
            said = self._take(*heard)
            if said["is"] != "log":
                return said
        return None

    def _within_s(self) -> float | None:
        """How long it may say nothing."""
        if self._state == "begins":
            return START_S
        if self._times is None:
            return None
        return self._times.open_s if self._state == "opens" else self._times.step_s

    def _take(self, packet: bytes, fd: int | None) -> dict[str, Any]:
        """Do what is to be done with it. Raises what the source has raised."""
        try:
            said: dict[str, Any] = json.loads(packet)
            if fd is not None:
                self._slots.add(said["number"], fd, HEADER + said["pixels"])
            self._do(said["is"], said)
        except (ValueError, KeyError, TypeError, OSError):  # OSError: no room for a slot
            raise SourceError(f"{self._label}: its process says what cannot be understood") from None
        finally:
            if fd is not None:
                os.close(fd)
        return said

    def _do(self, what: str, said: dict[str, Any]) -> None:
        if what == "begun":
            self._state = "opens"
        elif what == "open":
            self._state = "reads"
        elif what == "alive":
            self._intake.alive()
        elif what == "news":
            self._intake.facts.update(said["facts"])
            self._intake.left_out += said["left_out"]
            if said["skipped"]:
                self._intake.skip(said["reason"], said["skipped"])
        elif what == "log":
            logging.getLogger(said["name"]).log(said["level"], "%s", said["text"])
        elif what == "failed":
            kind = KINDS.get(said["kind"])
            raise kind(said["text"]) if kind else SourceError(f"{self._label}: {said['text']}")
        elif what == "end":
            self._state = "ended"

    def _picture(self, said: dict[str, Any]) -> tuple[Timestamp, Image]:
        try:
            pixels, matrix, level, size = said["image"]
            planes = self._slots.take(said["slot"], [tuple(shape) for shape in said["shapes"]])
            return Timestamp(*said["captured"]), Image(planes, pixels, matrix, level, tuple(size))
        except (KeyError, ValueError, TypeError, PictureError) as error:
            raise SourceError(f"{self._label}: its process sent no picture: {error}") from None


@contextmanager
def reading(source: SourceConfig, stop: Event, intake: Intake) -> Iterator[Pictures]:
    """See SourceConfig.open."""
    process = _Process(source)
    try:
        intake.facts["process"] = str(process.pid)
        one = _Reading(process, source, stop, intake)
        one.open()
        yield one.pictures()
    finally:
        process.close()


def _folder() -> str:
    try:
        return str(Path.cwd())
    except FileNotFoundError:  # removed under our feet
        return "/"


def _environment() -> dict[str, str]:
    """Ours, less what is not for it; and it imports what we are."""
    ours = {name: value for name, value in os.environ.items() if name not in _NOT_ITS}
    paths = [str(_ROOT), *filter(None, [ours.get("PYTHONPATH")])]
    return {**ours, "PYTHONPATH": os.pathsep.join(paths), "PYTHONSAFEPATH": "1"}
