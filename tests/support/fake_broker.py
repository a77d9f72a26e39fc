"""A broker that says and does what a test wants: limits in CONNACK, refusals, questions left without an answer.

It speaks just enough of MQTT 3.1.1 and 5 to be published to. What goes against its own rules it notes in `broken`
before it closes the connection, as the cloud's brokers do.
"""

from __future__ import annotations

import contextlib
import select
import socket
import ssl
import struct
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, Literal

from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties

from tests.support.patience import PATIENCE_S

Answer = Literal["answer", "ignore", "close"]


@dataclass
class Rules:
    """What this broker can do. Limits are announced in MQTT 5 and enforced in both protocols."""

    versions: tuple[int, ...] = (4, 5)
    """Protocol levels: 4 is 3.1.1. A CONNECT of another one is closed without a word."""
    code: int = 0
    """Of CONNACK: 0 accepts."""
    retain: bool = True
    max_qos: int = 2
    will: bool = True
    """False: a CONNECT with a will is closed without a word."""
    max_packet: int | None = None
    receive_maximum: int | None = None
    keepalive_s: int | None = None
    unsubscribe: Answer = "answer"
    ping: Answer = "answer"
    connack: bool = True
    """False: CONNECT is never answered."""
    acknowledge: bool = True
    """Messages of QoS 1."""
    suback: int = 1
    """Answer to each SUBSCRIBE of one topic: the QoS granted, or from 0x80 on a refusal."""
    refuse: dict[str, int] = field(default_factory=dict)
    """Topic -> reason code of its acknowledgements (MQTT 5), 0x10 and above."""
    tells_takeover: bool = False
    """Who is thrown out by another client of its name is told why (MQTT 5)."""
    tls: ssl.SSLContext | None = None
    quiet_tls: bool = False
    """Take connections and say nothing at all, not even a TLS handshake."""

    def announced(self) -> bytes:
        """The properties of CONNACK."""
        said = Properties(PacketTypes.CONNACK)
        if not self.retain:
            said.RetainAvailable = 0
        if self.max_qos < 2:
            said.MaximumQoS = self.max_qos
        if self.max_packet is not None:
            said.MaximumPacketSize = self.max_packet
        if self.receive_maximum is not None:
            said.ReceiveMaximum = self.receive_maximum
        if self.keepalive_s is not None:
            said.ServerKeepAlive = self.keepalive_s
        return bytes(said.pack())


@dataclass(frozen=True)
class Connect:
    """A CONNECT as it arrived."""

    version: int
    client_id: str
    will: bool
    will_qos: int
    will_retain: bool
    alpn: str | None


@dataclass(frozen=True)
class Publish:
    """A PUBLISH as it arrived."""

    topic: str
    payload: bytes
    qos: int
    retain: bool
    expiry_s: int | None
    at_s: float


@dataclass
class _Peer:
    sock: Any
    version: int = 0
    unacknowledged: list[tuple[int, int]] = field(default_factory=list)
    """Packet ids and reason codes."""


class Closed(Exception):
    """This connection is over."""


