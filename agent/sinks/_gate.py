"""When live results may go to a broker, judged by its answers.

Kernel buffers accept hundreds of kilobytes for a broker that no longer reads, and deliver them minutes late when it
goes on. So a question follows the results (any request that the broker must answer; TCP keeps their order), and while
its answer is overdue no more results are handed over: what can be late is what was sent in that short time.
"""

from __future__ import annotations

MILLISECOND_NS = 1_000_000
SECOND_NS = 1_000_000_000

ASK_EVERY_NS = 20 * MILLISECOND_NS
"""At most one question in this time: 50 a second, of a few bytes each."""
OVERDUE_NS = 50 * MILLISECOND_NS
"""An answer is never overdue before this: a broker's own hiccups are shorter."""
OVERDUE_MAX_NS = SECOND_NS
"""... and always after this, however long the way to the broker is."""
WINDOW_NS = 10 * SECOND_NS
IGNORED_NS = 2 * SECOND_NS
"""A question is answered by then, or never, if what came behind it was."""


class Gate:
    """Open while the broker answers. Knows no clock and no lock: the caller passes `time.monotonic_ns` and guards it.

    The limit is four times the shortest round trip of the last 10 to 20 s. Not the average one: that grows with the
    queue it is meant to prevent. After an overdue answer the gate stays shut until a question that was asked behind
    the last result is answered too, for then nothing is left in any buffer on the way.
    """

    def __init__(self) -> None:
        self.round_trip_ns: int | None = None
        """Of the last answer."""
        self._asked: int | None = None
        self._asked_ns = 0
        self._overtaken = False
        self._last_asked_ns = -ASK_EVERY_NS
        self._unasked = False
        self._draining = False
        self._best_ns: list[int] = []
        self._window_ns = 0

    @property
    def waiting(self) -> bool:
        """A question is without an answer."""
        return self._asked is not None

    @property
    def answers(self) -> bool:
        """A question was answered."""
        return bool(self._best_ns)

    def limit_ns(self) -> int:
        """An answer is overdue after this time."""
        if not self._best_ns:
            return OVERDUE_NS
        return min(max(OVERDUE_NS, 4 * min(self._best_ns)), OVERDUE_MAX_NS)

    def is_open(self, now_ns: int) -> bool:
        """A result handed over now finds a broker that was alive a moment ago."""
        if self._draining:
            return False
        return self._asked is None or now_ns - self._asked_ns <= self.limit_ns()

    def silent_ns(self, now_ns: int) -> int:
        """Time since the unanswered question was asked; 0 if there is none."""
        return 0 if self._asked is None else now_ns - self._asked_ns

    def is_ignored(self, now_ns: int) -> bool:
        """What was handed over behind the question is long acknowledged: this broker does not answer such questions."""
        return self._overtaken and self.silent_ns(now_ns) > IGNORED_NS

    def since_asked_ns(self, now_ns: int) -> int:
        """Time since the last question, answered or not."""
        return now_ns - self._last_asked_ns

    def handed(self) -> None:
        """A result was handed over."""
        self._unasked = True

    def should_ask(self, now_ns: int) -> bool:
        """It is time for the next question."""
        return self._asked is None and self._unasked and now_ns - self._last_asked_ns >= ASK_EVERY_NS

    def asked(self, question: int, now_ns: int) -> None:
        """The question of that number was handed over, behind all results so far."""
        self._asked = question
        self._asked_ns = self._last_asked_ns = now_ns
        self._unasked = False
        self._overtaken = False

    def acknowledged(self, packet: int) -> None:
        """The broker answered to a packet that is no question. Packets count up to 65535 and begin again."""
        if self._asked is not None and 0 < (packet - self._asked) % 65536 < 32768:
            self._overtaken = True

    def answered(self, question: int, now_ns: int) -> bool:
        """The broker answered; True if the next question must be asked at once (see the class)."""
        if question != self._asked:
            return False
        round_trip_ns = now_ns - self._asked_ns
        late = round_trip_ns > self.limit_ns()
        self._asked = None
        self.round_trip_ns = round_trip_ns
        self._remember(round_trip_ns, now_ns)
        self._draining = (late or self._draining) and self._unasked
        return self._draining

    def _remember(self, round_trip_ns: int, now_ns: int) -> None:
        if not self._best_ns or now_ns - self._window_ns > WINDOW_NS:
            self._best_ns = [*self._best_ns[-1:], round_trip_ns]
            self._window_ns = now_ns
        self._best_ns[-1] = min(self._best_ns[-1], round_trip_ns)
