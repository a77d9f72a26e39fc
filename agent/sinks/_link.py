"""A connection to an MQTT broker that is kept: one thread that connects, serves and connects again.

paho's own reconnecting is not used: it repeats a refused password each second, and hides why a broker refused.
Each connection gets a fresh client, so nothing of an old one is delivered late.
"""

from __future__ import annotations

import logging
import random
import ssl
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Literal, Protocol

from paho.mqtt.enums import CallbackAPIVersion, MQTTErrorCode, MQTTProtocolVersion
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties
from paho.mqtt.reasoncodes import ReasonCode

from agent.errors import ConfigError
from agent.sinks._address import Address
from agent.sinks._client import BrokerClient
from agent.sinks._packets import JSON, properties_of
from agent.sinks._proxy import Proxy
from agent.sinks._reasons import Trouble, explain

log = logging.getLogger(__name__)

CONNECT_S = 5.0
"""For TCP and TLS."""
CONNACK_S = 10.0
IMPATIENT_S = 1.0
"""The first time, before the broker is asked whether it speaks protocol 5 at all."""
AGAIN = "does another client use our client_id, or is something not allowed that we send?"
STEADY_S = 10.0
"""A connection that lived this long was a good one: the next pause is the shortest again."""
OFTEN_S = 600.0
"""Three connections lost without a word in this time are no chance."""
TICK_S = 0.5
MOST_IN_FLIGHT = 100
"""Messages of QoS 1 without an acknowledgement, where the broker does not want fewer."""
DROPPED = "broker closed the connection before it answered (client_id, will or retain may not suit it)"

V5, V311 = MQTTProtocolVersion.MQTTv5, MQTTProtocolVersion.MQTTv311
WRONG_CREDENTIALS, NOT_AUTHORIZED = 134, 135
OTHER_PROTOCOL = 132
BAD_NAME = 133
TAKEN_OVER = 142
NO_RETAIN, NO_SUCH_QOS = 154, 155
REFUSED = {WRONG_CREDENTIALS, NOT_AUTHORIZED, BAD_NAME, 138, 140, TAKEN_OVER, NO_RETAIN, NO_SUCH_QOS}
"""... and banned, bad authentication method: a person must act."""

State = Literal["connecting", "connected", "refused"]


@dataclass(frozen=True)
class Endpoint:
    """Where the broker is and how to speak to it."""

    address: Address
    tls: ssl.SSLContext | None = None
    proxy: Proxy | None = None
    headers: Callable[[], Mapping[str, str]] = dict
    """Of the WebSocket handshake."""
    username: str | None = None
    password: Callable[[], str | None] | None = field(default=None, repr=False)
    """Asked at each connect, so that a changed password file is seen."""
    protocol: Literal["auto", "5", "3.1.1"] = "auto"
    keepalive_s: int = 10
    largest_in: int | None = None
    """Bytes of a packet that an MQTT 5 broker may send us."""


@dataclass(frozen=True)
class Will:
    """What the broker publishes for us when we vanish without a word."""

    topic: str
    payload: bytes
    qos: int = 1
    retain: bool = True
    content_type: str = JSON

    def without(self, code: int | None) -> Will | None:
        """The same for a broker that refused us with this code; None if that does not help."""
        if code == NO_RETAIN and self.retain:
            return replace(self, retain=False)
        if code == NO_SUCH_QOS and self.qos:
            return replace(self, qos=0)
        return None


@dataclass(frozen=True)
class Accepted:
    """How a broker accepted us."""

    protocol: str
    """`5` or `3.1.1`."""
    said: Properties | None
    """The properties of its CONNACK; None in 3.1.1."""


class Owner(Protocol):
    """Who uses the link. All three are called by the link's thread."""

    def prepare(self, client: BrokerClient) -> None:
        """Set the callbacks of a client that will connect."""

    def up(self, client: BrokerClient, accepted: Accepted) -> None:
        """The broker accepted us."""

    def tick(self, client: BrokerClient) -> str | None:
        """At least each half second while up; a reason to give the connection up, or None."""

    def down(self) -> None:
        """The client is gone, with all it held, or the state changed."""


