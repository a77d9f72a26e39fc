"""MQTT: results, state and (later) events to a broker, over TCP or TLS, protocol 5 or 3.1.1.

State (retained, without an age limit) is kept here, newest per topic, and said again at every connect: it needs no
connection to be taken. Everything else dies with the connection. Live results (QoS 0) pass `_gate.Gate`: they leave
only for a broker that answered a moment ago, so that a frozen or slow one never delivers old results.
"""

from __future__ import annotations

import logging
import math
import threading
import time
from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from typing import Annotated, Any, Literal

from paho.mqtt.client import Client
from paho.mqtt.enums import MQTTErrorCode
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties
from paho.mqtt.reasoncodes import ReasonCode
from pydantic import AfterValidator, BeforeValidator, Field, model_validator
from typing_extensions import Self

from agent.errors import ConfigError, Transient
from agent.secrets import Credentials, Password
from agent.sinks import Message, Sink, SinkConfig
from agent.sinks._address import parse_url
from agent.sinks._client import BrokerClient
from agent.sinks._gate import Gate
from agent.sinks._link import Accepted, Endpoint, Link, Will, json_properties
from agent.sinks._proxy import Proxy
from agent.sinks._terms import REPEAT_S, Terms
from agent.sinks._tls import tls_context
from agent.sinks._told import Told

log = logging.getLogger(__name__)

UNSENT_BYTES = 16 * 1024
"""Handed to paho but not yet to the kernel: at this many, no more until all are gone. (paho reads nothing, answers
included, while it has something to write.)"""
GRANT_NS = 5_000_000
"""What `ready` promised holds this long, so that an answer that becomes overdue in between costs no result."""
HEARTBEAT_NS = 4_000_000_000
FROZEN_NS = 10_000_000_000
"""Without an answer for this long, the connection is given up."""
SILENT_NS = 1_000_000_000
"""Without an answer for this long, status says so."""
SILENT = "broker does not answer"


PING = 0
"""The number of a question that is a PINGREQ: packet ids begin at 1."""


def _url(url: str) -> str:
    parse_url(url)
    return url


def _listed(value: Any) -> Any:
    return [value] if isinstance(value, str) else value


def _worded(value: Any) -> Any:
    return str(value) if type(value) is int else value  # YAML reads `protocol: 5` as a number


Alpn = Annotated[str, Field(pattern=r"^[!-~]{1,255}$")]
HeaderName = Annotated[str, Field(pattern=r"^[A-Za-z0-9!#$%&'*+.^_`|~-]+$")]


class Config(SinkConfig, Credentials):
    """`mqtt: {url: mqtts://broker:8883, username: cam, password: credential:mqtt}`."""

    type: Literal["mqtt"] = "mqtt"
    url: Annotated[str, AfterValidator(_url)]
    """`mqtt://HOST[:1883]`, `mqtts://HOST[:8883]` (TLS), `ws://HOST[:80][/mqtt]` or `wss://HOST[:443][/mqtt]`."""
    ca: Path | None = None
    """PEM file with the authorities to trust instead of the system's."""
    cert: Path | None = None
    """Client certificate, PEM; may contain the key too."""
    key: Path | None = None
    alpn: Annotated[tuple[Alpn, ...], BeforeValidator(_listed)] = ()
    """Protocol names that TLS announces, for a broker that shares port 443 with others."""
    headers: dict[HeaderName, Password] = Field(default_factory=dict)
    """More lines for the WebSocket handshake; values are secrets."""
    proxy: Proxy | None = None
    client_id: Annotated[str, Field(pattern=r"^[^\x00-\x1f\x7f]*$")] | None = None
    """Default `sightwire-<agent>`; empty: the broker chooses. It ends an older connection of the same name."""
    prefix: Annotated[str, Field(pattern=r"^[^+#/\s\x00]+(/[^+#/\s\x00]+)*$")] = "sightwire"
    """First part of every topic; may contain `/`."""
    keepalive_s: int = Field(default=10, ge=2, le=3600)
    protocol: Annotated[Literal["auto", "5", "3.1.1"], BeforeValidator(_worded)] = "auto"
    """auto: 5, and 3.1.1 where the broker does not speak it."""
    retain: bool = True
    """False for a broker that cannot, or must not, keep messages. MQTT 5 brokers say so themselves."""
    will: bool = True
    """False for a broker that refuses a will."""
    max_qos: Literal[0, 1] = 1
    """Of state and events; MQTT 5 brokers that cannot do 1 say so themselves. Results are always QoS 0."""
    max_packet_bytes: int | None = Field(default=None, ge=256)
    """Larger messages are not sent: for a broker of 3.1.1 that would close the connection."""
    probe: Literal["auto", "unsubscribe", "ping"] = "auto"
    """What asks the broker whether it still answers. auto: UNSUBSCRIBE, and PINGREQ where that is not answered."""

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        address = parse_url(self.url)
        for name in ("ca", "cert", "key", "alpn"):
            if getattr(self, name) and not address.tls:
                raise ValueError(f"{name} needs a URL that begins with mqtts:// or wss://")
        if self.headers and not address.websocket:
            raise ValueError("headers need a URL that begins with ws:// or wss://")
        if self.key is not None and self.cert is None:
            raise ValueError("key needs cert")
        return self

    def open(self, agent: str, farewell: Message) -> MqttSink:
        """Build the sink and begin to connect. Raises ConfigError for a certificate file that cannot be used."""
        sink = MqttSink(self, agent, farewell)
        sink.start()
        return sink

    def look_at_files(self) -> None:
        """See SinkConfig."""
        self.endpoint()

    def endpoint(self) -> Endpoint:
        """Where and how to connect. Raises ConfigError as `open` does."""
        address = parse_url(self.url)
        return Endpoint(
            address=address,
            tls=tls_context(self.ca, self.cert, self.key, self.alpn) if address.tls else None,
            proxy=self.proxy,
            headers=self._read_headers,
            username=self.username,
            password=self.read_password if self.username is not None else None,
            protocol=self.protocol,
            keepalive_s=self.keepalive_s,
        )

    def _read_headers(self) -> dict[str, str]:
        """Name and value as they are now. Raises ConfigError for what would not be one line."""
        values = {name: value.resolve() for name, value in self.headers.items()}
        for name, value in values.items():
            if not value.isprintable():
                raise ConfigError(f"headers: {name}: a value is one line, without control characters")
        return values


