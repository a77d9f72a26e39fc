"""A connection to an MQTT broker that is kept: one thread that connects, serves and connects again.

paho's own reconnecting is not used: it repeats a refused password each second, and hides why a broker refused.
Each connection gets a fresh client, so nothing of an old one is delivered late.
"""

from __future__ import annotations

import logging
import random
import socket
import ssl
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol
from urllib.parse import urlsplit

from paho.mqtt.client import Client
from paho.mqtt.enums import CallbackAPIVersion, MQTTErrorCode, MQTTProtocolVersion
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties
from paho.mqtt.reasoncodes import ReasonCode

log = logging.getLogger(__name__)

CONNECT_S = 5.0
"""For TCP and TLS."""
CONNACK_S = 10.0
IMPATIENT_S = 1.0
"""The first time, before the broker is asked whether it speaks protocol 5 at all."""
STEADY_S = 10.0
"""A connection that lived this long was a good one: the next pause is the shortest again."""
TICK_S = 0.5

V5, V311 = MQTTProtocolVersion.MQTTv5, MQTTProtocolVersion.MQTTv311
WRONG_CREDENTIALS = {134, 135}
OTHER_PROTOCOL = 132
TAKEN_OVER = 142
REFUSED = WRONG_CREDENTIALS | {133, 138, 140, TAKEN_OVER}
"""Bad credentials, client name not valid, banned, bad authentication method, name in use: a person must act."""

State = Literal["connecting", "connected", "refused"]


@dataclass(frozen=True)
class Endpoint:
    """Where the broker is and how to speak to it."""

    host: str
    port: int
    tls: ssl.SSLContext | None = None
    username: str | None = None
    password: Callable[[], str | None] | None = field(default=None, repr=False)
    """Asked at each connect, so that a changed password file is seen."""
    protocol: Literal["auto", "5", "3.1.1"] = "auto"
    keepalive_s: int = 10


@dataclass(frozen=True)
class Will:
    """What the broker publishes for us, retained, when we vanish without a word."""

    topic: str
    payload: bytes


class Owner(Protocol):
    """Who uses the link. All three are called by the link's thread."""

    def prepare(self, client: Client) -> None:
        """Set the callbacks of a client that will connect."""

    def up(self, client: Client, protocol: str) -> None:
        """The broker accepted us."""

    def tick(self, client: Client) -> str | None:
        """At least each half second while up; a reason to give the connection up, or None."""

    def down(self) -> None:
        """The client is gone, with all it held, or the state changed."""


def parse_url(url: str) -> tuple[str, int, bool]:
    """Host, port and whether TLS is wanted. Raises ValueError, whose text never repeats a password."""
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        raise ValueError("not a broker URL: expected mqtt://HOST[:PORT] or mqtts://HOST[:PORT]") from None
    if parts.scheme not in ("mqtt", "mqtts") or not parts.hostname:
        raise ValueError("not a broker URL: expected mqtt://HOST[:PORT] or mqtts://HOST[:PORT]")
    if "@" in parts.netloc:
        raise ValueError("credentials do not belong in the URL: use username and password")
    if parts.path not in ("", "/") or parts.query or parts.fragment:
        raise ValueError("a broker URL ends after the port")
    tls = parts.scheme == "mqtts"
    return parts.hostname, port or (8883 if tls else 1883), tls


def pause_s(failures: int, refused: bool) -> float:
    """Jittered pause before the next try, s: 0.5 doubling to 30, or 2 doubling to 60 where we were refused."""
    first_s, most_s = (2.0, 60.0) if refused else (0.5, 30.0)
    return min(most_s, first_s * 2.0 ** min(failures, 10)) * random.uniform(0.5, 1.0)


@dataclass
class _End:
    """How a connection ended."""

    reason: str
    code: int | None = None
    was_up_s: float | None = None
    """None: it never was."""
    silent: bool = False
    """The broker took the connection and said nothing in time."""
    dropped: bool = False
    """The broker took the connection and closed it without a word."""


