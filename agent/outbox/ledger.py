"""The account of what waits: numbers, limits, who is still owed what. Knows no disk, no thread and no clock.

For each sink, always: made == acknowledged + expired + dropped + waiting.
"""

from __future__ import annotations

import bisect
import itertools
from collections import defaultdict, deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal

from agent.outbox.store import GAP, HOLDS, Batch, Entry

Fate = Literal["acknowledged", "expired", "dropped"]
MORE = 100
"""At a limit this part of it goes at once: else, for a sink that is away for days, all others would hear of a gap with
each event."""


@dataclass(eq=False, slots=True)
class Row:
    """One event that somebody waits for, or that must be remembered."""

    seq: int
    boot: int
    born_s: int
    """Wall time."""
    life_s: int
    expires_ns: int
    """On the monotonic clock."""
    owed: int
    size: int
    holds: bool = False
    on_disk: bool = False
    """A version of it is."""
    committed: bool = False
    """This version of it is."""
    gap: Gap | None = None

    @property
    def mark(self) -> int:
        """As the store has it."""
        return HOLDS if self.holds else GAP if self.gap else 0


@dataclass(frozen=True)
class Gap:
    """Numbers that some sinks never get."""

    reason: str
    owed: int
    """The sinks' bits."""
    first: int
    last: int
    count: int | None
    """None: nobody knows."""

    def and_(self, other: Gap) -> Gap:
        """Both in one."""
        count = None if self.count is None or other.count is None else self.count + other.count
        return replace(self, first=min(self.first, other.first), last=max(self.last, other.last), count=count)

    @property
    def key(self) -> tuple[str, int, bool]:
        """Gaps of the same key are announced together."""
        return self.reason, self.owed, self.count is None


@dataclass
class Account:
    """Of one sink."""

    made: int = 0
    """Put since the start, and what waited at the start."""
    acknowledged: int = 0
    no_subscriber: int = 0
    """Of the acknowledged: nobody listened."""
    expired: int = 0
    dropped: int = 0
    refused: int = 0
    """Times that the sink did not take one; it waits on."""

    def waiting(self) -> int:
        """What is left."""
        return self.made - self.acknowledged - self.expired - self.dropped


@dataclass
class Limits:
    """What may wait."""

    events: int
    bytes: int
    unwritten_events: int
    unwritten_bytes: int


@dataclass
class Total:
    """Events and bytes of one kind of rows."""

    events: int = 0
    bytes: int = 0

    def add(self, row: Row, sign: int) -> None:
        """Count it in, or out."""
        self.events += sign
        self.bytes += sign * row.size


@dataclass
class _Order:
    """Ascending numbers, most of which still mean something."""

    seqs: list[int] = field(default_factory=list)
    head: int = 0


