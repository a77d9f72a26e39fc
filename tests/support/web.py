"""A web server whose files misbehave as a test says, and a proxy that remembers what went through it."""

from __future__ import annotations

import select
import socket
import ssl
import threading
import urllib.request
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

Answer = Callable[["Handler", bytes], None]
"""Answers one request for a file of those bytes."""


class Handler(BaseHTTPRequestHandler):
    """One connection, one request."""

    server: _Server

    def do_GET(self) -> None:
        site = self.server.site
        site.requests.append((self.path, dict(self.headers)))
        body = site.files.get(self.path)
        if body is None:
            self.send_error(404)
            return
        waiting = site.answers[self.path]
        (waiting.pop(0) if waiting else whole)(self, body)

    def begin(self, status: int, length: int | None = None, /, **headers: str) -> None:
        self.send_response(status)
        if length is not None:
            self.send_header("Content-Length", str(length))
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()

    def log_message(self, *_: Any) -> None:
        """Quiet."""


def whole(request: Handler, body: bytes, tag: str = '"one"') -> None:
    """What a good server does: ranges, with If-Range heeded."""
    start, asked = 0, request.headers.get("Range", "")
    if asked and request.headers.get("If-Range", tag) == tag:
        start = int(asked.removeprefix("bytes=").removesuffix("-"))
        if start >= len(body):
            request.begin(416, 0, Content_Range=f"bytes */{len(body)}")
            return
        request.begin(206, len(body) - start, Content_Range=f"bytes {start}-{len(body) - 1}/{len(body)}", ETag=tag)
    else:
        request.begin(200, len(body), ETag=tag)
    request.wfile.write(body[start:])


def tagged(tag: str) -> Answer:
    """A good server that calls its file another version."""
    return lambda request, body: whole(request, body, tag)


def cut(after: int, **headers: str) -> Answer:
    """The connection ends after so many bytes."""

    def answer(request: Handler, body: bytes) -> None:
        request.begin(200, len(body), **(headers or {"ETag": '"one"'}))
        request.wfile.write(body[:after])

    return answer


def no_ranges(request: Handler, body: bytes) -> None:
    """All of it, whatever was asked for."""
    request.begin(200, len(body))
    request.wfile.write(body)


def endless(request: Handler, body: bytes) -> None:
    """No length given, and more than the file."""
    request.begin(200)
    request.wfile.write(body * 2)


def unannounced(request: Handler, body: bytes) -> None:
    """All of it, but no length given."""
    request.begin(200)
    request.wfile.write(body)


def chunked(request: Handler, body: bytes) -> None:
    """All of it in chunks."""
    request.protocol_version = "HTTP/1.1"
    request.begin(200, Transfer_Encoding="chunked", Connection="close")
    for start in range(0, len(body), 1000):
        part = body[start : start + 1000]
        request.wfile.write(b"%x\r\n%b\r\n" % (len(part), part))
    request.wfile.write(b"0\r\n\r\n")


def another_range(request: Handler, body: bytes) -> None:
    """Not the range that was asked for."""
    ranged(f"bytes 0-{len(body) - 1}/{len(body)}")(request, body)


def ranged(span: str) -> Answer:
    """A part, of which it is said that it is this range."""

    def answer(request: Handler, body: bytes) -> None:
        request.begin(206, len(body), Content_Range=span, ETag='"one"')
        request.wfile.write(body)

    return answer


def status(code: int) -> Answer:
    return lambda request, _: request.begin(code, 0)


def redirect(to: str, code: int = 302) -> Answer:
    return lambda request, _: request.begin(code, 0, Location=to)


def silence(request: Handler, body: bytes) -> None:
    """Nothing, until the server closes."""
    request.server.site.closing.wait(30)


class Site:
    """A running server: `files` by path, and `answers` to be used up per path before it answers well."""

    def __init__(self, port: int, scheme: str) -> None:
        self.url = f"{scheme}://127.0.0.1:{port}"
        self.files: dict[str, bytes] = {}
        self.answers: dict[str, list[Answer]] = defaultdict(list)
        self.requests: list[tuple[str, dict[str, str]]] = []
        self.closing = threading.Event()

    def ranges(self) -> list[str | None]:
        """The Range header of each request so far."""
        return [headers.get("Range") for _, headers in self.requests]


class _Server(ThreadingHTTPServer):
    site: Site

    def handle_error(self, *_: Any) -> None:
        """A client that hangs up is no news."""


@contextmanager
def web_server(certificate: tuple[Path, Path] | None = None) -> Iterator[Site]:
    """A server on loopback; `certificate` and its key make it HTTPS."""
    with _Server(("127.0.0.1", 0), Handler) as server:
        if certificate is not None:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(*certificate)
            server.socket = context.wrap_socket(server.socket, server_side=True)
        server.site = Site(server.server_port, "https" if certificate else "http")
        with _serving(server):
            yield server.site
            server.site.closing.set()


@contextmanager
def _serving(server: ThreadingHTTPServer) -> Iterator[None]:
    thread = threading.Thread(target=server.serve_forever, args=(0.02,))
    thread.start()
    try:
        yield
    finally:
        server.shutdown()
        thread.join()


class Proxy:
    """A running proxy: what it was asked, and with which credentials."""

    def __init__(self, port: int) -> None:
        self.address = f"127.0.0.1:{port}"
        self.url = f"http://{self.address}"
        self.requests: list[str] = []
        self.credentials: list[str | None] = []
        self.refuses = False


class _ProxyServer(ThreadingHTTPServer):
    proxy: Proxy


class _ProxyHandler(BaseHTTPRequestHandler):
    server: _ProxyServer

    def _admitted(self) -> bool:
        proxy = self.server.proxy
        proxy.requests.append(f"{self.command} {self.path}")
        proxy.credentials.append(self.headers.get("Proxy-Authorization"))
        if proxy.refuses:
            self.send_error(407)
        return not proxy.refuses

    def do_GET(self) -> None:
        if not self._admitted():
            return
        direct = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        with direct.open(urllib.request.Request(self.path, headers=dict(self.headers)), timeout=10) as answer:
            self.send_response(answer.status)
            for name in ("Content-Length", "Content-Range", "ETag"):
                if name in answer.headers:
                    self.send_header(name, answer.headers[name])
            self.end_headers()
            self.wfile.write(answer.read())

    def do_CONNECT(self) -> None:
        if not self._admitted():
            return
        host, _, port = self.path.partition(":")
        with socket.create_connection((host, int(port)), 10) as far:
            self.send_response(200)
            self.end_headers()
            near = self.connection
            while True:
                for ready in select.select([near, far], [], [], 10)[0]:
                    data = ready.recv(1 << 16)
                    if not data:
                        return
                    (far if ready is near else near).sendall(data)

    def log_message(self, *_: Any) -> None:
        """Quiet."""


@contextmanager
def forward_proxy() -> Iterator[Proxy]:
    """A proxy for http and, by CONNECT, https."""
    with _ProxyServer(("127.0.0.1", 0), _ProxyHandler) as server:
        server.proxy = Proxy(server.server_port)
        with _serving(server):
            yield server.proxy
