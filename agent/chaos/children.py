"""The processes that chaos starts: an agent with a door, and a broker. They end with us, however we end."""

from __future__ import annotations

import contextlib
import ctypes
import getpass
import json
import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, Any

from agent.chaos.door import DOOR
from agent.errors import AgentError

PR_SET_PDEATHSIG = 1
START_S = 15.0
ANSWER_S = 10.0
SERVICE = ("NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID", "JOURNAL_STREAM")


class ChaosError(AgentError):
    """The stage cannot be set: one line that says what to do."""


def _end_with_parent() -> None:
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


def _started(command: list[str], **more: Any) -> subprocess.Popen[str]:
    """In a session of its own, so that Ctrl-C comes to us alone and we end it in order."""
    return subprocess.Popen(
        command, stdin=subprocess.DEVNULL, text=True, start_new_session=True, preexec_fn=_end_with_parent, **more
    )


@contextlib.contextmanager
def _uninterrupted() -> Iterator[None]:
    """Ctrl-C and SIGTERM wait: a process that was started and not noted yet would not be ended by us."""
    waiting: list[int] = []
    asking = (signal.SIGINT, signal.SIGTERM) if threading.current_thread() is threading.main_thread() else ()
    before = {number: signal.signal(number, lambda number, _: waiting.append(number)) for number in asking}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        for came in waiting:
            signal.raise_signal(came)


def _environment() -> dict[str, str]:
    """Ours, without what tells a service whom to report to: this agent is nobody's service."""
    return {name: value for name, value in os.environ.items() if name not in SERVICE}


class Agent:
    """`sightwire run` on a configuration, with a door. `start` again after `kill`."""

    def __init__(self, config: Path, folder: Path, hear: Callable[[str], None]) -> None:
        self._config, self._hear = config, hear
        self._log = folder / "agent.log"
        self._process: subprocess.Popen[str] | None = None
        self._door: socket.socket | None = None
        self._lines: IO[str] | None = None
        self._reader: threading.Thread | None = None

    def start(self) -> None:
        """Start it; it says by itself when it is there."""
        ours, theirs = socket.socketpair()
        ours.settimeout(ANSWER_S)
        self._door, self._lines = ours, ours.makefile("rw", encoding="utf-8")
        with theirs, self._log.open("a") as log, _uninterrupted():
            self._process = _started(
                [sys.executable, "-m", "agent", "run", str(self._config)],
                stdout=subprocess.PIPE,
                stderr=log,
                pass_fds=[theirs.fileno()],
                env={**_environment(), DOOR: str(theirs.fileno())},
            )
        self._reader = threading.Thread(
            target=self._read, args=(self._process.stdout,), name="chaos-agent", daemon=True
        )
        self._reader.start()

    @property
    def running(self) -> bool:
        """It has been started and has not ended."""
        return self._process is not None and self._process.poll() is None

    @property
    def status(self) -> int | None:
        """Exit status; None while it runs, and when its end was ours."""
        return self._process.poll() if self._process else None

    def said(self, lines: int = 5) -> str:
        """The end of its log."""
        return "\n".join(self._log.read_text(errors="replace").splitlines()[-lines:])

    def ask(self, do: str, **arguments: Any) -> dict[str, Any]:
        """Through the door. Raises ChaosError where it does not answer or cannot."""
        try:
            if self._lines is None:
                raise OSError("it does not run")
            print(json.dumps({"do": do, **arguments}), file=self._lines, flush=True)
            answer: dict[str, Any] = json.loads(self._lines.readline())
        except (OSError, ValueError) as error:
            raise ChaosError(f"the agent does not answer at the door: {error}") from None
        if "error" in answer:
            raise ChaosError(f"{do}: {answer['error']}")
        return answer

    def kill(self) -> None:
        """SIGKILL: no last word."""
        if self._process:
            self._process.kill()
        self._gone()

    def end(self, deadline_s: float) -> int | None:
        """SIGTERM; the exit status, or None (and SIGKILL) where it does not end."""
        if self._process is None:
            return None
        self._process.terminate()
        try:
            status: int | None = self._process.wait(deadline_s)
        except subprocess.TimeoutExpired:
            self._process.kill()
            status = None
        self._gone()
        return status

    def _gone(self) -> None:
        if self._process:
            self._process.wait()
        if self._reader:
            self._reader.join(5)
        for end in (self._lines, self._door):
            if end:
                end.close()
        self._process = self._reader = self._lines = self._door = None

    def _read(self, pipe: IO[str]) -> None:
        with pipe:
            for line in pipe:
                self._hear(line)


class Broker:
    """mosquitto where it is installed, else the demo's; on the same port each time it is started."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.port = _free_port()
        self._mosquitto = shutil.which("mosquitto", path=f"{os.environ.get('PATH', '')}:/usr/sbin:/usr/local/sbin")
        self.name = "mosquitto" if self._mosquitto else "the demo's broker"
        self.protocol = "auto" if self._mosquitto else "3.1.1"
        """What the agent shall speak: the demo's broker is silent to all else, which takes a second to find out."""
        self._process: subprocess.Popen[str] | None = None

    def start(self) -> None:
        """Start (again); it listens when this returns. Raises ChaosError."""
        with (self._folder / "broker.log").open("a+") as log:
            command = self._command()
            with _uninterrupted():
                self._process = _started(command, stdout=subprocess.DEVNULL, stderr=log)
            end_s = time.monotonic() + START_S
            while not _listens(self.port):
                if self._process.poll() is not None or time.monotonic() > end_s:
                    log.seek(0)
                    raise ChaosError(f"the broker does not start: {log.read().strip() or self.name}")
                time.sleep(0.02)

    def stop(self) -> None:
        """End it. May be called twice."""
        if self._process:
            self.thaw()
            self._process.terminate()
            try:
                self._process.wait(3)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()
        self._process = None

    def freeze(self) -> None:
        """Connections stay, nothing is answered."""
        if self._process:
            self._process.send_signal(signal.SIGSTOP)

    def thaw(self) -> None:
        """Go on."""
        if self._process:
            self._process.send_signal(signal.SIGCONT)

    def _command(self) -> list[str]:
        if not self._mosquitto:
            return [sys.executable, "-m", "agent.demo_broker", "--port", str(self.port)]
        settings = self._folder / "mosquitto.conf"
        # As root it would become another user, who cannot read what is ours.
        lines = [f"listener {self.port} 127.0.0.1", "allow_anonymous true", f"user {getpass.getuser()}"]
        settings.write_text(
            "\n".join([*lines, "max_queued_messages 100000", "log_dest stderr", "log_type error"]) + "\n"
        )
        return [self._mosquitto, "-c", str(settings)]


def _free_port() -> int:
    """A port that nobody has.

    Not one of those that Linux gives to connections (from 32768 on): the broker must come back to it.
    """
    while True:
        port = secrets.choice(range(10_000, 32_000))
        with socket.socket() as sock, contextlib.suppress(OSError):
            sock.bind(("127.0.0.1", port))
            return port


def _listens(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port), 0.2).close()
    except OSError:
        return False
    return True