class MqttSink(Sink):
    """Publishes below `<prefix>/<agent>/`. One thread of its own, the link's."""

    name = "mqtt"

    def __init__(self, config: Config, agent: str, farewell: Message) -> None:
        self._base = f"{config.prefix}/{agent}"
        # Never subscribed to: asking the broker to unsubscribe changes nothing, and both protocols must answer it.
        self._alive_topic = f"{self._base}/alive"
        self._transport = parse_url(config.url).transport
        self._wanted = Terms(
            config.retain, config.will, config.max_qos, config.max_packet_bytes, config.keepalive_s,
            pings=config.probe == "ping",
        )  # fmt: skip
        self._may_ping = config.probe == "auto"
        will = Will(self._topic(farewell), farewell.encode(time.monotonic_ns()), config.max_qos, config.retain)
        client_id = f"sightwire-{agent}" if config.client_id is None else config.client_id
        self._link = Link(config.endpoint(), client_id, self, will if config.will else None)
        self._changed = threading.Condition()
        # What follows is guarded by _changed.
        self._client: BrokerClient | None = None
        self._terms = self._wanted
        self._limits: list[str] = []
        self._gate = Gate()
        self._unsent: dict[int, int] = {}
        self._unsent_bytes = 0
        self._full = False
        self._granted_ns = 0
        self._state = Told()
        self._told_ns = 0
        """When all state was said, last."""
        self._unanswered = 0
        """Connections, one after the other, that ended without the answer to any question."""
        self._sent = self._bytes = self._refused = 0
        self._denied: str | None = None

    def start(self) -> None:
        """Begin to connect."""
        self._link.start()

    # -- the sender's side

    def ready(self, timeout_s: float) -> bool:
        """Wait until a live result could leave at once for a broker that answers; False after the timeout."""
        with self._changed:
            granted = self._changed.wait_for(lambda: self._obstacle() is None, timeout_s)
            self._granted_ns = time.monotonic_ns() + GRANT_NS if granted else 0
            return granted

    def send(self, message: Message) -> None:
        """Hand one message over.

        State is taken always. Live results raise Transient without a connection, for a silent broker and when they
        are too old; messages of QoS 1 without a connection only.
        """
        if message.retain and message.max_age_ns is None:
            self._send_state(message)
        elif message.qos > 0:
            self._send_sure(message)
        else:
            self._send_live(message)

    def close(self, deadline_s: float) -> None:
        """Wait for the state to be acknowledged and the rest to be sent, then say goodbye: no will is published.

        Does not wait for a broker that is not there.
        """
        end_s = time.monotonic() + deadline_s
        with self._changed:
            self._changed.wait_for(
                lambda: self._link.pausing or self._link.closed or (self._state.settled and not self._unsent),
                deadline_s,
            )
        self._link.close(max(0.2, end_s - time.monotonic()))

    def state(self) -> dict[str, Any]:
        """`state` (connecting, connected, refused) and `reason`, how it speaks and what it cannot do, counters."""
        with self._changed:
            silent = self._client is not None and self._gate.silent_ns(time.monotonic_ns()) > SILENT_NS
            round_trip_ns = self._gate.round_trip_ns
            facts: dict[str, Any] = {
                "type": self.name,
                "state": self._link.state,
                "connected": self._link.state == "connected",
                "reason": SILENT if silent else self._link.reason or self._denied,
                "transport": self._transport,
                "protocol": self._link.protocol,
                "limits": list(self._limits),
                "sent": self._sent,
                "bytes": self._bytes,
                "reconnects": self._link.reconnects,
                "refused": self._refused,
                "round_trip_ms": None if round_trip_ns is None else round(round_trip_ns / 1e6, 1),
            }
        return facts

    def _topic(self, message: Message) -> str:
        return f"{self._base}/{message.topic}"

    def _obstacle(self) -> str | None:
        """Why no live result may be handed over now. Opens again only with an event that notifies `_changed`."""
        if self._client is None:
            return self._link.reason or "not connected"
        if not self._gate.is_open(time.monotonic_ns()):
            return SILENT
        if self._full:
            return "broker reads too slowly"
        return None

    def _send_live(self, message: Message) -> None:
        topic = self._topic(message)
        with self._changed:
            client = self._client
            granted = time.monotonic_ns() < self._granted_ns
            self._granted_ns = 0
            obstacle = None if granted and client is not None else self._obstacle()
        if obstacle is not None or client is None:
            raise Transient(obstacle)
        now_ns = time.monotonic_ns()
        expiry_s = _expiry_s(message, now_ns)
        payload = message.encode(now_ns)
        terms = self._terms
        self._check_size(terms, topic, payload)
        retain = message.retain and terms.retain
        with self._changed:
            # QoS 0 takes no lock of paho's that its thread could hold while it waits for ours.
            info = client.publish(topic, payload, 0, retain, _properties(expiry_s) if terms.expires else None)
            if info.rc != MQTTErrorCode.MQTT_ERR_SUCCESS or client is not self._client:
                raise Transient(self._link.reason or "connection lost")
            self._unsent[info.mid] = len(payload)
            self._unsent_bytes += len(payload)
            self._full = self._full or self._unsent_bytes >= UNSENT_BYTES
            self._count(payload)
            self._gate.handed()
            self._ask(client, time.monotonic_ns())

    def _send_sure(self, message: Message) -> None:
        now_ns = time.monotonic_ns()
        expiry_s = _expiry_s(message, now_ns)
        payload = message.encode(now_ns)
        topic = self._topic(message)
        with self._changed:
            client, terms = self._client, self._terms
        if client is None:
            raise Transient(self._link.reason or "not connected")
        self._check_size(terms, topic, payload)
        # Not under our lock: paho holds its own for QoS 1 while it tells us of acknowledgements.
        info = client.publish(
            topic,
            payload,
            min(message.qos, terms.max_qos),
            message.retain and terms.retain,
            _properties(expiry_s) if terms.expires else None,
        )
        if info.rc != MQTTErrorCode.MQTT_ERR_SUCCESS:
            raise Transient(self._link.reason or "connection lost")
        with self._changed:
            self._count(payload)

    def _send_state(self, message: Message) -> None:
        payload = message.encode(time.monotonic_ns())
        with self._changed:
            self._state.wants(self._topic(message), payload)
            client = self._client
        if client is not None:
            self._publish_state(client)

    def _check_size(self, terms: Terms, topic: str, payload: bytes) -> None:
        """Raises Transient for a message at which the broker would close the connection."""
        if not terms.fits(topic, payload):
            reason = f"publishing {topic} refused: {len(payload)} bytes are too much, see limits"
            with self._changed:
                self._refused += 1
                self._denied = reason
            raise Transient(reason)

    def _publish_state(self, client: BrokerClient) -> None:
        """Send what the broker has not been told, one message per topic at a time. Any thread."""
        while True:
            with self._changed:
                if client is not self._client:
                    return
                claimed = self._state.claim()
                terms = self._terms
            if claimed is None:
                return
            topic, payload = claimed
            try:
                self._check_size(terms, topic, payload)
            except Transient:
                with self._changed:
                    self._state.give_up(topic)
                continue
            properties = _properties(terms.state_expiry_s) if terms.expires else None
            info = client.publish(topic, payload, terms.max_qos, terms.retain, properties)
            with self._changed:
                if client is self._client:
                    self._state.on_the_way(topic, info.mid)
                    self._count(payload)

    def _count(self, payload: bytes) -> None:
        self._sent += 1
        self._bytes += len(payload)

    def _ask(self, client: BrokerClient, now_ns: int, at_once: bool = False) -> None:
        if not (at_once or self._gate.should_ask(now_ns)):
            return
        if self._terms.pings:
            question = PING if client.ping() else None
        else:
            _, question = client.unsubscribe(self._alive_topic)
        if question is not None:
            self._gate.asked(question, now_ns)

    # -- the link's side

    def prepare(self, client: BrokerClient) -> None:
        """Set the callbacks of a client that will connect."""
        client.on_publish = self._on_publish
        client.on_unsubscribe = lambda client, _userdata, mid, _codes, _properties: self._on_answer(client, mid)
        client.on_pong = lambda client: self._on_answer(client, PING)

    def up(self, client: BrokerClient, accepted: Accepted) -> None:
        """Connected: say all state again."""
        with self._changed:
            self._client = client
            self._agree(replace(self._wanted.less(accepted.protocol, accepted.said), pings=self._terms.pings))
            self._told_ns = time.monotonic_ns()
            self._gate = Gate()
            self._unsent.clear()
            self._unsent_bytes = 0
            self._full = False
            self._denied = None
            self._state.forget_sent()
            self._ask(client, time.monotonic_ns(), at_once=True)
            self._changed.notify_all()
        self._publish_state(client)

    def tick(self, client: BrokerClient) -> str | None:
        """Send state that waited for an acknowledgement or is due again; give up a broker that answers no more."""
        now_ns = time.monotonic_ns()
        with self._changed:
            if self._gate.silent_ns(now_ns) > FROZEN_NS:
                return SILENT
            if self._may_ping and self._gate.is_ignored(now_ns):
                self._ask_otherwise()
                self._ask(client, now_ns, at_once=True)
            if self._terms.repeats and now_ns - self._told_ns > REPEAT_S * 1e9:
                self._told_ns = now_ns
                self._state.repeat()
            if not self._gate.waiting and self._gate.since_asked_ns(now_ns) > HEARTBEAT_NS:
                self._ask(client, now_ns, at_once=True)
            pending = self._state.pending
        if pending:
            self._publish_state(client)
        return None

    def down(self) -> None:
        """No connection: what was handed over is lost."""
        with self._changed:
            if self._client is not None and self._may_ping:
                self._unanswered = 0 if self._gate.answers else self._unanswered + 1
                if self._unanswered == 2:  # once may be chance; after the change, twice again means the other
                    self._ask_otherwise()
            self._client = None
            self._unsent.clear()
            self._unsent_bytes = 0
            self._changed.notify_all()

    def _on_publish(
        self, _client: Client, _userdata: object, mid: int, code: ReasonCode, _properties: Properties
    ) -> None:
        """Called when a QoS 0 message is in the kernel's hands, and when a QoS 1 message is acknowledged."""
        with self._changed:
            size = self._unsent.pop(mid, None)
            if size is not None:
                self._unsent_bytes -= size
                self._full = self._full and self._unsent_bytes > 0
            else:
                if self._terms.max_qos:
                    self._gate.acknowledged(mid)
                topic = self._state.acknowledged(mid)
                if code.is_failure:
                    self._refused += 1
                    self._denied = f"publishing {topic or 'an event'} refused: {code}"
            self._changed.notify_all()

    def _on_answer(self, client: BrokerClient, question: int) -> None:
        now_ns = time.monotonic_ns()
        with self._changed:
            if self._gate.answered(question, now_ns):
                self._ask(client, now_ns, at_once=True)
            self._changed.notify_all()

    def _agree(self, terms: Terms) -> None:
        """From now on these; what they rule out goes into the log once. Called with `_changed`."""
        self._terms = terms
        limits = terms.limits(self._wanted)
        for limit in limits:
            if limit not in self._limits:
                log.warning("broker: %s", limit)
        self._limits = limits

    def _ask_otherwise(self) -> None:
        """The broker does not answer such questions. Called with `_changed`."""
        self._unanswered = 0
        self._agree(replace(self._terms, pings=not self._terms.pings))


def _expiry_s(message: Message, now_ns: int) -> int | None:
    """Whole seconds the message is still good for, rounded up. Raises Transient when it is none."""
    if message.max_age_ns is None:
        return None
    left_ns = message.max_age_ns - (now_ns - message.born_ns)
    if left_ns <= 0:
        raise Transient("older than its limit")
    return math.ceil(left_ns / 1e9)


@lru_cache(maxsize=256)
def _properties(expiry_s: int | None) -> Properties:
    """Made once per value: paho's property objects take longer to make than a message to send."""
    return json_properties(PacketTypes.PUBLISH, expiry_s)
