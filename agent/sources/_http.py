"""HTTP connections whose waiting ends when the source is to stop, or when the request as a whole takes too long."""

from __future__ import annotations

import base64
import functools
import hashlib
import http.client
import os
import re
import select
import socket
import ssl
import time
from collections.abc import Callable
from threading import Event
from typing import Any, TypeVar
from urllib.request import (
    BaseHandler,
    HTTPDefaultErrorHandler,
    HTTPDigestAuthHandler,
    HTTPErrorProcessor,
    HTTPHandler,
    HTTPPasswordMgrWithDefaultRealm,
    HTTPRedirectHandler,
    HTTPSHandler,
    OpenerDirector,
    Request,
    UnknownHandler,
)
from weakref import WeakSet

_SLICE_S = 0.1
_DIGESTS: dict[str, Callable[[bytes], Any]] = {"MD5": hashlib.md5, "SHA-256": hashlib.sha256}
"""RFC 7616, without the variants nobody uses."""
T = TypeVar("T")
Trust = Callable[[], ssl.SSLContext]
"""Whom to trust when they say who they are."""


class Stopped(Exception):
    """The source is to stop."""


class Patience:
    """How long a request may still take; `begin` starts anew."""

    def __init__(self, stop: Event, limit_s: float, alive: Callable[[], None] = lambda: None) -> None:
        """`alive` is called while a request waits."""
        self._stop, self._limit_s, self._alive = stop, limit_s, alive
        self._deadline = 0.0

    def begin(self) -> None:
        """A request begins now."""
        self._deadline = time.monotonic() + self._limit_s

    def wait(self, call: Callable[..., T], *args: Any) -> T:
        """`call(*args)`, again and again while it times out. Raises Stopped, TimeoutError."""
        while True:
            self.check()
            try:
                return call(*args)
            except (TimeoutError, ssl.SSLWantReadError, ssl.SSLWantWriteError):
                continue

    def check(self) -> None:
        """Raises Stopped, TimeoutError."""
        self._alive()
        if self._stop.is_set():
            raise Stopped
        if time.monotonic() >= self._deadline:
            raise TimeoutError


def opener(patience: Patience, origin: str, login: tuple[str, str] | None, trust: Trust) -> OpenerDirector:
    """Opens http and https URLs, with basic and digest credentials for `origin`, SCHEME://HOST[:PORT]/, and no other.

    `trust` is asked when the first https URL is opened, for reading all of a system's authorities takes 20 ms.
    Proxies of the environment are for the internet, not for a camera: they are not used.
    """
    handlers: list[BaseHandler] = [_PlainHandler(patience), _SecureHandler(patience, trust)]
    handlers += [HTTPRedirectHandler(), HTTPDefaultErrorHandler(), HTTPErrorProcessor(), UnknownHandler()]
    if login is not None:
        passwords = HTTPPasswordMgrWithDefaultRealm()
        passwords.add_password(None, origin, *login)  # in any realm
        handlers.append(_Login(passwords))
    made = OpenerDirector()
    for handler in handlers:
        made.add_handler(handler)
    return made


def read_body(response: Any, patience: Patience, limit: int) -> bytes:
    """The body of an answer. Raises ValueError where it is longer than `limit`, HTTPException where it is cut off."""
    parts, size = [], 0
    while part := response.read1(1 << 16):
        patience.check()
        size += len(part)
        if size > limit:
            raise ValueError(f"more than {limit >> 20} MB")
        parts.append(part)
    if response.length:
        raise http.client.IncompleteRead(b"", response.length)
    return b"".join(parts)


class _Socket(socket.socket):
    patience: Patience

    def recv_into(self, *args: Any, **keys: Any) -> int:
        return self.patience.wait(lambda: socket.socket.recv_into(self, *args, **keys))


class _SecureSocket(ssl.SSLSocket):
    patience: Patience

    def recv_into(self, *args: Any, **keys: Any) -> int:
        return self.patience.wait(lambda: ssl.SSLSocket.recv_into(self, *args, **keys))