class Link:
    """Connects in the background and stays connected until `close`."""

    def __init__(self, endpoint: Endpoint, client_id: str, owner: Owner, will: Will | None = None) -> None:
        self.state: State = "connecting"
        self.reason: str | None = None
        self.protocol: str | None = None
        self.reconnects = 0
        self.pausing = False
        """Between two tries."""
        self._endpoint = endpoint
        self._client_id = client_id
        self._owner = owner
        self._will = will
        self._spoken: MQTTProtocolVersion | None = None
        self._ups = 0
        self._closing = threading.Event()
        self._close_by = 0.0
        self._client: Client | None = None
        self._thread = threading.Thread(target=self._run, name="mqtt", daemon=True)

    def start(self) -> None:
        """Begin to connect; returns at once."""
        self._thread.start()

    @property
    def closed(self) -> bool:
        """`close` was called."""
        return self._closing.is_set()

    def close(self, deadline_s: float) -> None:
        """Say goodbye (so the broker keeps the will to itself) and end the thread, within the deadline."""
        self._close_by = time.monotonic() + deadline_s
        self._closing.set()
        client = self._client  # a client that comes after this line sees _closing
        if client is not None:
            client.disconnect()
        self._thread.join(deadline_s + 2 * TICK_S)

    # -- the thread

    def _run(self) -> None:
        failures = 0
        while not self._closing.is_set():
            end = self._connect()
            if self._closing.is_set():
                break
            if end.was_up_s is not None and end.was_up_s >= STEADY_S:
                failures = 0
            refused = end.code in REFUSED
            if failures >= 2 and end.was_up_s is not None and end.reason == "connection lost":
                end.reason = "connection lost again and again: does another client use our client_id?"
            self._say("refused" if refused else "connecting", end.reason)
            self.pausing = True
            self._owner.down()
            self._closing.wait(pause_s(failures, refused))
            self.pausing = False
            failures += 1

    def _connect(self) -> _End:
        """One connection from beginning to end, in the protocol the broker speaks."""
        if self._endpoint.protocol != "auto":
            return self._session(V5 if self._endpoint.protocol == "5" else V311, CONNACK_S)
        first = self._spoken or V5
        end = self._session(first, CONNACK_S if self._spoken else IMPATIENT_S)
        if self._closing.is_set() or end.was_up_s is not None:
            return end
        if end.silent and self._spoken is None:
            self._spoken = self._ask()
            return self._session(self._spoken, CONNACK_S) if self._spoken else end
        if end.code != OTHER_PROTOCOL and not end.dropped:
            return end
        # Tried at once, so that a broker which was merely starting has no time to turn into one of the other protocol.
        second = self._session(V311 if first == V5 else V5, CONNACK_S)
        return end if second.dropped else second

    def _ask(self) -> MQTTProtocolVersion | None:
        """Ask a broker that ignores our CONNECT with the barest one, and close; None if it ignores that too.

        Some brokers of protocol 3.1.1 stumble over a will or password of protocol 5 before they see the version.
        """
        trouble = _Trouble()
        client = self._build(V5, trouble, bare=True)
        connack: list[ReasonCode] = []
        client.on_connect = lambda _c, _u, _flags, code, _p: connack.append(code)
        try:
            client.connect(self._endpoint.host, self._endpoint.port, self._endpoint.keepalive_s)
            end_s = time.monotonic() + CONNACK_S
            alive = MQTTErrorCode.MQTT_ERR_SUCCESS
            while alive == MQTTErrorCode.MQTT_ERR_SUCCESS and not connack and time.monotonic() < end_s:
                alive = client.loop(0.1)
                if self._closing.is_set():
                    return None
        except (OSError, ValueError):
            return None
        finally:
            _abandon(client)
        if connack:
            return V311 if connack[0].value == OTHER_PROTOCOL else V5
        return None if alive == MQTTErrorCode.MQTT_ERR_SUCCESS else V311

    def _session(self, version: MQTTProtocolVersion, patience_s: float) -> _End:
        trouble = _Trouble()
        client = self._build(version, trouble)
        end = _End("connection lost")
        connack: list[ReasonCode] = []
        client.on_connect = lambda _c, _u, _flags, code, _p: connack.append(code)
        client.on_disconnect = lambda _c, _u, flags, code, _p: _farewell(
            end, flags.is_disconnect_packet_from_server, code
        )
        try:
            if self._endpoint.password is not None:
                client.password = self._endpoint.password()
            client.connect(self._endpoint.host, self._endpoint.port, self._endpoint.keepalive_s)
        except Exception as error:  # noqa: BLE001 - DNS, TCP, TLS and secrets fail in many ways: each is retried
            return _End(explain(error))
        self._client = client
        if self._closing.is_set():
            client.disconnect()
        try:
            self._serve(client, version, patience_s, connack, end)
        finally:
            self._client = None
            _abandon(client)
            self._owner.down()
        if trouble.text and end.code is None:
            end.reason = f"{end.reason}: {trouble.text}"
            end.dropped = end.dropped and not trouble.text.startswith("TLS")
        return end

    def _serve(
        self, client: Client, version: MQTTProtocolVersion, patience_s: float, connack: list[ReasonCode], end: _End
    ) -> None:
        began_s = time.monotonic()
        up_since_s: float | None = None
        while client.loop(TICK_S) == MQTTErrorCode.MQTT_ERR_SUCCESS:
            now_s = time.monotonic()
            if self._closing.is_set() and now_s > self._close_by:
                break
            if up_since_s is None:
                if not connack:
                    if now_s - began_s > patience_s:
                        end.reason, end.silent = "broker does not answer", True
                        return
                    continue
                if connack[0].is_failure:
                    break
                up_since_s = now_s
                self._accepted(client, version)
            problem = self._owner.tick(client)
            if problem is not None:
                end.reason = problem
                break
        if connack and connack[0].is_failure:
            end.reason, end.code = f"broker refuses: {connack[0]}", connack[0].value
        end.dropped = not connack
        if not connack:
            end.reason = "broker closed the connection before it answered"
        if up_since_s is not None:
            end.was_up_s = time.monotonic() - up_since_s

    def _accepted(self, client: Client, version: MQTTProtocolVersion) -> None:
        self._spoken = version
        self.protocol = "5" if version == V5 else "3.1.1"
        self._ups += 1
        self.reconnects = self._ups - 1
        self._say("connected", None)
        self._owner.up(client, self.protocol)

    def _build(self, version: MQTTProtocolVersion, trouble: _Trouble, bare: bool = False) -> Client:
        clean = {} if version == V5 else {"clean_session": True}
        client = Client(
            CallbackAPIVersion.VERSION2,
            client_id="" if bare else self._client_id,
            protocol=version,
            reconnect_on_failure=False,
            **clean,  # type: ignore[arg-type]
        )
        client.connect_timeout = CONNECT_S
        client.enable_logger(trouble.logger)
        if self._endpoint.tls is not None:
            client.tls_set_context(self._endpoint.tls)
        if bare:
            return client
        if self._endpoint.username is not None:
            client.username = self._endpoint.username
        if self._will is not None:
            about = None
            if version == V5:
                about = json_properties(PacketTypes.WILLMESSAGE)
            client.will_set(self._will.topic, self._will.payload, qos=1, retain=True, properties=about)
        client.on_socket_open = _no_delay
        # With this set, other threads only queue and wake our loop: one thread alone writes to the socket.
        client.on_socket_register_write = lambda _client, _userdata, _sock: None
        self._owner.prepare(client)
        return client

    def _say(self, state: State, reason: str | None) -> None:
        if (state, reason) != (self.state, self.reason):
            where = f"{self._endpoint.host}:{self._endpoint.port}"
            if state == "connected":
                log.info("broker %s: connected, MQTT %s", where, self.protocol)
            else:
                log.warning("broker %s: %s", where, reason)
        self.state, self.reason = state, reason


