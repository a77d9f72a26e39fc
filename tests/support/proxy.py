"""A proxy on loopback: HTTP CONNECT and SOCKS 5 on the same port, with a password if the test wants one."""

from __future__ import annotations

import base64
import contextlib
import select
import socket
import struct
import threading
from types import TracebackType

from tests.support.patience import PATIENCE_S


class Proxy:
    """Listens when the constructor returns. Every name it is asked for it finds at 127.0.0.1."""

    def __init__(self, login: tuple[str, str] | None = None, answers: bytes | None = None) -> None:
        """`answers`: what it says instead of doing anything."""
        self.asked: list[tuple[str, int]] = []
        """Hosts and ports, as they were asked for."""
        self._login, self._answers = login, answers
        self._server = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._server.getsockname()[1]
        self._wake, self._woken = socket.socketpair()
        self._threads = [threading.Thread(target=self._accept, name="proxy")]
        self._threads[0].start()

    def __enter__(self) -> Proxy:
        return self

    def __exit__(
        self, _type: type[BaseException] | None, _error: BaseException | None, _trace: TracebackType | None
    ) -> None:
        self._woken.close()
        for thread in self._threads:
            thread.join(PATIENCE_S)
        self._server.close()
        self._wake.close()

    def _accept(self) -> None:
        while self._wake not in (ready := select.select([self._server, self._wake], [], [])[0]):
            if self._server in ready:
                client, _ = self._server.accept()
                client.settimeout(5)
                thread = threading.Thread(target=self._serve, args=(client,), name="proxy-client")
                self._threads.append(thread)
                thread.start()

    def _serve(self, client: socket.socket) -> None:
        with contextlib.suppress(OSError), client:
            first = client.recv(1)
            if self._answers is not None:
                client.recv(4096)
                client.sendall(self._answers)
                return
            server = self._socks(client) if first == b"\x05" else self._http(client, first)
            if server is not None:
                with server:
                    self._pump(client, server)

    def _http(self, client: socket.socket, head: bytes) -> socket.socket | None:
        while not head.endswith(b"\r\n\r\n"):
            head += client.recv(1)
        lines = head.decode().split("\r\n")
        if self._login is not None:
            expected = base64.b64encode(":".join(self._login).encode()).decode()
            if f"Proxy-Authorization: Basic {expected}" not in lines:
                client.sendall(b"HTTP/1.1 407 Proxy Authentication Required\r\nContent-Length: 0\r\n\r\n")
                return None
        host, _, port = lines[0].split()[1].rpartition(":")
        server = self._connect(host.strip("[]"), int(port))
        client.sendall(b"HTTP/1.1 200 OK\r\n\r\n" if server else b"HTTP/1.1 502 Bad Gateway\r\n\r\n")
        return server

    def _socks(self, client: socket.socket) -> socket.socket | None:
        methods = client.recv(client.recv(1)[0])
        wanted = 2 if self._login else 0
        if wanted not in methods:
            client.sendall(b"\x05\xff")
            return None
        client.sendall(bytes([5, wanted]))
        if self._login:
            client.recv(1)
            given = tuple(client.recv(client.recv(1)[0]).decode() for _ in range(2))
            client.sendall(b"\x01\x00" if given == self._login else b"\x01\x01")
            if given != self._login:
                return None
        kind = client.recv(4)[3]
        if kind == 3:
            host = client.recv(client.recv(1)[0]).decode()
        else:
            family = socket.AF_INET if kind == 1 else socket.AF_INET6
            host = socket.inet_ntop(family, client.recv(4 if kind == 1 else 16))
        server = self._connect(host, struct.unpack("!H", client.recv(2))[0])
        client.sendall(bytes([5, 0 if server else 5, 0, 1]) + bytes(6))
        return server

    def _connect(self, host: str, port: int) -> socket.socket | None:
        self.asked.append((host, port))
        try:
            return socket.create_connection(("127.0.0.1", port), 2)
        except OSError:
            return None

    def _pump(self, client: socket.socket, server: socket.socket) -> None:
        other = {client: server, server: client}
        while self._wake not in (ready := select.select([client, server, self._wake], [], [])[0]):
            for sock in ready:
                data = sock.recv(65536)
                if not data:
                    return
                other[sock].sendall(data)
