"""A server on loopback that has one thing to say, to one client after the other."""

from __future__ import annotations

import contextlib
import socket
import threading
from abc import ABC, abstractmethod
from types import TracebackType
from typing import TypeVar

Self = TypeVar("Self", bound="Answering")


class Answering(ABC):
    """A context manager; listens from its making on, answers while it is entered."""

    def __init__(self, patience_s: float) -> None:
        """`patience_s`: how long a client may be silent."""
        self._patience_s = patience_s
        self._server = socket.create_server(("127.0.0.1", 0))
        self._server.settimeout(0.05)
        self.port: int = self._server.getsockname()[1]
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run, name="answering")

    @abstractmethod
    def answer(self, client: socket.socket) -> None:
        """Talk to a client that has come; the connection is closed afterwards, also on OSError."""

    def __enter__(self: Self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, _type: type[BaseException] | None, _error: BaseException | None, _trace: TracebackType | None
    ) -> None:
        self._ended.set()
        self._thread.join()
        self._server.close()

    def _run(self) -> None:
        while not self._ended.is_set():
            with contextlib.suppress(TimeoutError):
                client, _ = self._server.accept()
                with client, contextlib.suppress(OSError):
                    client.settimeout(self._patience_s)
                    self.answer(client)