class _Trouble(logging.Handler):
    """Catches what paho only logs: the error that ended a connection."""

    def __init__(self) -> None:
        super().__init__(logging.ERROR)
        self.text = ""
        self.logger = logging.Logger("paho", logging.ERROR)
        self.logger.addHandler(self)

    def emit(self, record: logging.LogRecord) -> None:
        error = record.args[0] if isinstance(record.args, tuple) and record.args else None
        self.text = explain(error) if isinstance(error, Exception) else record.getMessage()


def _farewell(end: _End, from_broker: bool, code: ReasonCode) -> None:
    if code.value == TAKEN_OVER:
        end.reason, end.code = "another client uses our client_id", TAKEN_OVER
    elif from_broker:
        end.reason, end.code = f"broker ended the connection: {code}", code.value
    elif code.value == 141:
        end.reason = "broker does not answer"


def explain(error: Exception) -> str:
    """One line for a person; of our own making, so that it carries no secret."""
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"broker's certificate: {error.verify_message}"
    if isinstance(error, ssl.SSLError):
        return f"TLS: {(error.reason or 'handshake failed').lower().replace('_', ' ')}"
    if isinstance(error, socket.gaierror):
        return "host name not found"
    if isinstance(error, TimeoutError):
        return "no connection within 5 s"
    if isinstance(error, OSError) and error.strerror:
        return error.strerror.lower()
    return str(error) or type(error).__name__


def _abandon(client: Client) -> None:
    """Close the socket, with a goodbye if it still takes one: a broker that thaws then finds no will to publish."""
    if client.socket() is not None:
        client.disconnect(properties=None)
        client.loop_write()
    sock: Any = client.socket()
    if sock is not None:
        sock.close()


def _no_delay(_client: Client, _userdata: object, sock: Any) -> None:
    """Small packets leave at once: Nagle's algorithm would hold the second until the first is acknowledged."""
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)


def json_properties(packet: int, expiry_s: int | None = None) -> Properties:
    """MQTT 5 properties of a JSON message (`PacketTypes.PUBLISH` or `.WILLMESSAGE`)."""
    properties = Properties(packet)  # type: ignore[no-untyped-call]
    properties.ContentType = "application/json"
    properties.PayloadFormatIndicator = 1
    if expiry_s is not None:
        properties.MessageExpiryInterval = expiry_s
    return properties