def _connected(host: str, port: int, patience: Patience) -> _Socket:
    fault: OSError | None = None
    for family, kind, protocol, _, address in socket.getaddrinfo(host, port, type=socket.SOCK_STREAM):
        connection = _Socket(family, kind, protocol)
        connection.patience = patience
        try:
            connection.setblocking(False)
            connection.connect_ex(address)
            patience.wait(_writable, connection)
            if number := connection.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR):
                raise OSError(number, os.strerror(number))
            connection.settimeout(_SLICE_S)
            return connection
        except OSError as error:
            connection.close()
            fault = error
        except BaseException:
            connection.close()
            raise
    raise fault or OSError(f"{host} has no address")


def _writable(connection: socket.socket) -> None:
    poll = select.poll()
    poll.register(connection, select.POLLOUT)
    if not poll.poll(_SLICE_S * 1000):
        raise TimeoutError


class _Connection(http.client.HTTPConnection):
    patience: Patience

    def connect(self) -> None:
        self.sock = _connected(self.host, self.port, self.patience)


class _SecureConnection(http.client.HTTPSConnection):
    patience: Patience
    trust: ssl.SSLContext

    def connect(self) -> None:
        plain = _connected(self.host, self.port, self.patience)
        try:
            self.trust.sslsocket_class = _SecureSocket
            secure = self.trust.wrap_socket(plain, server_hostname=self.host, do_handshake_on_connect=False)
        except BaseException:
            plain.close()
            raise
        secure.patience = self.patience  # type: ignore[attr-defined]  # it is a _SecureSocket
        self.sock = secure
        self.patience.wait(secure.do_handshake)


class _Login(HTTPDigestAuthHandler):
    """Digest where the camera offers it, else basic; once, for after a few tries many a camera locks the account.

    The standard library's two handlers do not tolerate each other's schemes, and try wrong credentials five times.
    """

    def __init__(self, passwords: HTTPPasswordMgrWithDefaultRealm) -> None:
        super().__init__(passwords)
        self._passwords = passwords
        self._renewed: WeakSet[Request] = WeakSet()
        """Requests whose nonce was too old once."""

    def http_error_401(self, req: Request, *answer: Any) -> Any:
        headers = answer[-1]
        offers = headers.get_all("WWW-Authenticate") or []
        digest = next(filter(_is_known_digest, offers), "")
        if req.has_header("Authorization"):
            if "stale=true" not in digest.lower() or req in self._renewed:
                return None
            self._renewed.add(req)
        if digest:
            return self.retry_http_digest_auth(req, digest)
        user, password = self._passwords.find_user_password("", req.full_url)
        if user is None or not any(offer.lower().startswith("basic") for offer in offers):
            return None
        token = base64.b64encode(f"{user}:{password}".encode()).decode()
        req.add_unredirected_header("Authorization", f"Basic {token}")
        return self.parent.open(req)

    def get_algorithm_impls(self, algorithm: str) -> Any:
        """How to hash, and how to make a keyed digest; of UTF-8, where the base class fails on any letter but ASCII."""
        new = _DIGESTS[algorithm.upper()]

        def digest(text: str) -> str:
            return str(new(text.encode()).hexdigest())

        return digest, lambda secret, data: digest(f"{secret}:{data}")


def _is_known_digest(offer: str) -> bool:
    """Cameras that offer several algorithms send a header for each."""
    algorithm = re.search(r'algorithm="?([^\s",]+)', offer, re.IGNORECASE)
    return offer.lower().startswith("digest") and (algorithm[1].upper() if algorithm else "MD5") in _DIGESTS


class _PlainHandler(HTTPHandler):
    def __init__(self, patience: Patience) -> None:
        super().__init__()
        self._patience = patience

    def http_open(self, req: Request) -> Any:
        def connection(*args: Any, **keys: Any) -> _Connection:
            made = _Connection(*args, **keys)
            made.patience = self._patience
            return made

        return self.do_open(connection, req)


class _SecureHandler(HTTPSHandler):
    def __init__(self, patience: Patience, trust: Trust) -> None:
        super().__init__(context=ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT))  # else it reads the system's, in vain
        self._patience, self._trust = patience, functools.cache(trust)

    def https_open(self, req: Request) -> Any:
        def connection(*args: Any, **keys: Any) -> _SecureConnection:
            made = _SecureConnection(*args, **keys)
            made.patience, made.trust = self._patience, self._trust()
            return made

        return self.do_open(connection, req)
