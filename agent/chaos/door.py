"""The door in an agent that `sightwire chaos` started: faults that nobody can make from outside.

It is one end of a socket pair that the agent inherits, and there is no other way in: nothing listens, nothing has a
name. The agent opens it only where its environment names the descriptor, and only if the other end was made by the
process that started the agent; whoever can arrange both could as well run any program in the agent's place.

Each request is a JSON object on a line, and so is its answer: `{}`, what was asked for, or `{"error": ...}`.
"""

from __future__ import annotations

import json
import os
import socket
import struct
import threading
import time
import uuid
from collections.abc import Callable
from typing import Any

from agent.errors import ConfigError

DOOR = "SIGHTWIRE_CHAOS_FD"
"""Environment variable: the number of the inherited descriptor."""
LONGEST_S = 120.0
"""No fault outlasts this, even if nobody takes it back."""


def open_door() -> None:
    """Obey from now on, in a thread, until the other end is closed. Raises ConfigError where that is not chaos's."""
    try:
        connection = socket.socket(fileno=int(os.environ.pop(DOOR)))
        peer, _, _ = struct.unpack("3i", connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12))
    except (ValueError, OSError):
        peer = -1
    if peer != os.getppid():
        raise ConfigError(f"{DOOR} is set, which only 'sightwire chaos' does for an agent that it starts: unset it")
    threading.Thread(target=_Door(connection).run, name="chaos-door", daemon=True).start()


class _Door:
    def __init__(self, connection: socket.socket) -> None:
        self._connection = connection
        self._events, self._engines, self._clock = _Events(), _Engines(), _Clock()
        self._acts: dict[str, Callable[..., dict[str, Any]]] = {
            "put": self._events.put,
            "account": self._events.account,
            "hang": self._engines.hang,
            "hangs": self._engines.hangs,
            "release": self._engines.release,
            "skew": self._clock.skew,
        }

    def run(self) -> None:
        with self._connection, self._connection.makefile("rw", encoding="utf-8") as lines:
            for line in lines:
                try:
                    asked = json.loads(line)
                    answer = self._acts[asked.pop("do")](**asked)
                except Exception as error:  # noqa: BLE001  # who asked says it
                    answer = {"error": f"{type(error).__name__}: {error}"}
                print(json.dumps(answer), file=lines, flush=True)


class _Events:
    """More events than the cameras give."""

    def __init__(self) -> None:
        from agent.outbox.outbox import Outbox

        started: list[Outbox] = []
        start = Outbox.start

        def noting(outbox: Outbox) -> None:
            start(outbox)
            started[:] = [outbox]

        _replace(Outbox, "start", noting)
        self._started = started

    def put(self, count: int) -> dict[str, Any]:
        """So many of them, of kind `chaos`, now."""
        from agent.messages import EventPayload, rfc3339

        for number in range(count):
            self._started[0].put(
                EventPayload.model_construct(
                    schema_="sightwire.event/1",
                    agent="",
                    boot_id="",
                    event_seq=0,
                    id=f"chaos-{uuid.uuid4().hex[:8]}",
                    kind="chaos",
                    phase="moment",
                    captured_at=rfc3339(time.time_ns()),
                    data={"n": number},
                )
            )
        return {}

    def account(self) -> dict[str, Any]:
        """Law 7 for events, of each sink."""
        return self._started[0].counts()


class _Engines:
    """A call into an engine that does not come back, as with a driver that hangs."""

    def __init__(self) -> None:
        self._wanted = ""
        self._most_s = 0.0
        self._let_go = threading.Event()
        self._since_s: float | None = None
        self._watched = False

    def hang(self, engine: str, seconds: float) -> dict[str, Any]:
        """The next batch that the thread of that engine submits hangs so long, or until `release`."""
        if not self._watched:
            self._watched = True
            self._watch()
        self._let_go, self._since_s, self._most_s = threading.Event(), None, min(seconds, LONGEST_S)
        self._wanted = f"engine-{engine}"
        return {}

    def hangs(self) -> dict[str, Any]:
        """`since_s`: when that call began, `time.monotonic`, which is the same in all processes; null: not yet."""
        return {"since_s": self._since_s}

    def release(self) -> dict[str, Any]:
        """What hangs goes on."""
        self._wanted = ""
        self._let_go.set()
        return {}

    def _watch(self) -> None:
        """Come between all engines and who calls them."""
        from engines.base import Engine

        def watched(submit: Callable[..., Any]) -> Callable[..., Any]:
            def submitting(*arguments: Any, **more: Any) -> Any:
                if self._wanted and threading.current_thread().name == self._wanted:
                    self._wanted = ""  # the one that takes its place does not hang
                    self._since_s = time.monotonic()
                    self._let_go.wait(self._most_s)
                return submit(*arguments, **more)

            return submitting

        for kind in _below(Engine):
            if "submit" in vars(kind):
                _replace(kind, "submit", watched(vars(kind)["submit"]))


def _below(kind: type) -> list[type]:
    """A class and all that are made of it."""
    children: list[type] = kind.__subclasses__()
    return [kind, *(below for child in children for below in _below(child))]


def _replace(kind: type, method: str, by: Callable[..., Any]) -> None:
    """Of all objects of that class, also of those that are there."""
    setattr(kind, method, by)


class _Clock:
    """The wall clock of this process, as far as Python asks for it; the monotonic one is as it is for a real jump."""

    def __init__(self) -> None:
        self._ahead_ns = 0
        real, real_ns = time.time, time.time_ns
        time.time = lambda: real() + self._ahead_ns / 1e9
        time.time_ns = lambda: real_ns() + self._ahead_ns

    def skew(self, seconds: float) -> dict[str, Any]:
        """From now on it is so far ahead of the truth; less than 0: behind."""
        self._ahead_ns = round(seconds * 1e9)
        return {}
