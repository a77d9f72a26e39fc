"""The last seconds of a stream, from a key frame on, bounded by time and bytes."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field

from agent.clips.packets import Packet

REORDER_NS = 250_000_000
"""A key frame's time is that of the picture that comes out next, which may be a few frames older."""
LATE_NS = 2_000_000_000
"""An incident is known so long after its frame, at most, as a rule: results older than `max_age` are none."""


@dataclass(eq=False)
class _Group:
    """A key frame and what is predicted from it."""

    packets: list[Packet] = field(default_factory=list)
    bytes: int = 0
    at_ns: int | None = None
    """The camera's time; None until a picture has come out."""


class Ring:
    """Whole groups of pictures; the oldest goes when the others reach far enough back."""

    def __init__(self, before_ns: int, max_bytes: int) -> None:
        self._reach_ns, self._max_bytes = before_ns + REORDER_NS + LATE_NS, max_bytes
        self._groups: deque[_Group] = deque()
        self.bytes = 0

    def clear(self) -> None:
        """Begin anew, with the next key frame."""
        self._groups.clear()
        self.bytes = 0

    def add(self, packet: Packet) -> None:
        """The next packet; before the first key frame there is no use for it."""
        if packet.key:
            self._groups.append(_Group())
        elif not self._groups:
            return
        group = self._groups[-1]
        group.packets.append(packet)
        group.bytes += len(packet.data)
        self.bytes += len(packet.data)
        while self.bytes > self._max_bytes:
            self._drop()

    def stamp(self, at_ns: int) -> None:
        """A picture of that time came out of the packets so far."""
        for group in reversed(self._groups):
            if group.at_ns is not None:
                break
            group.at_ns = at_ns
        while len(self._groups) > 1 and (self._groups[1].at_ns or at_ns) <= at_ns - self._reach_ns:
            self._drop()

    def only_newest(self) -> None:
        """What came before the newest key frame is of another kind."""
        while len(self._groups) > 1:
            self._drop()

    def since(self, at_ns: int) -> list[Packet]:
        """The packets from the last key frame that is not younger than `at_ns`, or else from the first."""
        first = 0
        for index, group in enumerate(self._groups):
            if group.at_ns is not None and group.at_ns <= at_ns - REORDER_NS:
                first = index
        return [packet for group in list(self._groups)[first:] for packet in group.packets]

    def _drop(self) -> None:
        self.bytes -= self._groups.popleft().bytes
