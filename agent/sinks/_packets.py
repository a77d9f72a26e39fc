"""MQTT 5 properties of what is published."""

from __future__ import annotations

import math
from collections.abc import Iterable
from functools import lru_cache

from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties

from agent.errors import Transient
from agent.sinks import Message

JSON = "application/json"


def properties_of(
    packet: int, content_type: str = JSON, expiry_s: int | None = None, user: Iterable[tuple[str, str]] = ()
) -> Properties:
    """Of a message (`PacketTypes.PUBLISH` or `.WILLMESSAGE`); `user`: user properties."""
    properties = Properties(packet)  # type: ignore[no-untyped-call]
    properties.ContentType = content_type
    properties.PayloadFormatIndicator = int(content_type == JSON or content_type.startswith("text/"))
    if expiry_s is not None:
        properties.MessageExpiryInterval = expiry_s
    for pair in user:
        properties.UserProperty = pair
    return properties


@lru_cache(maxsize=256)
def kept_properties(content_type: str, expiry_s: int | None) -> Properties:
    """Made once per value: paho's property objects take longer to make than a message to send."""
    return properties_of(PacketTypes.PUBLISH, content_type, expiry_s)


def expiry_s_of(message: Message, now_ns: int) -> int | None:
    """Whole seconds the message is still good for, rounded up. Raises Transient when it is none."""
    if message.max_age_ns is None:
        return None
    left_ns = message.max_age_ns - (now_ns - message.born_ns)
    if left_ns <= 0:
        raise Transient("older than its limit")
    return min(math.ceil(left_ns / 1e9), 0xFFFFFFFF)


def event_properties(message: Message) -> tuple[tuple[str, str], ...]:
    """User properties of an event in any dialect: who said it, and by what it is recognised when it comes again."""
    payload = message.payload
    found = ((name, getattr(payload, name, None)) for name in ("agent", "boot_id", "event_seq"))
    return tuple((name, str(value)) for name, value in found if value is not None)