class FakeBroker:
    """Listens when the constructor returns."""

    def __init__(self, rules: Rules | None = None) -> None:
        self.rules = rules or Rules()
        self.connects: list[Connect] = []
        self.published: list[Publish] = []
        self.broken: list[str] = []
        self.questions: list[str] = []
        """`unsubscribe` and `ping`, in the order they came."""
        self._peers: dict[str, _Peer] = {}
        self._changed = threading.Condition()
        self._server = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._server.getsockname()[1]
        self.url = f"{'mqtts' if self.rules.tls or self.rules.quiet_tls else 'mqtt'}://127.0.0.1:{self.port}"
        self._wake, self._woken = socket.socketpair()
        self._threads = [threading.Thread(target=self._accept, name="fake-broker")]
        self._threads[0].start()

    def wait_for(self, wanted: Callable[[], Any], deadline_s: float = PATIENCE_S) -> None:
        """Return when `wanted()` is true; it is looked at after every packet."""
        with self._changed:
            if not self._changed.wait_for(wanted, deadline_s):
                raise TimeoutError(f"not seen: {self.connects[-3:]} {self.questions[-3:]} {self.published[-3:]}")

    def hang_up(self) -> None:
        """Close every connection without a word."""
        for peer in list(self._peers.values()):
            with contextlib.suppress(OSError):
                peer.sock.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        """End all connections and threads."""
        self._woken.close()
        for thread in self._threads:
            thread.join(PATIENCE_S)
        self._server.close()
        self._wake.close()

    def __enter__(self) -> FakeBroker:
        return self

    def __exit__(
        self, _type: type[BaseException] | None, _error: BaseException | None, _trace: TracebackType | None
    ) -> None:
        self.close()

    # -- its threads

    def _accept(self) -> None:
        while self._wake not in (ready := select.select([self._server, self._wake], [], [])[0]):
            if self._server in ready:
                sock, _ = self._server.accept()
                thread = threading.Thread(target=self._serve, args=(sock,), name="fake-broker-peer")
                self._threads.append(thread)
                thread.start()

    def _serve(self, sock: Any) -> None:
        peer = _Peer(sock)
        with contextlib.suppress(OSError, Closed), contextlib.closing(sock):
            if self.rules.quiet_tls:
                select.select([self._wake], [], [])
                return
            if self.rules.tls is not None:
                sock.settimeout(5)
                peer.sock = self.rules.tls.wrap_socket(sock, server_side=True)
            with contextlib.closing(peer.sock):
                while True:
                    self._acknowledge(peer)
                    kind, body = self._packet(peer)
                    self._take(peer, kind, body)
                    with self._changed:
                        self._changed.notify_all()

    def _acknowledge(self, peer: _Peer) -> None:
        """When everything that was sent at once is here, for it may have been too much."""
        while self.rules.acknowledge and peer.unacknowledged and not select.select([peer.sock], [], [], 0.02)[0]:
            packet, code = peer.unacknowledged.pop(0)
            if code and peer.version == 5:
                peer.sock.sendall(b"\x40\x03" + struct.pack("!HB", packet, code))
            else:
                peer.sock.sendall(b"\x40\x02" + struct.pack("!H", packet))

    def _packet(self, peer: _Peer) -> tuple[int, bytes]:
        first = self._bytes(peer, 1)[0]
        size = shift = 0
        while True:
            digit = self._bytes(peer, 1)[0]
            size |= (digit & 127) << shift
            shift += 7
            if digit < 128:
                break
        if self.rules.max_packet is not None and size + 1 + shift // 7 > self.rules.max_packet:
            self._break(peer, f"a packet of {size} bytes")
        return first, self._bytes(peer, size)

    def _bytes(self, peer: _Peer, count: int) -> bytes:
        data = b""
        while len(data) < count:
            pending = isinstance(peer.sock, ssl.SSLSocket) and peer.sock.pending()
            if not pending and self._wake in select.select([peer.sock, self._wake], [], [])[0]:
                raise Closed
            chunk = peer.sock.recv(count - len(data))
            if not chunk:
                raise Closed
            data += chunk
        return data

    def _break(self, peer: _Peer, what: str) -> None:
        self.broken.append(what)
        with self._changed:
            self._changed.notify_all()
        raise Closed

    def _take(self, peer: _Peer, first: int, body: bytes) -> None:
        kind = first & 0xF0
        if kind == 0x10:
            self._connect(peer, body)
        elif kind == 0x30:
            self._publish(peer, first, body)
        elif kind == 0xA0:
            self.questions.append("unsubscribe")
            codes = b"\x00\x00" if peer.version == 5 else b""
            self._answer(self.rules.unsubscribe, peer, b"\xb0" + bytes([2 + len(codes)]) + body[:2] + codes)
        elif kind == 0x80:
            none = b"\x00" if peer.version == 5 else b""
            peer.sock.sendall(b"\x90" + bytes([3 + len(none)]) + body[:2] + none + bytes([self.rules.suback]))
        elif kind == 0xC0:
            self.questions.append("ping")
            self._answer(self.rules.ping, peer, b"\xd0\x00")
        elif kind == 0xE0:
            raise Closed

    def _answer(self, how: Answer, peer: _Peer, packet: bytes) -> None:
        if how == "close":
            raise Closed
        if how == "answer":
            peer.sock.sendall(packet)

    def _connect(self, peer: _Peer, body: bytes) -> None:
        _, rest = _text(body)
        version, flags, rest = rest[0], rest[1], rest[4:]
        peer.version = version
        if version not in self.rules.versions:
            raise Closed
        if version == 5:
            rest = rest[1 + rest[0] :]
        client_id, _ = _text(rest)
        will, qos, retain = bool(flags & 4), flags >> 3 & 3, bool(flags & 0x20)
        alpn = peer.sock.selected_alpn_protocol() if isinstance(peer.sock, ssl.SSLSocket) else None
        self.connects.append(Connect(version, client_id, will, qos, retain, alpn))
        if not self.rules.connack:
            return
        if will and not self.rules.will:
            raise Closed
        code = self.rules.code
        if will and retain and not self.rules.retain:
            code = 0x9A
        elif will and qos > self.rules.max_qos:
            code = 0x9B
        if version == 4 and code in (0x9A, 0x9B):
            raise Closed
        properties = self.rules.announced() if version == 5 and not code else b"\x00" if version == 5 else b""
        peer.sock.sendall(b"\x20" + bytes([2 + len(properties)]) + b"\x00" + bytes([code]) + properties)
        if code:
            raise Closed
        if (older := self._peers.get(client_id)) is not None and self.rules.tells_takeover:
            with contextlib.suppress(OSError):
                older.sock.sendall(b"\xe0\x02\x8e\x00")
                older.sock.shutdown(socket.SHUT_RDWR)
        self._peers[client_id] = peer

    def _publish(self, peer: _Peer, first: int, body: bytes) -> None:
        qos, retain = first >> 1 & 3, bool(first & 1)
        topic, rest = _text(body)
        packet = b""
        if qos:
            packet, rest = rest[:2], rest[2:]
        expiry = None
        if peer.version == 5:
            properties = Properties(PacketTypes.PUBLISH)
            _, length = properties.unpack(rest)
            expiry, rest = getattr(properties, "MessageExpiryInterval", None), rest[length:]
        if retain and not self.rules.retain:
            self._break(peer, "retain")
        if qos > self.rules.max_qos:
            self._break(peer, f"QoS {qos}")
        self.published.append(Publish(topic, rest, qos, retain, expiry, time.monotonic()))
        if qos:
            peer.unacknowledged.append((struct.unpack("!H", packet)[0], self.rules.refuse.get(topic, 0)))
            if len(peer.unacknowledged) > (self.rules.receive_maximum or 65535):
                self._break(peer, f"{len(peer.unacknowledged)} messages without an acknowledgement")


def _text(data: bytes) -> tuple[str, bytes]:
    """A string with its length before it, and what follows."""
    end = 2 + struct.unpack("!H", data[:2])[0]
    return data[2:end].decode(), data[end:]
