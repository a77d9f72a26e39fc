"""What the messages of one connection may be like: what is set, less what the broker said it cannot do."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace

from paho.mqtt.properties import Properties

from agent.sinks.dialects import Said

REPEAT_S = 10
"""State that is not retained, or that no will would correct, is said again this often."""
EXPIRY_S = 3 * REPEAT_S
"""State that no will would correct is good for this long."""
_PROPERTIES_BYTES = 16
"""What surrounds the content type: its length, format and expiry are 10, and the length of all."""


@dataclass(frozen=True)
class Terms:
    """Settings, and by `less` what a connection made of them."""

    retain: bool = True
    will: bool = True
    max_qos: int = 1
    max_packet_bytes: int | None = None
    keepalive_s: int = 10
    in_flight: int | None = None
    """The broker takes so many unacknowledged messages of QoS 1 at once."""
    expires: bool = False
    """Messages can carry an expiry: MQTT 5."""
    pings: bool = False
    """The broker's answers are asked for by PINGREQ."""

    def less(self, protocol: str, said: Properties | None) -> Terms:
        """These terms with a broker that accepted us in `protocol` and said so with `said` (MQTT 5, 3.2.2.3)."""
        cannot_retain = getattr(said, "RetainAvailable", 1) == 0
        packets = [n for n in (self.max_packet_bytes, getattr(said, "MaximumPacketSize", None)) if n is not None]
        return replace(
            self,
            retain=self.retain and not cannot_retain,
            max_qos=min(self.max_qos, getattr(said, "MaximumQoS", 2)),
            max_packet_bytes=min(packets, default=None),
            keepalive_s=getattr(said, "ServerKeepAlive", self.keepalive_s),
            in_flight=getattr(said, "ReceiveMaximum", None),
            expires=protocol == "5",
        )

    @property
    def repeats(self) -> bool:
        """State must be said again now and then."""
        return not (self.retain and self.will)

    @property
    def state_expiry_s(self) -> int | None:
        """How long state is good for; None: until something else is said."""
        return EXPIRY_S if self.expires and not self.will else None

    def fits(self, said: Said, user: Iterable[tuple[str, str]] = ()) -> bool:
        """A message of this size may be sent. Counts what surrounds it at its largest; `user`: its user properties."""
        if self.max_packet_bytes is None:
            return True
        header = 5 + 2 + len(said.topic.encode()) + 2 + _PROPERTIES_BYTES + len(said.content_type)
        header += sum(5 + len(name.encode()) + len(value.encode()) for name, value in user)
        return header + len(said.payload) <= self.max_packet_bytes

    def limits(self, wanted: Terms) -> list[str]:
        """What cannot be done, a sentence each, for status. `wanted`: the settings, without what they rule out."""
        found = []
        if not self.will:
            expires = f" and expires after {EXPIRY_S} s" if self.expires else ""
            found.append(f"no will: an agent that vanishes is noticed by its silence; state is repeated{expires}")
        if not self.retain:
            found.append(f"no retain: state is repeated each {REPEAT_S} s, for those who come late")
        if self.max_qos < 1:
            found.append("no QoS 1: the broker acknowledges nothing, so an event counts as delivered when it is sent")
        if self.max_packet_bytes is not None:
            found.append(f"no message above {self.max_packet_bytes} bytes: larger ones are refused here and counted")
        if self.keepalive_s != wanted.keepalive_s:
            found.append(f"keepalive {self.keepalive_s} s by the broker's wish, instead of {wanted.keepalive_s}")
        if not self.expires:
            found.append(
                "MQTT 3.1.1: nothing expires, refusals give no reason, and whether anybody hears events is not told"
            )
        if self.pings and not wanted.pings:
            found.append("UNSUBSCRIBE is not answered: the broker is asked by PINGREQ instead")
        return found
