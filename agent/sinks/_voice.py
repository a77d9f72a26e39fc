"""What a sink says of our messages: in its dialect and, where wanted, in others beside it."""

from __future__ import annotations

import logging
import threading
from collections.abc import Sequence

from agent.errors import Transient
from agent.sinks import Message
from agent.sinks.dialects import Dialect, Said

log = logging.getLogger(__name__)


class Voice:
    """Dialects, asked one at a time by whichever thread has something to say."""

    def __init__(self, dialects: Sequence[Dialect], base: str) -> None:
        """The first is the sink's own. `base`: where our own topics begin, `<prefix>/<agent>`."""
        self._dialects = tuple(dialects)
        self._base = f"{base}/"
        self._lock = threading.Lock()
        self._others: set[str] = set()
        """First levels of the topics that are not ours."""

    @property
    def births(self) -> set[str]:
        """Topics where `online` asks for all state again."""
        return {dialect.birth for dialect in self._dialects if dialect.birth is not None}

    def speaks_at(self, topic: str) -> bool:
        """Whether it shares its first level with what is said in the dialects of others."""
        return topic.partition("/")[0] in self._others

    def say(self, message: Message, now_ns: int) -> list[Said]:
        """All parts of the message. Raises Transient where a dialect stumbles: only this message is lost."""
        try:
            with self._lock:
                parts = [said for dialect in self._dialects for said in dialect.say(message, now_ns)]
        except Exception as error:
            log.debug("%s", message.topic, exc_info=True)
            raise Transient(f"dialect: cannot say {message.topic}: {type(error).__name__}: {error}") from None
        self._others.update(said.topic.partition("/")[0] for said in parts if not said.topic.startswith(self._base))
        return parts
