"""Where a broker is: `mqtt|mqtts://HOST[:PORT]` and `ws|wss://HOST[:PORT][/PATH]`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from urllib.parse import urlsplit

_PORTS = {"mqtt": 1883, "mqtts": 8883, "ws": 80, "wss": 443}
_EXPECTED = "not a broker URL: expected mqtt://HOST[:PORT], mqtts://HOST[:PORT], ws://HOST[:PORT][/PATH] or wss://…"


@dataclass(frozen=True)
class Address:
    """A broker's URL in its parts."""

    scheme: str
    host: str
    """A name, or an IP address without brackets."""
    port: int
    path: str = ""
    """Of a WebSocket, else empty."""

    @property
    def tls(self) -> bool:
        """Encrypted: mqtts and wss."""
        return self.scheme in ("mqtts", "wss")

    @property
    def websocket(self) -> bool:
        """MQTT inside a WebSocket: ws and wss."""
        return self.scheme in ("ws", "wss")

    @property
    def transport(self) -> str:
        """What status calls it: tcp, tls, ws or wss."""
        return {"mqtt": "tcp", "mqtts": "tls"}.get(self.scheme, self.scheme)


def parse_url(url: str) -> Address:
    """Take a broker's URL apart. Raises ValueError, whose text never repeats a password."""
    address = split_url(url, _PORTS, _EXPECTED)
    if address.websocket:
        return address if address.path else Address(address.scheme, address.host, address.port, "/mqtt")
    if address.path not in ("", "/"):
        raise ValueError("a broker URL ends after the port (only ws:// and wss:// have a path)")
    return Address(address.scheme, address.host, address.port)


def split_url(url: str, ports: Mapping[str, int], expected: str) -> Address:
    """`SCHEME://HOST[:PORT][/PATH]` with one of the schemes of `ports`. Raises ValueError, mostly with `expected`."""
    try:
        parts = urlsplit(url)
        port, host = parts.port, parts.hostname
        ascii_host = (host or "").encode("idna").decode()  # may become a space: U+00A0
    except ValueError:
        raise ValueError(expected) from None
    if "@" in parts.netloc:
        raise ValueError("credentials do not belong in the URL: use username and password")
    # Below ! are the space and the control characters: they would end a line of a request to a proxy or WebSocket.
    if parts.scheme not in ports or not host or port == 0 or any(c < "!" or c == "\x7f" for c in url + ascii_host):
        raise ValueError(expected)
    if not parts.path.isascii() or parts.query or parts.fragment:
        raise ValueError(expected)
    return Address(parts.scheme, host, port or ports[parts.scheme], parts.path)