def pause_s(failures: int, code: int | None = None) -> float:
    """Jittered pause before the next try, s: 0.5 doubling to 30, or 2 doubling to 60 where we were refused.

    At once 60 where another client took our name: the two of us would throw each other out for ever.
    """
    if code == TAKEN_OVER:
        first_s, most_s = 60.0, 60.0
    else:
        first_s, most_s = (2.0, 60.0) if code in REFUSED else (0.5, 30.0)
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
        self._losses: deque[float] = deque(maxlen=3)
        """When connections ended without a word, monotonic."""
        self._closing = threading.Event()
        self._close_by = 0.0
        self._client: BrokerClient | None = None
        self._opening: BrokerClient | None = None
        """A client that connects: DNS, TCP, proxy, TLS, WebSocket."""
        self._thread = threading.Thread(target=self._run, name="mqtt", daemon=True)

    def start(self) -> None:
        """Begin to connect; returns at once."""
        self._thread.start()

    @property
    def closed(self) -> bool:
        """`close` was called."""
        return self._closing.is_set()

    @property
    def doubt(self) -> str | None:
        """What a person should look at though we are connected."""
        losses = tuple(self._losses)
        if len(losses) < 3 or time.monotonic() - losses[0] > OFTEN_S:
            return None
        return f"connection lost {len(losses)} times within {OFTEN_S / 60:.0f} minutes: {AGAIN}"

    def close(self, deadline_s: float) -> None:
        """Say goodbye (so the broker keeps the will to itself) and end the thread, within the deadline."""
        self._close_by = time.monotonic() + deadline_s
        self._closing.set()
        client = self._client  # a client that comes after this line sees _closing
        if client is not None:
            client.disconnect()
        self._thread.join(deadline_s + TICK_S / 2)
        if self._thread.is_alive():
            for silent in (self._opening, self._client):
                if silent is not None:
                    silent.cut()
            self._thread.join(TICK_S)

    # -- the thread

    def _run(self) -> None:
        failures = 0
        while not self._closing.is_set():
            end = self._connect()
            if self._closing.is_set():
                break
            if end.was_up_s is not None and end.was_up_s >= STEADY_S:
                failures = 0
            wordless = end.was_up_s is not None and end.reason == "connection lost"
            if wordless:
                self._losses.append(time.monotonic())
                if failures >= 2:
                    end.reason = f"{end.reason} again and again: {AGAIN}"
            self._say("refused" if end.code in REFUSED else "connecting", end.reason)
            self.pausing = True
            self._owner.down()
            self._closing.wait(pause_s(failures, end.code))
            self.pausing = False
            # mosquitto 2.0.11 takes our name away without a word: who was here last yields soon.
            failures += 3 if wordless and end.was_up_s is not None and end.was_up_s < STEADY_S else 1

    def _connect(self) -> _End:
        """One connection from beginning to end; at once again without what the broker said it cannot do."""
        end = self._in_its_protocol()
        while end.was_up_s is None and self._will is not None and not self._closing.is_set():
            will = self._will.without(end.code)
            if will is None:
                break
            self._will = will
            end = self._in_its_protocol()
        return end

    def _in_its_protocol(self) -> _End:
        """One connection, in the protocol the broker speaks."""
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
        trouble = Trouble()
        client = self._build(V5, trouble, bare=True)
        connack: list[ReasonCode] = []
        client.on_connect = lambda _c, _u, _flags, code, _p: connack.append(code)
        try:
            self._open(client)
            end_s = time.monotonic() + CONNACK_S
            alive = MQTTErrorCode.MQTT_ERR_SUCCESS
            while alive == MQTTErrorCode.MQTT_ERR_SUCCESS and not connack and time.monotonic() < end_s:
                alive = client.loop(0.1)
                if self._closing.is_set():
                    return None
        except (OSError, ValueError, ConfigError):
            return None
        finally:
            client.abandon()
        if connack:
            return V311 if connack[0].value == OTHER_PROTOCOL else V5
        return None if alive == MQTTErrorCode.MQTT_ERR_SUCCESS else V311

    def _session(self, version: MQTTProtocolVersion, patience_s: float) -> _End:
        trouble = Trouble()
        client = self._build(version, trouble)
        end = _End("connection lost")
        connack: list[tuple[ReasonCode, Properties | None]] = []
        client.on_connect = lambda _c, _u, _flags, code, said: connack.append((code, said))
        client.on_disconnect = lambda _c, _u, flags, code, _p: _farewell(
            end, flags.is_disconnect_packet_from_server, code
        )
        try:
            self._open(client)
        except Exception as error:  # noqa: BLE001 - DNS, TCP, TLS and secrets fail in many ways: each is retried
            client.abandon()
            return _End(explain(error))
        self._client = client
        if self._closing.is_set():
            client.disconnect()
        try:
            self._serve(client, version, patience_s, connack, end)
        except Exception as error:  # noqa: BLE001 - paho stumbles in many ways over what is no MQTT
            end.reason = f"what the broker says is not understood ({type(error).__name__})"
        finally:
            self._client = None
            client.abandon()
            self._owner.down()
        if trouble.text and end.code is None:
            end.reason = f"{end.reason}: {trouble.text}"
            end.dropped = end.dropped and not trouble.text.startswith("TLS")
        return end

    def _open(self, client: BrokerClient) -> None:
        """Connect, with secrets as they are now."""
        address = self._endpoint.address
        self._opening = client
        try:
            if self._endpoint.password is not None and client.username is not None:
                client.password = self._endpoint.password()
            if address.websocket:
                client.ws_set_options(address.path, dict(self._endpoint.headers()))
            client.connect(address.host, address.port, self._endpoint.keepalive_s, properties=client.wishes)
        finally:
            self._opening = None

    def _serve(
        self,
        client: BrokerClient,
        version: MQTTProtocolVersion,
        patience_s: float,
        connack: list[tuple[ReasonCode, Properties | None]],
        end: _End,
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
                code, said = connack[0]
                if code.is_failure:
                    break
                up_since_s = now_s
                self._accepted(client, version, said)
            problem = self._owner.tick(client)
            if problem is not None:
                end.reason = problem
                break
        if connack and connack[0][0].is_failure:
            end.reason, end.code = self._refusal(connack[0][0]), connack[0][0].value
        end.dropped = not connack
        if not connack:
            end.reason = DROPPED
        if up_since_s is not None:
            end.was_up_s = time.monotonic() - up_since_s

    def _refusal(self, code: ReasonCode) -> str:
        """What a person can do about it."""
        advice = {
            WRONG_CREDENTIALS: "check username and password",
            NOT_AUTHORIZED: "check username, password and client_id",
            BAD_NAME: f"the client name is {self._client_id!r}: set another client_id",
        }.get(code.value)
        return f"broker refuses: {code}" + (f": {advice}" if advice else "")

    def _accepted(self, client: BrokerClient, version: MQTTProtocolVersion, said: Properties | None) -> None:
        self._spoken = version
        self.protocol = "5" if version == V5 else "3.1.1"
        self._ups += 1
        self.reconnects = self._ups - 1
        self._say("connected", None)
        said = said if version == V5 else None
        client.limit_in_flight(min(MOST_IN_FLIGHT, getattr(said, "ReceiveMaximum", MOST_IN_FLIGHT)))
        self._owner.up(client, Accepted(self.protocol, said))

    def _build(self, version: MQTTProtocolVersion, trouble: Trouble, bare: bool = False) -> BrokerClient:
        clean = {} if version == V5 else {"clean_session": True}
        client = BrokerClient(
            CallbackAPIVersion.VERSION2,
            client_id="" if bare else self._client_id,
            protocol=version,
            reconnect_on_failure=False,
            transport="websockets" if self._endpoint.address.websocket else "tcp",
            **clean,
        )
        client.connect_timeout = CONNECT_S
        client.enable_logger(trouble.logger)
        if self._endpoint.tls is not None:
            client.tls_set_context(self._endpoint.tls)
            client.tls = self._endpoint.tls
        client.proxy = self._endpoint.proxy
        if bare:
            return client
        if version == V5 and self._endpoint.largest_in is not None:
            client.wishes = Properties(PacketTypes.CONNECT)  # type: ignore[no-untyped-call]
            client.wishes.MaximumPacketSize = self._endpoint.largest_in
        if self._endpoint.username is not None:
            client.username = self._endpoint.username
        if self._will is not None:
            about = None
            if version == V5:
                about = properties_of(self._will.content_type)
            will = self._will
            client.will_set(will.topic, will.payload, will.qos, will.retain, about)
        # With this set, other threads only queue and wake our loop: one thread alone writes to the socket.
        client.on_socket_register_write = lambda _client, _userdata, _sock: None
        self._owner.prepare(client)
        return client

    def _say(self, state: State, reason: str | None) -> None:
        if (state, reason) != (self.state, self.reason):
            where = f"{self._endpoint.address.host}:{self._endpoint.address.port}"
            if state == "connected":
                log.info("broker %s: connected, MQTT %s", where, self.protocol)
            else:
                log.warning("broker %s: %s", where, reason)
        self.state, self.reason = state, reason


def _farewell(end: _End, from_broker: bool, code: ReasonCode) -> None:
    if code.value == TAKEN_OVER:
        end.reason, end.code = "another client uses our client_id", TAKEN_OVER
    elif from_broker:
        end.reason, end.code = f"broker ended the connection: {code}", code.value
    elif code.value == 141:
        end.reason = "broker does not answer"
