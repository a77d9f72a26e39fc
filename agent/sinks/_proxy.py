"""The way to a broker through a proxy: HTTP CONNECT or SOCKS 5, with a username and password where it wants them."""

from __future__ import annotations

import base64
import ipaddress
import socket
import struct
from typing import Annotated, Any

from pydantic import AfterValidator, ConfigDict, Field, model_validator

from agent.secrets import Credentials
from agent.sinks._address import split_url

_PORTS = {"http": 3128, "socks5": 1080}
_EXPECTED = "not a proxy URL: expected http://HOST[:PORT] or socks5://HOST[:PORT]"
_HEAD_BYTES = 16 * 1024
"""More than any proxy answers to CONNECT."""
_SOCKS_REPLIES = {
    1: "general failure", 2: "not allowed", 3: "network unreachable", 4: "host unreachable", 5: "connection refused",
    6: "no connection in time", 7: "cannot connect", 8: "cannot take this kind of address",
}  # fmt: skip
_WRONG_LOGIN = "proxy: wants a username and password, or other ones"

Login = tuple[str, str] | None


class ProxyError(OSError):
    """The proxy does not let us through; its text is one line for a person."""


def _url(url: str) -> str:
    if split_url(url, _PORTS, _EXPECTED).path not in ("", "/"):
        raise ValueError(_EXPECTED)
    return url


class Proxy(Credentials):
    """`http://HOST:PORT` or `socks5://HOST:PORT`, or a mapping with `url`, `username` and `password`."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    url: Annotated[str, AfterValidator(_url)] = Field(repr=False)

    @model_validator(mode="before")
    @classmethod
    def _from_text(cls, value: Any) -> Any:
        return {"url": value} if isinstance(value, str) else value

    def connect(self, host: str, port: int, timeout_s: float) -> socket.socket:
        """A connection to `host`, whose name the proxy resolves: it may be the only one that can.

        Raises ProxyError, and ConfigError for a password that cannot be read.
        """
        proxy = split_url(self.url, _PORTS, _EXPECTED)
        login = None if self.username is None else (self.username, self.read_password() or "")
        try:
            sock = socket.create_connection((proxy.host, proxy.port), timeout_s)
        except OSError as error:
            late = isinstance(error, TimeoutError)
            reason = "no connection in time" if late else (error.strerror or str(error)).lower()
            raise ProxyError(f"proxy: {reason}") from None
        try:
            (_socks5 if proxy.scheme == "socks5" else _http_connect)(sock, host, port, login)
        except BaseException as error:
            sock.close()
            if isinstance(error, TimeoutError):
                raise ProxyError("proxy: does not answer") from None
            raise
        return sock


def _http_connect(sock: socket.socket, host: str, port: int, login: Login) -> None:
    """RFC 9110, 9.3.6."""
    name = host.encode("idna").decode()
    target = f"[{name}]:{port}" if ":" in name else f"{name}:{port}"
    request = f"CONNECT {target} HTTP/1.1\r\nHost: {target}\r\n"
    if login:
        request += f"Proxy-Authorization: Basic {base64.b64encode(':'.join(login).encode()).decode()}\r\n"
    sock.sendall(f"{request}\r\n".encode())
    head = b""
    while not head.endswith(b"\r\n\r\n"):
        head += _take(sock, 1)  # one by one: what follows belongs to the broker
        if len(head) > _HEAD_BYTES:
            break
    words = head.split(b"\r\n", 1)[0].split(None, 2)
    if len(words) < 2 or not words[0].startswith(b"HTTP/1.") or not words[1].isdigit():
        raise ProxyError("proxy: does not speak HTTP")
    status = int(words[1])
    if status == 407:
        raise ProxyError(_WRONG_LOGIN)
    if status // 100 != 2:
        raise ProxyError(f"proxy: refuses the connection: HTTP {status}")


def _socks5(sock: socket.socket, host: str, port: int, login: Login) -> None:
    """RFC 1928; RFC 1929 for username and password."""
    sock.sendall(b"\x05\x02\x00\x02" if login else b"\x05\x01\x00")
    version, method = _take(sock, 2)
    if version != 5:
        raise ProxyError("proxy: does not speak SOCKS 5")
    if method == 2 and login:
        sock.sendall(b"\x01" + b"".join(_counted(text.encode()) for text in login))
        method = _take(sock, 2)[1]
    if method != 0:
        raise ProxyError(_WRONG_LOGIN)
    sock.sendall(b"\x05\x01\x00" + _socks_address(host) + struct.pack("!H", port))
    _, reply, _, kind = _take(sock, 4)
    if reply:
        raise ProxyError(f"proxy: refuses the connection: {_SOCKS_REPLIES.get(reply, f'SOCKS {reply}')}")
    _take(sock, {1: 4, 4: 16}.get(kind) or _take(sock, 1)[0])
    _take(sock, 2)


def _socks_address(host: str) -> bytes:
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return b"\x03" + _counted(host.encode("idna"))
    return (b"\x01" if address.version == 4 else b"\x04") + address.packed


def _counted(text: bytes) -> bytes:
    """With its length before it, in one byte."""
    if len(text) > 255:
        raise ProxyError("proxy: SOCKS 5 takes no name or password of more than 255 bytes")
    return bytes([len(text)]) + text


def _take(sock: socket.socket, count: int) -> bytes:
    """Exactly `count` bytes. Raises ProxyError when the proxy closes before."""
    taken = b""
    while len(taken) < count:
        chunk = sock.recv(count - len(taken))
        if not chunk:
            raise ProxyError("proxy: closed the connection")
        taken += chunk
    return taken
