"""State to be told: what the broker shall know, and what it has acknowledged."""

from __future__ import annotations

from paho.mqtt.reasoncodes import ReasonCode

from agent.sinks.dialects import Said


class Told:
    """Newest message per topic, and which of them the broker has acknowledged. Guarded by its owner."""

    def __init__(self) -> None:
        self._wanted: dict[str, Said] = {}
        self._untold: dict[str, None] = {}
        """Topics in the order they changed."""
        self._busy: dict[str, int | None] = {}
        """Topic -> message id on its way; None while it is handed to paho."""
        self._early: dict[int, ReasonCode] = {}

    @property
    def settled(self) -> bool:
        """The broker has acknowledged all."""
        return not self._untold and not self._busy

    @property
    def pending(self) -> bool:
        """There is something that `claim` would return."""
        return any(topic not in self._busy for topic in self._untold)

    def wants(self, said: Said) -> None:
        self._wanted[said.topic] = said
        self._untold[said.topic] = None

    def forget_sent(self) -> None:
        """A new connection: everything is to be said again."""
        self._busy.clear()
        self._early.clear()
        self.repeat()

    def repeat(self) -> None:
        """Everything is to be said again, what is on its way after it has arrived."""
        self._untold = dict.fromkeys(self._wanted)

    def claim(self) -> Said | None:
        """The next message to send; one per topic is on its way at a time, so a silent broker gets no pile."""
        for topic in self._untold:
            if topic not in self._busy:
                del self._untold[topic]
                self._busy[topic] = None
                return self._wanted[topic]
        return None

    def on_the_way(self, topic: str, mid: int) -> ReasonCode | None:
        """`publish` returned, which may be after the acknowledgement came: then that is returned."""
        code = self._early.get(mid)
        if code is not None:
            del self._busy[topic]
        else:
            self._busy[topic] = mid
        if None not in self._busy.values():
            self._early.clear()
        return code

    def give_up(self, topic: str) -> None:
        """What was claimed cannot be sent at all: that is the end of it, until it is wanted again."""
        del self._busy[topic]

    def acknowledged(self, mid: int, code: ReasonCode) -> str | None:
        """The topic, where it is known yet; else `on_the_way` returns the code."""
        for topic, busy in self._busy.items():
            if busy == mid:
                del self._busy[topic]
                return topic
        if None in self._busy.values():
            self._early[mid] = code
        return None