class Ledger:
    """What waits for whom. Its owner sees to it that one thread at a time is in here."""

    def __init__(self, sinks: Sequence[str], limits: Limits) -> None:
        """`sinks`: those that are owed what is put from now on."""
        self.bits = {name: 1 << bit for bit, name in enumerate(sinks)}
        """Of all sinks that something may wait for."""
        self.everybody = sum(self.bits.values())
        self.accounts = {name: Account() for name in self.bits}
        self.boot = 1
        self.next_seq = 1
        self.limits = limits
        self.rows: dict[int, Row] = {}
        self.bodies: dict[int, bytes] = {}
        """Of all rows that are not on the disk, and of some that are."""
        self.waiting, self.unwritten = Total(), Total()
        self.open: dict[str, int] = {}
        """Incident -> the newest word on it."""
        self.newest_on_disk = 0
        """Kept there whatever becomes of it: so its number is not used again."""
        self._order = _Order()
        self._queue: deque[int] = deque()
        """To be written, or gone since."""
        self._only_held: set[int] = set()
        """To be written though nobody waits for them any more."""
        self.dirty: set[int] = set()
        """On the disk, but no longer as they are."""
        self._lives: dict[int, deque[int]] = defaultdict(deque)
        """Seconds that events may wait -> those, in the order in which they expire."""
        self._lost: dict[tuple[str, int, bool], Gap] = {}
        self._told: dict[tuple[str, int, bool], int] = {}
        """Gaps that are announced by an event that nobody has read yet."""

    def owe(self, sinks: Iterable[str]) -> None:
        """What is put from now on is for these. What waits for others waits on."""
        names = list(sinks)
        for name in names:
            used = self.bits.values()
            self.bits.setdefault(name, next(1 << bit for bit in itertools.count() if 1 << bit not in used))
            self.accounts.setdefault(name, Account())
        self.everybody = sum(self.bits[name] for name in names)

    # What comes

    def add(self, body: bytes, *, life_s: int, now_ns: int, now_s: int, gap: Gap | None = None) -> Row:
        """Number an event. It may be gone again when this returns, if the limits are that small."""
        seq, self.next_seq = self.next_seq, self.next_seq + 1
        row = Row(seq, self.boot, now_s, life_s, now_ns + life_s * 1_000_000_000, self.everybody, len(body), gap=gap)
        for name, bit in self.bits.items():
            self.accounts[name].made += bool(bit & self.everybody)
        if row.owed:
            self._enter(row)
            self.bodies[seq] = body
            self.unwritten.add(row, +1)
            self._queue.append(seq)
        return row

    def take_over(self, rows: Iterable[Row], bits: dict[str, int], boot: int) -> None:
        """Begin with what is on the disk. What was put before stays; its numbers are higher.

        `bits`: sink -> bit number, as the disk has it; `boot`: number of this start.
        """
        self._renumber({name: 1 << bit for name, bit in bits.items()}, boot)
        for row in rows:
            row.on_disk = row.committed = True
            row.owed &= sum(self.bits.values())
            self.newest_on_disk = max(self.newest_on_disk, row.seq)
            for name, bit in self.bits.items():
                self.accounts[name].made += bool(row.owed & bit)
            if row.owed:
                self.waiting.add(row, +1)
            if row.owed or row.holds:
                self.rows[row.seq] = row
            else:
                self.dirty.add(row.seq)
        self._order = _Order(sorted(self.rows))
        self._lives.clear()
        for row in sorted(self.rows.values(), key=lambda row: row.expires_ns):
            self._lives[row.life_s].append(row.seq)

    def _renumber(self, bits: dict[str, int], boot: int) -> None:
        def translate(owed: int) -> int:
            return sum(bits[name] for name, bit in before.items() if bit & owed)

        before, self.bits, self.boot = self.bits, bits, boot
        self.everybody = translate(self.everybody)
        for name in bits:
            self.accounts.setdefault(name, Account())
        for row in self.rows.values():
            row.owed, row.boot = translate(row.owed), boot
            if row.gap:
                row.gap = replace(row.gap, owed=translate(row.gap.owed))
        lost, self._lost = self._lost.values(), {}
        for gap in lost:
            self._miss(replace(gap, owed=translate(gap.owed)))
        self._told.clear()

    def hold(self, incident: str, seq: int) -> None:
        """This is the newest word on an incident that is open: it is remembered until the next word."""
        self.release(incident)
        self.open[incident] = seq
        if row := self.rows.get(seq):
            row.holds = True

    def release(self, incident: str) -> None:
        """The incident is over, or there is a newer word on it."""
        seq = self.open.pop(incident, None)
        row = self.rows.get(seq) if seq is not None else None
        if row:
            row.holds = False
            self._changed(row)

    def _enter(self, row: Row) -> None:
        self._compact()
        self.rows[row.seq] = row
        self._order.seqs.append(row.seq)
        if row.owed:
            self.waiting.add(row, +1)
            self._lives[row.life_s].append(row.seq)

    # What goes

    def settle(self, seq: int, sink: str, fate: Fate = "acknowledged") -> bool:
        """One sink is owed this no longer; False if it was not anyway."""
        row = self.rows.get(seq)
        if row is None or not row.owed & self.bits[sink]:
            return False
        self._pay(row, self.bits[sink], fate)
        return True

    def lose(self, row: Row, reason: str, fate: Fate = "dropped") -> None:
        """Nobody gets this any more; a gap will say so. What it was to say of other gaps is said by another."""
        owed = row.owed
        self._miss(Gap(reason, owed, row.seq, row.seq, 1))
        if row.gap and (still := row.gap.owed & owed):
            self._miss(replace(row.gap, owed=still))
        self._pay(row, owed, fate)

    def miss(self, reason: str, first: int, last: int) -> None:
        """Nobody knows what became of these numbers."""
        self._miss(Gap(reason, self.everybody, first, last, None))

    def _miss(self, gap: Gap) -> None:
        before = self._lost.get(gap.key)
        self._lost[gap.key] = before.and_(gap) if before else gap

    def _pay(self, row: Row, owed: int, fate: Fate) -> None:
        for name, bit in self.bits.items():
            if bit & owed:
                account = self.accounts[name]
                setattr(account, fate, getattr(account, fate) + 1)
        row.owed &= ~owed
        if not row.owed:
            self.waiting.add(row, -1)
            if not row.committed:
                self.unwritten.add(row, -1)
                self._only_held.add(row.seq)
            if row.gap and self._told.get(row.gap.key) == row.seq:
                del self._told[row.gap.key]
        self._changed(row)

    def _changed(self, row: Row) -> None:
        if row.on_disk:
            self.dirty.add(row.seq)
        if not row.owed and not row.holds:
            del self.rows[row.seq]
            self.bodies.pop(row.seq, None)
            self._only_held.discard(row.seq)

    def expire(self, now_ns: int) -> None:
        """Lose what has waited too long."""
        for seqs in self._lives.values():
            while seqs:
                row = self.rows.get(seqs[0])
                if row and row.owed:
                    if row.expires_ns > now_ns:
                        break
                    self.lose(row, "expired", "expired")
                seqs.popleft()

    def limit(self, room: int = 0) -> None:
        """Lose the oldest of what is too much. `room`: for so many more."""
        most = max(1, self.limits.unwritten_events - room)
        while self.unwritten.events > most or self.unwritten.bytes > self.limits.unwritten_bytes:
            row = self.rows.get(self._queue.popleft())
            if row and row.owed and not row.committed:
                self.lose(row, "queue_full")
        most, most_bytes = max(1, self.limits.events - room), self.limits.bytes
        if self.waiting.events > most or self.waiting.bytes > most_bytes:
            most -= self.limits.events // MORE
            most_bytes -= most_bytes // MORE
            while self.waiting.events > most or self.waiting.bytes > most_bytes:
                self.lose(self._oldest(), "limit")

    def oldest(self) -> Row | None:
        """What waits longest."""
        return self._oldest() if self.waiting.events else None

    def _oldest(self) -> Row:
        order = self._order
        while True:
            row = self.rows.get(order.seqs[order.head])
            if row and row.owed:
                return row
            # A row that is only held open is passed over for good: nobody waits for it.
            order.head += 1

    # What is read

    def after(self, seq: int, sink: str, now_ns: int, *, uncommitted: bool) -> Iterator[Row]:
        """What the sink is owed, in order, up to what is not on the disk."""
        bit, order = self.bits[sink], self._order
        for index in range(bisect.bisect_right(order.seqs, seq), len(order.seqs)):
            row = self.rows.get(order.seqs[index])
            if row is None or not row.owed & bit:
                continue
            if not (row.committed or uncommitted):
                return
            if row.expires_ns > now_ns:
                yield row

    def read(self, row: Row) -> None:
        """Somebody has read it: it is what it is from now on."""
        if row.gap and self._told.get(row.gap.key) == row.seq:
            del self._told[row.gap.key]

    def _compact(self) -> None:
        order = self._order
        if len(order.seqs) > 2 * len(self.rows) + 1000:
            order.seqs, order.head = [seq for seq in order.seqs if seq in self.rows], 0
            for life_s, seqs in self._lives.items():
                self._lives[life_s] = deque(seq for seq in seqs if seq in self.rows)

    # What is written

    def announce(self, word: Callable[[Gap, int], bytes], life_s: int, now_ns: int, now_s: int) -> None:
        """Make events of what was lost, or amend those that nobody has read. `word`: gap, number -> body."""
        if self._lost.keys() - self._told.keys():
            self.limit(room=1)  # what a new one displaces, it tells of too
        lost, self._lost = self._lost, {}
        for key, gap in lost.items():
            row = self.rows.get(self._told.get(key, 0))
            if row and row.gap and row.owed:
                row.gap = row.gap.and_(gap)
                self._replace(row, word(row.gap, row.seq))
            else:
                body = word(gap, self.next_seq)
                self._told[key] = self.add(body, life_s=life_s, now_ns=now_ns, now_s=now_s, gap=gap).seq
        self.limit()

    def _replace(self, row: Row, body: bytes) -> None:
        if not row.committed:
            self.unwritten.add(row, -1)
        self.waiting.add(row, -1)
        row.size = len(body)
        self.waiting.add(row, +1)
        self.unwritten.add(row, +1)
        self.bodies[row.seq] = body
        if row.committed:
            row.committed = False
            self._queue.append(row.seq)

    @property
    def losses(self) -> bool:
        """Whether there is something to announce."""
        return bool(self._lost)

    def batch(self) -> tuple[Batch, set[int]]:
        """What is to be written, and what is no longer `dirty` for it: to be given back if that fails."""
        rows = [
            row
            for seq in dict.fromkeys([*self._queue, *self._only_held])
            if (row := self.rows.get(seq)) and not row.committed
        ]
        batch = Batch(put=[self.entry(row, self.bodies[row.seq]) for row in rows])
        newest = max([self.newest_on_disk, *(row.seq for row in rows)])
        dirty, self.dirty = self.dirty, set()
        if newest != self.newest_on_disk and self.newest_on_disk not in self.rows:
            dirty.add(self.newest_on_disk)
        for seq in dirty:
            row = self.rows.get(seq)
            if row is None and seq != newest:
                batch.delete.append(seq)
            elif row is None:
                batch.owe.append((0, 0, seq))
            elif row.committed:
                batch.owe.append((row.owed, row.mark, seq))
        return batch, dirty

    def on_disk(self) -> dict[int, Entry]:
        """Everything that should be there; without bodies, where they are only there."""
        return {
            row.seq: self.entry(row, self.bodies.get(row.seq, b"") if row.committed else b"")
            for row in self.rows.values()
            if row.on_disk
        }

    def moved(self, copied: Iterable[Entry], newest: int) -> int:
        """These are on another disk, and nothing else; the number of events that are lost."""
        there = {entry.seq: entry for entry in copied}
        self.newest_on_disk = newest
        self.dirty = there.keys() - self.rows.keys()
        lost = 0
        for row in [row for row in self.rows.values() if row.on_disk]:
            if entry := there.get(row.seq):
                if (entry.owed, entry.mark) != (row.owed, row.mark):
                    self.dirty.add(row.seq)
                continue
            row.on_disk = False
            if row.owed and row.committed:
                self.lose(row, "damaged")
                lost += 1
        for incident in [incident for incident, seq in self.open.items() if self._forgotten(seq)]:
            self.release(incident)
        return lost

    def _forgotten(self, seq: int) -> bool:
        row = self.rows.get(seq)
        return row is not None and not row.on_disk and seq not in self.bodies

    def entry(self, row: Row, body: bytes) -> Entry:
        """A row as it is kept."""
        return Entry(row.seq, row.boot, row.born_s, row.life_s, row.owed, row.mark, body)

    def written(self, entries: Iterable[Entry]) -> None:
        """These are on the disk now; what has changed since is dirty."""
        for entry in entries:
            self.newest_on_disk = max(self.newest_on_disk, entry.seq)
            row = self.rows.get(entry.seq)
            if row is None:
                self.dirty.add(entry.seq)
                continue
            if not row.committed and row.owed:
                self.unwritten.add(row, -1)
            row.on_disk = row.committed = True
            if (row.owed, row.mark) != (entry.owed, entry.mark):
                self.dirty.add(row.seq)
        self._queue = deque(seq for seq in self._queue if (row := self.rows.get(seq)) and not row.committed)
        self._only_held.clear()
