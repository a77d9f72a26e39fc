"""The process that reads one source: `python -m agent.sources._isolated.child`, its socket as standard input.

It begins by itself nothing but what the first packet orders, ends when the socket does, and dies with its parent.
"""

from __future__ import annotations

import contextlib
import ctypes
import json
import logging
import os
import pickle
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from agent.crash import redact_tracebacks
from agent.secrets import redact
from agent.sources import Intake, SourceConfig
from agent.sources._isolated.slots import Writer
from agent.sources._isolated.words import KINDS, MOST_BYTES, Order
from engines.pixels import Image

_LONGEST = 2000
"""Characters of what a library says."""
_SIGN_S = 0.1
"""Signs of life are sent at most so often."""
_FREE_LOOK_S = 0.001
"""How often it is looked for a free slot, where no picture may be left out."""
_PR_SET_PDEATHSIG = 1


log = logging.getLogger("agent.sources")


class Voice:
    """Says things to the parent, from any thread. Never waits: a parent that does not listen misses some."""

    def __init__(self, sock: socket.socket) -> None:
        self._sock = sock

    def say(self, what: str, fd: int | None = None, **more: Any) -> bool:
        """Whether it could be said. Ends this process where nobody is left to listen."""
        packet = json.dumps({"is": what, **more}).encode()
        try:
            socket.send_fds(self._sock, [packet], [] if fd is None else [fd], socket.MSG_DONTWAIT)
        except BlockingIOError:
            return False
        except ConnectionError:
            os._exit(1)
        return True


class _Log(logging.Handler):
    """Hands records on to the parent, whose log is the agent's."""

    def __init__(self, voice: Voice) -> None:
        super().__init__()
        self._voice = voice

    def emit(self, record: logging.LogRecord) -> None:
        text = redact(record.getMessage())[:_LONGEST]
        try:
            self._voice.say("log", level=record.levelno, name=record.name, text=text)
        except OSError:
            self.handleError(record)


class _Reading:
    """One source, from its opening to its end."""

    def __init__(self, source: SourceConfig, voice: Voice, stop: threading.Event) -> None:
        self._source, self._voice, self._stop = source, voice, stop
        self._intake = Intake(alive=self._alive)
        self._intake.skipped = self._skipped
        self._said: tuple[int, int, dict[str, str]] = (0, 0, {})
        """Unreadable frames, those left out, and facts that the parent knows of."""
        self._sign_s = 0.0
        self._slots = Writer()

    def run(self) -> None:
        """Until it ends. Raises what the source raises."""
        try:
            with self._source.open(self._stop, self._intake) as pictures:
                self._tell()
                _certainly(lambda: self._voice.say("open"))
                for captured, image in pictures:
                    self._tell()
                    stamp = [captured.wall_ns, captured.monotonic_ns, captured.clock, captured.received_ns]
                    self._hand_on(image, stamp)
                    if self._stop.is_set():
                        break
        finally:
            self._tell()

    def _hand_on(self, image: Image, stamp: list[Any]) -> None:
        """Live: if there is room for it, else the next one will do. Lossless: when there is."""
        while not self._put(image, stamp):
            if not self._source.lossless:
                self._intake.left_out += 1
                if self._intake.left_out == 1:
                    log.warning("%s: pictures come faster than they are taken; some are left out", self._source.label)
                return
            if self._stop.wait(_FREE_LOOK_S):
                return

    def _put(self, image: Image, stamp: list[Any]) -> bool:
        """Whether there was a slot for it, and the parent was told."""
        place = self._slots.put(image)
        if place is None:
            return False
        number, fd = place
        if fd is not None:
            try:
                size = sum(plane.nbytes for plane in image.planes)
                _certainly(lambda: self._voice.say("slot", fd, number=number, pixels=size))
            finally:
                os.close(fd)
        told = self._voice.say(
            "picture",
            slot=number,
            shapes=[plane.shape for plane in image.planes],
            image=[image.format, image.matrix, image.range, image.size],
            captured=stamp,
        )
        if not told:
            self._slots.take_back(number)
        return told

    def _tell(self) -> None:
        """Facts, and frames that were skipped or left out, that the parent does not know of."""
        now = (self._intake.unreadable, self._intake.left_out, dict(self._intake.facts))
        if now == self._said:
            return
        skipped, left_out = now[0] - self._said[0], now[1] - self._said[1]
        reason = str(self._intake.last_error)[:_LONGEST]
        if self._voice.say("news", skipped=skipped, left_out=left_out, reason=reason, facts=now[2]):
            self._said = now

    def _alive(self) -> None:
        if time.monotonic() - self._sign_s > _SIGN_S:
            self._sign_s = time.monotonic()
            self._voice.say("alive")

    def _skipped(self) -> None:
        if time.monotonic() - self._sign_s > _SIGN_S:
            self._sign_s = time.monotonic()
            self._tell()


def main() -> None:
    """Read what is ordered; say how it ended; end without a word where the parent is gone."""
    redact_tracebacks()
    sock = _socket()
    # The parent says when we end, or ends: a terminal's Ctrl-C and a container's SIGTERM are for it.
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_SETMASK, [])
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, int(signal.SIGKILL), 0, 0, 0)
    packet = sock.recv(MOST_BYTES)
    if not packet:  # the parent went before that could be asked for
        os._exit(1)
    voice, stop = Voice(sock), threading.Event()
    threading.Thread(target=_until_gone, args=(sock, stop), daemon=True).start()
    _run(packet, voice, stop)
    sys.stderr.flush()
    # Whatever the libraries would do to tidy up cannot matter any more, and may hang.
    os._exit(0)


def _run(packet: bytes, voice: Voice, stop: threading.Event) -> None:
    last: dict[str, Any] = {"what": "end"}
    try:
        order: Order = pickle.loads(packet)  # noqa: S301 - of our own parent
        os.chdir(order.folder)
        logging.basicConfig(level=order.log_level, handlers=[_Log(voice)])
        import cv2

        cv2.setNumThreads(1)  # the engines have the other cores
        _certainly(lambda: voice.say("begun"))
        _Reading(order.source, voice, stop).run()
    except tuple(KINDS.values()) as error:
        kind = next(name for name, known in KINDS.items() if isinstance(error, known))
        last = {"what": "failed", "kind": kind, "text": str(error)}
    except Exception as error:  # noqa: BLE001 - a fault of a source of whatever kind ends this process, told as that
        last = {"what": "failed", "kind": None, "text": _told(error)}
    _certainly(lambda: voice.say(**last))


def _told(error: Exception) -> str:
    """In a line: what, and where in the code; never with credentials."""
    at = error.__traceback__
    while at is not None and at.tb_next is not None:
        at = at.tb_next
    where = f" ({Path(at.tb_frame.f_code.co_filename).name}:{at.tb_lineno})" if at else ""
    return " ".join(redact(f"{type(error).__name__}: {error}").split())[:_LONGEST] + where


def _certainly(say: Callable[[], bool]) -> None:
    """Wait until it could be said."""
    while not say():
        time.sleep(_FREE_LOOK_S)


def _socket() -> socket.socket:
    """The parent's, which came as standard input; no program that a library starts gets it."""
    sock = socket.socket(fileno=os.dup(0))
    null = os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC)
    os.dup2(null, 0)
    os.close(null)
    return sock


def _until_gone(sock: socket.socket, stop: threading.Event) -> None:
    """The parent says nothing more than the order: what comes is its farewell, or its end."""
    with contextlib.suppress(ConnectionError):
        sock.recv(1)
    stop.set()


if __name__ == "__main__":
    main()
