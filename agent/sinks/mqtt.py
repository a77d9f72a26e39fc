"""MQTT: results, state and events to a broker, over TCP or TLS, protocol 5 or 3.1.1.

State (retained, without an age limit) is kept here, newest per topic, and said again at every connect: it needs no
connection to be taken. Everything else dies with the connection. Live results (QoS 0) pass `_gate.Gate`: they leave
only for a broker that answered a moment ago, so that a frozen or slow one never delivers old results. Events (QoS 1)
pass it too, and are few at a time (`_window.Window`), so that no result waits behind them for long.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from paho.mqtt.client import Client, MQTTMessage, topic_matches_sub
from paho.mqtt.enums import MQTTErrorCode
from paho.mqtt.properties import Properties
from paho.mqtt.reasoncodes import ReasonCode
from paho.mqtt.subscribeoptions import SubscribeOptions

from agent.errors import Transient
from agent.sinks import Answer, Message, Request, Sink
from agent.sinks._address import parse_url
from agent.sinks._awaited import Awaited, Delivery
from agent.sinks._client import BrokerClient
from agent.sinks._gate import Gate
from agent.sinks._inbox import LARGEST, Inbox
from agent.sinks._link import MOST_IN_FLIGHT, Accepted, Link, Will
from agent.sinks._packets import event_properties, expiry_s_of, kept_properties, properties_of
from agent.sinks._settings import Config
from agent.sinks._terms import REPEAT_S, Terms
from agent.sinks._told import Told
from agent.sinks._voice import Voice
from agent.sinks._window import Window
from agent.sinks.dialects import Said

__all__ = ["Config", "MqttSink"]

log = logging.getLogger(__name__)

UNSENT_BYTES = 16 * 1024
"""Handed to paho but not yet to the kernel: at this many, no more until all are gone. (paho reads nothing, answers
included, while it has something to write.)"""
GRANT_NS = 5_000_000
"""What `ready` promised holds this long, so that an answer that becomes overdue in between costs no result."""
HEARTBEAT_NS = 3_000_000_000
FROZEN_NS = 10_000_000_000
"""Without an answer for this long, the connection is given up."""
SILENT_NS = 1_000_000_000
"""Without an answer for this long, status says so."""
SILENT = "broker does not answer"
ROOM_S = 0.25
"""An event waits so long for others to be answered, before whoever hands it over is told to come again."""
UNHEARD_NS = 30_000_000_000
"""A broker that answers, but not to an event for so long, is left and asked again."""


NOT_SUBSCRIBED = "not subscribed"
PING = 0
"""The number of a question that is a PINGREQ: packet ids begin at 1."""


class MqttSink(Sink):
    """Publishes below `<prefix>/<agent>/`. One thread of its own, the link's."""

    name = "mqtt"

    def __init__(self, config: Config, agent: str, farewell: Message) -> None:
        self._base = f"{config.prefix}/{agent}"
        # Never subscribed to: asking the broker to unsubscribe changes nothing, and both protocols must answer it.
        self._alive_topic = f"{self._base}/alive"
        self._transport = parse_url(config.url).transport
        spoken = [config.dialect, *([config.home_assistant] if config.home_assistant else [])]
        self._voice = Voice([dialect.open(config.prefix, agent) for dialect in spoken], self._base)
        self._wanted = Terms(
            config.retain, config.will, config.max_qos, config.max_packet_bytes, config.keepalive_s,
            pings=config.probe == "ping",
        )  # fmt: skip
        self._may_ping = config.probe == "auto"
        will = _will(self._voice.say(farewell, time.monotonic_ns()), config)
        self._link = Link(replace(config.endpoint(), largest_in=LARGEST), config.client_name(agent), self, will)
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
        self._awaited = Awaited()
        self._window = Window(1)
        self._broke = False
        """A connection ended and took events with it; whoever delivers has not been told yet."""
        self._heard: dict[str, Callable[[MQTTMessage], None]] = dict.fromkeys(self._voice.births, self._on_birth)
        self._inbox: Inbox | None = None
        """Where commands come in, once somebody listens."""
        self._commands = NOT_SUBSCRIBED
        """Whether the broker lets us hear commands."""
        self._subscribing: dict[int, str] = {}
        """Packet id -> topic filter."""
        self._unsubscribed: list[str] = []
        """Topic filters the broker does not know yet."""
        self._unanswered = 0
        """Connections, one after the other, that ended without the answer to any question."""
        self._sent = self._bytes = self._refused = 0
        self._denied: str | None = None
        """The first thing that this connection was not allowed: the last one would change, and status with it."""

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

        State is taken always. Everything else raises Transient without a connection, for a silent broker and when it
        is too old.
        """
        if message.retain and message.max_age_ns is None:
            self._send_state(message)
        else:
            self._send_live(message)

    def deliver(self, event: Message, answered: Callable[[Answer, str | None], None]) -> None:
        """See Sink. Waits up to ROOM_S for events before it to be answered.

        Raises Transient also once after a connection was lost with events under way, so that whoever delivers sees
        those answers before it hands over what is newer.
        """
        now_ns = time.monotonic_ns()
        expiry_s = expiry_s_of(event, now_ns)
        try:
            parts = self._voice.say(event, now_ns)
        except Transient as error:
            answered("refused", str(error))
            return
        ours = event_properties(event)
        with self._changed:
            client = self._wait_for_room()
            terms = self._terms
            reason = next((_too_large(said) for said in parts if not terms.fits(said, (*said.user, *ours))), None)
            delivery = Delivery(answered, [said.topic for said in parts], sum(len(said.payload) for said in parts))
            if reason is not None:
                self._refused += 1
                self._denied = reason
            elif parts:
                self._awaited.begin(delivery)
        if reason is not None:
            answered("refused", reason)
        elif not parts:  # the dialect has no word for it
            answered("acknowledged", None)
        else:
            for said in parts:
                self._hand_over(client, delivery, replace(said, user=(*said.user, *ours)), expiry_s)
            with self._changed:
                self._awaited.handed()

    def subscribe(self, topic_filter: str, heard: Callable[[MQTTMessage], None]) -> None:
        """From now on, over all connections, pass on what comes to this topic.

        `heard` is called by the link's thread and must return soon. With MQTT 5 the broker says nothing retained.
        """
        with self._changed:
            self._heard[topic_filter] = heard
            self._unsubscribed.append(topic_filter)

    def listen(self, on_request: Callable[[Request], None]) -> None:
        """See Sink."""
        inbox = Inbox(self._base, on_request, self.reply, self._voice.speaks_at)
        with self._changed:
            self._inbox = inbox
        for topic_filter in inbox.filters:
            self.subscribe(topic_filter, inbox.heard)

    def reply(self, topic: str, payload: bytes, correlation: bytes | None = None) -> None:
        """Publish an answer once, with QoS 1 where there is one. Raises Transient without a connection. Any thread."""
        said = Said(topic, payload)
        with self._changed:
            client, terms = self._client, self._terms
        if client is None:
            raise Transient(self._link.reason or "not connected")
        self._check_size(terms, said, (("", "." * len(correlation or b"")),))
        about = properties_of(correlation=correlation) if terms.expires else None
        # Not under our lock: paho holds its own for QoS 1 while it tells us of acknowledgements.
        client.publish(topic, payload, terms.max_qos, False, about)
        with self._changed:
            self._count(payload)

    def close(self, deadline_s: float) -> None:
        """Wait for the state to be acknowledged and the rest to be sent, then say goodbye: no will is published.

        Does not wait for a broker that is not there.
        """
        end_s = time.monotonic() + deadline_s
        with self._changed:
            self._changed.wait_for(
                lambda: (
                    self._link.pausing
                    or self._link.closed
                    or (self._state.settled and not self._unsent and not self._awaited)
                ),
                deadline_s,
            )
        self._link.close(max(0.2, end_s - time.monotonic()))
        self._lose_events()

    def state(self) -> dict[str, Any]:
        """`state` (connecting, connected, refused) and `reason`, how it speaks and what it cannot do, counters."""
        with self._changed:
            silent = self._client is not None and self._gate.silent_ns(time.monotonic_ns()) > SILENT_NS
            round_trip_ns = self._gate.round_trip_ns
            facts: dict[str, Any] = {
                "type": self.name,
                "state": self._link.state,
                "connected": self._link.state == "connected",
                "reason": SILENT if silent else self._link.reason or self._denied or self._link.doubt,
                "transport": self._transport,
                "protocol": self._link.protocol,
                "limits": list(self._limits),
                "sent": self._sent,
                "bytes": self._bytes,
                "reconnects": self._link.reconnects,
                "refused": self._refused,
                "round_trip_ms": None if round_trip_ns is None else round(round_trip_ns / 1e6, 1),
            }
            if self._inbox:
                facts["commands"] = self._commands
                facts["ignored_commands"] = self._inbox.counts()
        return facts

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
        with self._changed:
            client = self._client
            granted = time.monotonic_ns() < self._granted_ns
            self._granted_ns = 0
            obstacle = None if granted and client is not None else self._obstacle()
        if obstacle is not None or client is None:
            raise Transient(obstacle)
        now_ns = time.monotonic_ns()
        expiry_s = expiry_s_of(message, now_ns)
        parts = self._voice.say(message, now_ns)
        terms = self._terms
        for said in parts:
            self._check_size(terms, said, said.user)
        for said in parts:
            about = kept_properties(said.content_type, expiry_s, said.user) if terms.expires else None
            with self._changed:
                if client is not self._client or self._publish_unsure(client, said, about) is None:
                    raise Transient(self._link.reason or "connection lost")

    def _publish_unsure(self, client: BrokerClient, said: Said, about: Properties | None) -> int | None:
        """With QoS 0; the message's id. Called with `_changed`."""
        # QoS 0 takes no lock of paho's that its thread could hold while it waits for ours.
        info = client.publish(said.topic, said.payload, 0, said.retain and self._terms.retain, about)
        if info.rc != MQTTErrorCode.MQTT_ERR_SUCCESS:
            return None
        self._unsent[info.mid] = len(said.payload)
        self._unsent_bytes += len(said.payload)
        self._full = self._full or self._unsent_bytes >= UNSENT_BYTES
        self._count(said.payload)
        self._gate.handed()
        self._ask(client, time.monotonic_ns())
        return info.mid

    def _send_state(self, message: Message) -> None:
        parts = self._voice.say(message, time.monotonic_ns())
        with self._changed:
            for said in parts:
                self._state.wants(said)
            client = self._client
        if client is not None:
            self._publish_state(client)

    def _wait_for_room(self) -> BrokerClient:
        """Until one more event may follow those under way. Called with `_changed`. Raises Transient."""
        client = self._client

        def settled() -> bool:
            if client is None or client is not self._client:
                return True
            return self._obstacle() is None and self._window.has_room(len(self._awaited), self._awaited.size)

        there = self._changed.wait_for(settled, ROOM_S)
        if client is None or client is not self._client:
            raise Transient(self._link.reason or "not connected")
        if self._broke:
            self._broke = False
            raise Transient("connection lost")
        if not there:
            raise Transient(self._obstacle() or "events before it are not acknowledged yet")
        return client

    def _hand_over(self, client: BrokerClient, delivery: Delivery, said: Said, expiry_s: int | None) -> None:
        """One message of an event. What becomes of it is told by an answer, or by the end of the connection."""
        finished = None
        try:
            about = properties_of(said.content_type, expiry_s, said.user) if self._terms.expires else None
            if self._terms.max_qos:
                # Not under our lock: paho holds its own for QoS 1 while it tells us of acknowledgements.
                info = client.publish(said.topic, said.payload, 1, said.retain and self._terms.retain, about)
                with self._changed:
                    self._count(said.payload)
                    finished = self._awaited.sent(delivery, said.topic, info.mid)
            else:
                with self._changed:
                    mid = self._publish_unsure(client, said, about)
                    finished = None if mid is None else self._awaited.sent(delivery, said.topic, mid)
        except ValueError as error:  # of a topic or size that MQTT does not have
            with self._changed:
                finished = self._awaited.refuse(delivery, f"publishing {said.topic!r} refused: {error}")
        if finished is not None:
            self._settle(finished)

    def _settle(self, delivery: Delivery) -> None:
        """Tell its answer. Not called with `_changed`: whoever hears it may have a lock of its own."""
        answer, reason = delivery.answer()
        if answer == "refused":
            with self._changed:
                self._refused += 1
                self._denied = self._denied or reason
        delivery.answered(answer, reason)

    def _check_size(self, terms: Terms, said: Said, user: tuple[tuple[str, str], ...]) -> None:
        """Raises Transient for a message at which the broker would close the connection."""
        if not terms.fits(said, user):
            reason = _too_large(said)
            with self._changed:
                self._refused += 1
                self._denied = self._denied or reason
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
            try:
                self._check_size(terms, claimed, claimed.user)
            except Transient:
                with self._changed:
                    self._state.give_up(claimed.topic)
                continue
            expiry_s, user = terms.state_expiry_s, claimed.user
            about = kept_properties(claimed.content_type, expiry_s, user) if terms.expires else None
            info = client.publish(claimed.topic, claimed.payload, terms.max_qos, claimed.retain and terms.retain, about)
            with self._changed:
                if client is self._client:
                    self._note_refusal(claimed.topic, self._state.on_the_way(claimed.topic, info.mid))
                    self._count(claimed.payload)

    def _note_refusal(self, topic: str | None, code: ReasonCode | None) -> None:
        """State of this topic was answered, if it was. Called with `_changed`."""
        if topic is not None and code is not None and code.is_failure:
            self._refused += 1
            self._denied = self._denied or f"publishing {topic} refused: {code}"

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
        client.on_message = self._on_message
        client.on_subscribe = self._on_subscribe

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
            self._window = Window(min(MOST_IN_FLIGHT, self._terms.in_flight or MOST_IN_FLIGHT))
            self._unsubscribed = list(self._heard)
            self._subscribing.clear()
            self._commands = NOT_SUBSCRIBED
            if self._inbox:
                self._inbox.connected()
            self._ask(client, time.monotonic_ns(), at_once=True)
            self._changed.notify_all()
        self._subscribe(client)
        self._publish_state(client)

    def tick(self, client: BrokerClient) -> str | None:
        """Send state that waited for an acknowledgement or is due again; give up a broker that answers no more."""
        now_ns = time.monotonic_ns()
        with self._changed:
            if self._gate.silent_ns(now_ns) > FROZEN_NS:
                return SILENT
            if self._awaited.oldest_ns(now_ns) > UNHEARD_NS:
                return "broker does not acknowledge events"
            if self._may_ping and self._gate.is_ignored(now_ns):
                self._ask_otherwise()
                self._ask(client, now_ns, at_once=True)
            if self._terms.repeats and now_ns - self._told_ns > REPEAT_S * 1e9:
                self._told_ns = now_ns
                self._state.repeat()
            if not self._gate.waiting and self._gate.since_asked_ns(now_ns) > HEARTBEAT_NS:
                self._ask(client, now_ns, at_once=True)
            pending = self._state.pending
        self._subscribe(client)
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
            self._commands = NOT_SUBSCRIBED
            self._unsent.clear()
            self._unsent_bytes = 0
            self._changed.notify_all()
        self._lose_events()

    def _lose_events(self) -> None:
        """What was handed over has arrived or not: it must come again."""
        with self._changed:
            lost = self._awaited.lose()
            self._broke = self._broke or bool(lost)
        for delivery in lost:
            delivery.answered("lost", "connection lost")

    def _subscribe(self, client: BrokerClient) -> None:
        """Tell the broker what it does not know yet. Called by the link's thread."""
        with self._changed:
            topics, self._unsubscribed = self._unsubscribed, []
            inbox = self._inbox
        for topic in topics:
            # A retained command is not obeyed, and to say so it must be seen, and that it is, also when it just came.
            told = bool(inbox and topic in inbox.filters)
            if self._terms.expires:  # MQTT 5
                options = SubscribeOptions(1, noLocal=True, retainAsPublished=told, retainHandling=0 if told else 2)
                _, mid = client.subscribe(topic, options=options)
            else:
                _, mid = client.subscribe(topic, 1)
            if mid is not None:  # answered by the thread that is here
                self._subscribing[mid] = topic

    def _on_subscribe(
        self, _client: Client, _userdata: object, mid: int, codes: list[ReasonCode], _properties: Properties | None
    ) -> None:
        topic = self._subscribing.pop(mid, "")
        refused = next((f"refused: {code}" for code in codes if code.is_failure), None)
        with self._changed:
            if self._inbox and topic in self._inbox.filters and not self._commands.startswith("refused"):
                self._commands = refused or "heard"
            if refused:
                self._denied = self._denied or f"subscribing to {topic} {refused}"
        if refused:
            log.warning("broker: subscribing to %s %s", topic, refused)

    def _on_message(self, _client: Client, _userdata: object, message: MQTTMessage) -> None:
        try:
            topic = message.topic
        except UnicodeDecodeError:  # no broker should let it pass, and no topic of ours looks so
            return
        with self._changed:
            heard = [heard for topics, heard in self._heard.items() if topic_matches_sub(topics, topic)]
        for call in heard:
            call(message)

    def _on_birth(self, message: MQTTMessage) -> None:
        if message.payload == b"online" and not message.retain:  # retained, it was said to whoever was there then
            with self._changed:
                self._state.repeat()

    def _on_publish(
        self, _client: Client, _userdata: object, mid: int, code: ReasonCode, _properties: Properties
    ) -> None:
        """Called when a QoS 0 message is in the kernel's hands, and when a QoS 1 message is acknowledged."""
        now_ns = time.monotonic_ns()
        with self._changed:
            size = self._unsent.pop(mid, None)
            if size is not None:
                self._unsent_bytes -= size
                self._full = self._full and self._unsent_bytes > 0
            elif self._terms.max_qos:
                self._gate.acknowledged(mid)
            finished = None
            if size is None or self._awaited.knows(mid):
                finished = self._awaited.answer(mid, code if self._terms.max_qos else None)
            if finished is not None and size is None:
                self._window.answered(finished.begun_ns, now_ns, self._gate.limit_ns())
            if size is None:
                self._note_refusal(self._state.acknowledged(mid, code), code)
            self._changed.notify_all()
        if finished is not None:
            self._settle(finished)

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


def _will(farewell: list[Said], config: Config) -> Will | None:
    """A broker keeps one message for us: the first."""
    if not (config.will and farewell):
        return None
    said = farewell[0]
    return Will(said.topic, said.payload, config.max_qos, said.retain and config.retain, said.content_type)


def _too_large(said: Said) -> str:
    return f"publishing {said.topic} refused: {len(said.payload)} bytes are too much, see limits"
