"""A way to a TCP server that can be cut and held up: what lies between an agent and a camera, or a broker."""

from __future__ import annotations

import contextlib
import socket
import struct
import threading
from collections.abc import Callable

CONNECT_S = 5.0
CHUNK = 65536
RESET = struct.pack("ii", 1, 0)
"""SO_LINGER: closing resets the connection, as one does that is gone."""


class Proxy:
    """Listens on a free port of loopback until `close`; two threads a connection, which is few."""

    def __init__(self, host: str, port: int) -> None:
        self._target = host, port
        self._lock = threading.Lock()
        self._open: set[socket.socket] = set()
        self._threads: list[threading.Thread] = []
        self._flows = threading.Event()
        self._flows.set()
        self._listening: socket.socket | None = None
        self.port = 0
        self.mend()

    def mend(self) -> None:
        """Listen (again), and let everything through."""
        self._flows.set()
        if self._listening is None:
            self._listening = socket.create_server(("127.0.0.1", self.port))
            self.port = self._listening.getsockname()[1]
            self._begin(self._accept, self._listening)

    def cut(self) -> None:
        """Reset all connections and refuse new ones: the power is off, or the cable is out and somebody says so."""
        self._flows.set()
        listening, self._listening = self._listening, None
        if listening is not None:
            # A thread that waits in accept() is not woken by close() alone.
            with contextlib.suppress(OSError):
                listening.shutdown(socket.SHUT_RDWR)
            listening.close()
        with self._lock:
            left = list(self._open)
        for connection in left:
            with contextlib.suppress(OSError):
                connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)

    def hold(self) -> None:
        """Connections stay, nothing passes."""
        self._flows.clear()

    def close(self) -> None:
        """Cut it for good, and wait for the threads."""
        self.cut()
        for thread in list(self._threads):
            thread.join(CONNECT_S + 1)

    def _begin(self, work: Callable[..., None], *arguments: object) -> None:
        thread = threading.Thread(target=work, args=arguments, name="chaos-proxy", daemon=True)
        with self._lock:
            self._threads = [thread for thread in self._threads if thread.is_alive()]
            thread.start()
            self._threads.append(thread)

    def _accept(self, listening: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while True:
                client, _ = listening.accept()
                self._begin(self._serve, client)

    def _serve(self, client: socket.socket) -> None:
        with client:
            try:
                server = socket.create_connection(self._target, CONNECT_S)
            except OSError:
                return
            with server:
                server.settimeout(None)
                for side in (client, server):
                    side.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                with self._lock:
                    self._open |= {client, server}
                if self._listening is None:
                    self._forget(client, server)
                    return
                back = threading.Thread(target=self._pass, args=(server, client), name="chaos-proxy", daemon=True)
                back.start()
                self._pass(client, server)
                back.join()
                self._forget(client, server)

    def _forget(self, *sides: socket.socket) -> None:
        with self._lock:
            self._open -= {*sides}

    def _pass(self, source: socket.socket, target: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(CHUNK):
                self._flows.wait()
                target.sendall(data)
        for side in (source, target):
            with contextlib.suppress(OSError):
                side.shutdown(socket.SHUT_RDWR)
