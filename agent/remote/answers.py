"""What was asked lately, and what was answered: the same request again gets the same answer, and acts no more."""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from hashlib import sha256

from agent.remote.payloads import ReplyPayload
from agent.sinks import Request

MOST = 1000
KEEP_S = 600.0
"""A client that repeats what was not acknowledged does it when it is connected again: not later than this."""


@dataclass(frozen=True)
class _Kept:
    what: bytes
    answer: ReplyPayload
    at_s: float


class Answers:
    """The newest answers of the last minutes; used by one thread at a time."""

    def __init__(self, most: int = MOST, keep_s: float = KEEP_S, clock: Callable[[], float] = time.monotonic) -> None:
        self._most, self._keep_s, self._clock = most, keep_s, clock
        self._kept: OrderedDict[bytes, _Kept] = OrderedDict()

    def given(self, who: bytes, what: bytes) -> ReplyPayload | None:
        """The answer that this request got before. Raises ValueError if `who` stood for another request."""
        self._forget()
        kept = self._kept.get(who)
        if kept is None:
            return None
        if kept.what != what:
            raise ValueError("the same id or correlation data was another request's a moment ago; give each its own")
        return kept.answer

    def keep(self, who: bytes, what: bytes, answer: ReplyPayload) -> None:
        """From now on this is the answer."""
        self._kept[who] = _Kept(what, answer, self._clock())
        self._forget()

    def __len__(self) -> int:
        return len(self._kept)

    def _forget(self) -> None:
        oldest_s = self._clock() - self._keep_s
        while self._kept and (len(self._kept) > self._most or next(iter(self._kept.values())).at_s < oldest_s):
            self._kept.popitem(last=False)


def who(request: Request, number: str | int | None) -> bytes | None:
    """What tells a request from others, in 32 bytes: where its answer goes, and its correlation data or else its id.

    None for a request that has neither: it acts each time it comes.
    """
    if request.correlation is not None:
        mark = b"correlation " + request.correlation
    elif number is not None:
        mark = f"{type(number).__name__} {number}".encode()
    else:
        return None
    return sha256(request.reply_to.encode() + b"\0" + mark).digest()


def what(request: Request) -> bytes:
    """What is asked, in 32 bytes."""
    return sha256(request.topic.encode() + b"\0" + request.payload).digest()
