"""MQTT 5 properties of what is published (MQTT 5.0, 2.2.2 and 3.3.2.3)."""

from __future__ import annotations

import math
from collections.abc import Iterable
from functools import lru_cache

from paho.mqtt.properties import Properties, VariableByteIntegers

from agent.errors import Transient
from agent.sinks import Message

JSON = "application/json"

_PAYLOAD_FORMAT, _EXPIRY, _CONTENT_TYPE, _CORRELATION, _USER = b"\x01", b"\x02", b"\x03", b"\x09", b"\x26"


class Packed(Properties):
    """Properties as they go over the wire. paho's own take longer to make than an event takes to be sent."""

    def __init__(self, packed: bytes) -> None:
        object.__setattr__(self, "_packed", packed)

    def pack(self) -> bytes:
        """See Properties."""
        packed: bytes = object.__getattribute__(self, "_packed")
        return packed

    def __str__(self) -> str:
        return f"{len(self.pack())} bytes"


def properties_of(
    content_type: str = JSON,
    expiry_s: int | None = None,
    user: Iterable[tuple[str, str]] = (),
    correlation: bytes | None = None,
) -> Packed:
    """Of a message or will; `user`: user properties. Raises ValueError for a text that is too long."""
    is_text = content_type == JSON or content_type.startswith("text/")
    parts = [_PAYLOAD_FORMAT, bytes([is_text]), _CONTENT_TYPE, _counted(content_type.encode())]
    if expiry_s is not None:
        parts += [_EXPIRY, expiry_s.to_bytes(4, "big")]
    if correlation is not None:
        parts += [_CORRELATION, _counted(correlation)]
    for name, value in user:
        parts += [_USER, _counted(name.encode()), _counted(value.encode())]
    packed = b"".join(parts)
    return Packed(VariableByteIntegers.encode(len(packed)) + packed)  # type: ignore[no-untyped-call]


def _counted(data: bytes) -> bytes:
    """With its length before it, in two bytes."""
    if len(data) > 0xFFFF:
        raise ValueError(f"a property of {len(data)} bytes is longer than MQTT has room for")
    return len(data).to_bytes(2, "big") + data


@lru_cache(maxsize=256)
def kept_properties(content_type: str, expiry_s: int | None, user: tuple[tuple[str, str], ...] = ()) -> Packed:
    """The same for many messages."""
    return properties_of(content_type, expiry_s, user)


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
