"""Events wait here until every sink has acknowledged them: numbered, written before anything is sent, bounded.

`put` leaves an event in memory and returns; one writer thread commits what has come, at once if the last commit is
long ago, else with all that comes within 100 ms of it; then couriers may read it. Acknowledged events are deleted with
the next commit, at the latest after two seconds: a killed agent delivers them again, under the same number.

While the file cannot be written, events wait in memory (few, and a killed agent loses them) and are delivered from
there; the writer tries again until it can.
"""

from __future__ import annotations

import itertools
import json
import logging
import threading
import time
import uuid
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from agent.messages import EventPayload, rfc3339
from agent.outbox import repair
from agent.outbox.ledger import Gap, Ledger, Limits, Row
from agent.outbox.settings import EventsSection
from agent.outbox.store import HOLDS, Batch, Boot, Damaged, Entry, Kept, Store, StoreError, Unwritable, told
from agent.workers import Backoff, Worker

log = logging.getLogger(__name__)

COMMIT_EVERY_S = 0.1
DELETE_AFTER_S = 2.0
"""Acknowledgements wait so long for the next event, to be written with it."""
MANY_DELETES = 1000
"""So many do not wait."""
SYNC_AFTER_S = 10.0
"""What has waited so long in the file is made safe from a power cut."""
ANNOUNCE_AGAIN = 3
"""A `gap` event may displace what it has to tell of, too."""
TICK_S = 0.5
RETRY_S = (0.5, 15.0)
CACHE_BYTES = 4_000_000
"""Of events that are on the disk, and in memory too: those that are read next, mostly."""
UNWRITTEN = 20_000
UNWRITTEN_BYTES = 16_000_000
"""What may wait for the disk."""
STUCK_S = 5.0
"""A disk that takes longer for what has come is reported."""
MOST_OPEN = 10_000
"""Incidents that are remembered to be ended after a kill."""
CLOCK_WAS_SET_S = 1_577_836_800
"""2020-01-01: a wall clock before it has not been set yet."""


@dataclass(frozen=True)
class Stored:
    """An event that is on the disk."""

    seq: int
    event: EventPayload
    expires_ns: int
    """`time.monotonic_ns`: a wall clock that is set meanwhile changes nothing."""


class Outbox:
    """The events of one agent. Everything but `start` and `close` may be called by any thread."""

    def __init__(
        self,
        settings: EventsSection,
        agent: str,
        sinks: Sequence[str],
        *,
        on_state: Callable[[], None] = lambda: None,
        in_memory: bool = False,
    ) -> None:
        """`sinks`: who is owed each event. `on_state`: called when `state()["state"]` has changed."""
        self.settings, self.agent = settings, agent
        self.boot_id = uuid.uuid4().hex
        self.path: Path | None = None if in_memory else settings.file(agent)
        self._sinks = tuple(sinks)
        self._on_state = on_state
        self._changed = threading.Condition()
        """Guards the ledger; told when there is more to read."""
        self._disk = threading.Lock()
        """Guards the store. Never taken by who has `_changed`."""
        self._store: Store | None = None
        self._ledger = Ledger(sinks, self._limits())
        self._boots: dict[int, Boot] = {}
        self._cached: deque[tuple[int, int]] = deque()
        self._cached_bytes = 0
        self._broken: str | None = None
        """Why there must be another file."""
        self._begun = False
        """Whether the file knows of this start."""
        self._first_seq = 1
        self._rewind: set[str] = set()
        self._reason: str | None = None
        self._refusals: dict[str, tuple[int, str]] = {}
        """Sink -> the first that it refused of those that still wait, and why."""
        self._wake = threading.Event()
        self._closing = threading.Event()
        self._commit_s = self._dirty_s = self._unwritten_s = 0.0
        self._unsafe_s: float | None = None
        """When the first commit came that a power cut could take."""
        self._free = True
        """Whether the file may have pages to give back."""
        self._writer = Worker("outbox", self._run)
        self._started = False

    @classmethod
    def in_memory(cls, agent: str, sinks: Sequence[str], settings: EventsSection | None = None) -> Outbox:
        """One that forgets: for tests, and for looking at recordings."""
        return cls(settings or EventsSection(), agent, sinks, in_memory=True)

    def start(self) -> None:
        """Open the file, end what a killed agent left open, and begin. Waits for the disk; raises nothing."""
        try:
            self._open()
        except StoreError as error:
            # Nobody knows which numbers the file has: begin where none can have come by counting.
            self._boots[self._ledger.boot] = self._this_boot()
            self._ledger.next_seq = repair.clock_number()
            self._first_seq = self._ledger.next_seq
            self._ledger.miss("numbers_unknown", 0, self._first_seq - 1)
            self._say(str(error))
        self._started = True
        self._write_on()

    def _write_on(self) -> None:
        self._writer.start()

    def owe(self, sinks: Sequence[str]) -> None:
        """Events that are put from now on are for these sinks. What others are owed waits on, until it expires."""
        with self._changed:
            if tuple(sinks) != self._sinks:
                self._ledger.owe(sinks)
                self._sinks, self._begun = tuple(sinks), False  # the file is told before the next event is written

    def limit(self, settings: EventsSection) -> None:
        """From now on keep so many events, and new ones so long; `path` is for the next start."""
        with self._changed:
            self.settings = settings
            self._ledger.limits = self._limits()
            self._ledger.limit()

    def put(self, event: EventPayload) -> int:
        """Take an event, after `start`: its number. Never waits for the disk."""
        body = event.model_dump_json(
            by_alias=True, exclude_unset=True, exclude={"schema_", "agent", "boot_id", "event_seq"}
        ).encode()
        with self._changed:
            now_ns, now_s = time.monotonic_ns(), int(time.time())
            if not self._ledger.unwritten.events:
                self._unwritten_s = now_ns / 1e9
            row = self._ledger.add(body, life_s=self._life_s(event.kind), now_ns=now_ns, now_s=now_s)
            if event.phase in ("start", "update"):
                self._ledger.hold(event.id, row.seq)
                if len(self._ledger.open) > MOST_OPEN:
                    self._ledger.release(next(iter(self._ledger.open)))
            elif event.phase == "end":
                self._ledger.release(event.id)
            self._ledger.limit()
        if not self._wake.is_set():
            self._wake.set()
        return row.seq

    def next(self, sink: str, after_seq: int, limit: int, timeout_s: float) -> list[Stored]:
        """The oldest events with higher numbers that the sink is owed; none after the timeout, or when closing.

        Where a file that could not be opened comes back, what waits in it comes too, though its numbers are lower.
        """
        deadline = time.monotonic() + timeout_s
        with self._changed:
            while not (rows := self._after(sink, after_seq, limit)):
                left_s = deadline - time.monotonic()
                if left_s <= 0 or self._closing.is_set():
                    return []
                self._changed.wait(left_s)
            bodies = {row.seq: self._ledger.bodies.get(row.seq) for row in rows}
            for row in rows:
                self._ledger.read(row)
        return self._read(rows, bodies)

    def find(self, sink: str, seq: int) -> Stored | None:
        """The event of that number, if the sink is still owed it."""
        with self._changed:
            if not self._is_owed(seq, sink):
                return None
            row = self._ledger.rows[seq]
            bodies = {seq: self._ledger.bodies.get(seq)}
        return next(iter(self._read([row], bodies)), None)

    def settle(self, sink: str, seq: int, answer: Literal["acknowledged", "no_subscriber"]) -> None:
        """The sink has it: it is owed no longer."""
        with self._changed:
            if self._ledger.settle(seq, sink):
                self._ledger.accounts[sink].no_subscriber += answer == "no_subscriber"
                if len(self._ledger.dirty) >= MANY_DELETES and not self._wake.is_set():
                    self._wake.set()

    def refused(self, sink: str, seq: int, reason: str) -> None:
        """The sink does not take it. It stays."""
        with self._changed:
            self._ledger.accounts[sink].refused += 1
            before = self._refusals.get(sink)
            if before is None or not self._is_owed(before[0], sink):  # the first one stands for all that follow
                self._refusals[sink] = seq, reason

    def counts(self) -> dict[str, Any]:
        """Per sink: made == acknowledged + expired + dropped + waiting.

        Counted since the start; `made` includes what waited then.
        """
        with self._changed:
            return {
                name: {
                    "made": account.made,
                    "acknowledged": account.acknowledged,
                    "expired": account.expired,
                    "dropped": account.dropped,
                    "waiting": account.waiting(),
                    "no_subscriber": account.no_subscriber,
                    "refused": account.refused,
                }
                for name, account in self._ledger.accounts.items()
            }

    @property
    def unwritten(self) -> int:
        """Events that are not on the disk yet."""
        with self._changed:
            return self._ledger.unwritten.events

    def state(self) -> dict[str, Any]:
        """For the agent's status: where events wait, why not where they should, what was refused."""
        with self._changed:
            state, reason = "ok", self._reason
            if reason or self.path is None:
                state = "memory"
            waits_s = time.monotonic() - self._unwritten_s if self._ledger.unwritten.events else 0.0
            if state == "ok" and waits_s > STUCK_S:
                state, reason = "stuck", f"the disk has not answered for more than {STUCK_S:g} s"
            if self._started and not self._writer.alive:
                state, reason = "stopped", reason or ("" if self._closing.is_set() else "its thread has ended")
            return {
                "path": None if self.path is None else str(self.path),
                "state": state,
                "reason": reason or None,
                "refused": {
                    name: f"event {seq}: {why}"
                    for name, (seq, why) in self._refusals.items()
                    if self._is_owed(seq, name)
                },
            }

    def standing(self) -> dict[str, Any]:
        """For the metrics: what waits, in any sink's name, and since when; incidents that are open."""
        with self._changed:
            oldest = self._ledger.oldest()
            return {
                "waiting": self._ledger.waiting.events,
                "bytes": self._ledger.waiting.bytes,
                "oldest": None if oldest is None else rfc3339(oldest.born_s * 1_000_000_000),
                "open": len(self._ledger.open),
            }

    def close(self, deadline_s: float) -> None:
        """Write what has come, and let go of the file. What waits is there at the next start."""
        self._closing.set()
        self._wake.set()
        with self._changed:
            self._changed.notify_all()
        if self._started and not self._writer.join(deadline_s):
            log.warning("events: %s: does not answer; what was not written yet is lost", self.path)

    # Beginning

    def _limits(self) -> Limits:
        most = round(self.settings.max_mb * 1e6)
        return Limits(self.settings.keep, most, UNWRITTEN, UNWRITTEN_BYTES)

    def _open(self) -> None:
        """Open the file and take over what waits in it. Raises Unwritable."""
        with self._disk:
            store, contents, replaced = repair.open_or_replace(self.path, self._sinks)
            self._take_over(store, contents, replaced)

    def _take_over(self, store: Store, contents: repair.Contents, replaced: bool) -> None:
        found, boots, sinks, marked = contents
        late = self._started
        if late:
            found = [kept for kept in found if kept.seq < self._first_seq]
        boot = max(boots, default=0) + 1
        last, used = boots.get(boot - 1), {kept.boot for kept in found}
        boots = {n: said for n, said in boots.items() if n in used} | {boot: self._this_boot()}
        with self._changed:
            for name in (*self._sinks, *self._ledger.bits):
                sinks.setdefault(name, next(bit for bit in itertools.count() if bit not in sinks.values()))
            if not late:
                self._number(found, store, replaced, last)
            self._boots, self._begun = boots, False
            rows = [self._aged(kept) for kept in found]
            for row in rows:
                if row.seq in marked and not row.holds:
                    row.gap = self._read_gap(marked[row.seq][1], sinks)
            held = {row.seq for row in rows if row.holds}
            self._ledger.take_over(rows, sinks, boot)
            self._rewind = set(self._sinks) if late else set()
            self._end_what_vanished({seq: said for seq, said in marked.items() if seq in held})
            self._store = store
            if waiting := self._ledger.waiting.events:
                log.info("events: %s: %d wait", self.path, waiting)
            for name in set(sinks) - set(self._sinks):
                if left := self._ledger.accounts[name].waiting():
                    log.warning("events: %d wait for %s, which is not configured", left, name)

    def _begin(self, store: Store) -> None:
        """Write down that we have begun, if that is not done yet."""
        with self._changed:
            begun, self._begun = self._begun, True
            sinks = {name: bit.bit_length() - 1 for name, bit in self._ledger.bits.items()}
        try:
            if not begun:
                store.begin(self._boots, sinks)
        except BaseException:
            self._begun = False
            raise

    def _number(self, found: list[Kept], store: Store, replaced: bool, last: Boot | None) -> None:
        """Go on where the last start stopped; where that is not sure, above all that may have been used."""
        first = self._ledger.next_seq = max((kept.seq for kept in found), default=0) + 1
        power_cut = last is not None and not last.ended and last.machine != repair.machine()
        if replaced or power_cut:
            self._ledger.next_seq = max(first, store.reserved)
            self._ledger.miss("damaged" if replaced else "power_cut", first, self._ledger.next_seq - 1)

    def _this_boot(self) -> Boot:
        return Boot(self.boot_id, self.agent, repair.machine(), ended=False)

    def _aged(self, kept: Kept) -> Row:
        """How long it may still wait. The wall clock counts only where it can be right: then and now."""
        now_s = int(time.time())
        age_s = max(0, now_s - kept.born_s) if min(now_s, kept.born_s) >= CLOCK_WAS_SET_S else 0
        expires_ns = time.monotonic_ns() + (kept.life_s - age_s) * 1_000_000_000
        return Row(
            kept.seq, kept.boot, kept.born_s, kept.life_s, expires_ns, kept.owed, kept.size, holds=kept.mark == HOLDS
        )

    def _end_what_vanished(self, words: dict[int, tuple[int, bytes]]) -> None:
        """The agent that opened these incidents was killed: nobody else will end them."""
        for seq, (boot, body) in sorted(words.items()):
            if seq in self._ledger.rows and (event := self._event(seq, boot, body)) is not None:
                self._ledger.hold(event.id, seq)
                self.put(event.model_copy(update={"phase": "end", "reason": "agent_vanished"}))

    # What the writer does

    def _run(self, stop: threading.Event) -> None:  # noqa: ARG002  # ends when closed
        backoff = Backoff(*RETRY_S)
        while not self._closing.is_set():
            self._wake.wait(TICK_S)
            self._wake.clear()
            self._closing.wait(self._commit_s + COMMIT_EVERY_S - time.monotonic())
            if self._turn():
                backoff.reset()
            else:
                self._closing.wait(backoff.next_s())
        self._turn(last=True)
        self._end()

    def _turn(self, *, last: bool = False) -> bool:
        """Write what has come, if something has; False if the file does not take it."""
        try:
            self._look_at_file()
            self._commit(last=last)
            self._tidy()
        except Damaged as error:
            self._say(f"damaged: {error}")
            self._broken = f"damaged: {error}"
            return False
        except StoreError as error:
            self._say(str(error))
            with self._changed:
                self._tend()
            return False
        except Exception as error:
            self._say(f"a fault of ours: {error!r}")
            raise
        self._say(None)
        return True

    def _tend(self) -> None:
        """Lose what is too old, and say what was lost: what goes from the disk is announced with the same commit."""
        now_ns, life_s = time.monotonic_ns(), self._life_s("gap")
        self._ledger.expire(now_ns)
        for _ in range(ANNOUNCE_AGAIN):
            if not self._ledger.losses:
                break
            self._ledger.announce(self._word_gap, life_s, now_ns, int(time.time()))
        if self._reason:
            self._changed.notify_all()  # what has come can be read without being written

    def _look_at_file(self) -> None:
        """Have a file that can be written, and is where it should be. Raises StoreError."""
        if self._store is None:
            self._open()
        elif self._broken or self._store.moved:
            self._replace(self._store, self._broken or "it was deleted or replaced")
        elif self._begun and self._store.log_moved:
            with self._disk:
                log.error("events: %s: its log was deleted; another is begun", self.path)
                self._store.checkpoint()
                self._store.reopen()

    def _replace(self, old: Store, reason: str) -> None:
        """Another file, with all that can be had of the one before."""
        if self.path is None:
            raise Unwritable(reason)
        with self._disk:
            with told():
                there = self.path.exists()
            aside = repair.set_aside(self.path) if there else None
            new = Store(self.path)
            try:
                with self._changed:
                    entries = self._ledger.on_disk()
                    newest = self._ledger.newest_on_disk
                new.begin(self._boots, {name: bit.bit_length() - 1 for name, bit in self._ledger.bits.items()})
                new.reserve(newest)
                copied = repair.copy(old, new, entries)
                if newest not in copied:
                    new.write(Batch(put=[Entry(newest, self._ledger.boot, int(time.time()), 1, 0, 0, b"")]))
            except BaseException:
                new.close()
                raise
            with self._changed:
                lost = self._ledger.moved([entries[seq] for seq in copied], newest)
            self._store, self._broken, self._begun = new, None, True
            old.close()
        kept = f"; it is kept as {aside.name}" if aside else ""
        log.error("events: %s: %s%s; another is begun, %d events are lost", self.path, reason, kept, lost)

    def _commit(self, *, last: bool) -> None:
        store, now_s = self._store, time.monotonic()
        if store is None:
            return
        with self._changed:
            self._tend()
            if not self._ledger.dirty:
                self._dirty_s = now_s
            due = now_s - self._dirty_s >= DELETE_AFTER_S or len(self._ledger.dirty) >= MANY_DELETES
            wanted = self._ledger.unwritten.events or self._reason or due or last
            batch, dirty = self._ledger.batch() if wanted else (None, set())
        if batch is None:
            return
        try:
            with self._disk:
                self._begin(store)
                self._write(store, batch)
        except BaseException:
            with self._changed:
                self._ledger.dirty |= dirty
            raise
        self._commit_s = self._dirty_s = self._unwritten_s = time.monotonic()
        self._free = self._free or bool(batch.delete)
        self._unsafe_s = self._commit_s if self._unsafe_s is None else self._unsafe_s
        with self._changed:
            self._ledger.written(batch.put)
            self._cache(batch.put)
            self._changed.notify_all()

    def _tidy(self) -> None:
        """What waits long is made safe from a power cut; what has gone leaves no room behind."""
        now_s = time.monotonic()
        with self._changed:
            oldest = self._ledger.oldest()
        waits_s = now_s - (oldest.expires_ns / 1e9 - oldest.life_s) if oldest else 0.0
        unsafe = self._unsafe_s is not None and min(waits_s, now_s - self._unsafe_s) >= SYNC_AFTER_S
        with self._disk:
            if self._store is not None:
                self._free = self._free and self._store.shrink()
                if unsafe:
                    self._store.sync()
                    self._unsafe_s = None

    def _write(self, store: Store, batch: Batch) -> None:
        if not batch:
            store.probe(self._ledger.boot)
            return
        try:
            if batch.put:
                store.reserve(batch.put[-1].seq)
            store.write(batch)
        except Unwritable:
            # What only makes room may well be possible. It is done again with the rest: that does no harm.
            store.write(Batch(owe=batch.owe, delete=batch.delete))
            raise

    def _end(self) -> None:
        with self._disk:
            if self._store is None:
                return
            try:
                self._store.end(self._ledger.boot)
            except StoreError as error:
                log.warning("events: %s: %s", self.path, error)
            self._store.close()
            self._store = None

    def _say(self, reason: str | None) -> None:
        with self._changed:
            if reason == self._reason:
                return
            self._reason = reason
            self._changed.notify_all()
        if reason:
            log.error("events: %s: %s; events wait in memory until it can be written", self.path, reason)
        else:
            log.info("events: %s can be written again", self.path)
        self._on_state()

    def _cache(self, entries: Sequence[Entry]) -> None:
        for entry in entries:
            self._cached.append((entry.seq, len(entry.body)))
            self._cached_bytes += len(entry.body)
        # What was acknowledged is in memory no more, and not to be remembered either.
        while self._cached and (self._cached_bytes > CACHE_BYTES or self._cached[0][0] not in self._ledger.bodies):
            seq, size = self._cached.popleft()
            self._cached_bytes -= size
            row = self._ledger.rows.get(seq)
            if row and row.committed:
                self._ledger.bodies.pop(seq, None)

    # Under the lock

    def _is_owed(self, seq: int, sink: str) -> bool:
        row = self._ledger.rows.get(seq)
        return row is not None and bool(row.owed & self._ledger.bits[sink])

    def _life_s(self, kind: str) -> int:
        return max(1, round(self.settings.expire_s(kind)))

    def _word_gap(self, gap: Gap, seq: int) -> bytes:
        said = {
            "id": f"{self.boot_id[:8]}-gap-{seq}",
            "kind": "gap",
            "phase": "moment",
            "captured_at": rfc3339(time.time_ns()),
            "data": {
                "from": gap.first,
                "to": gap.last,
                "count": gap.count,
                "reason": gap.reason,
                "sinks": [name for name, bit in self._ledger.bits.items() if bit & gap.owed],
            },
        }
        return json.dumps(said, separators=(",", ":")).encode()

    def _read_gap(self, body: bytes, sinks: dict[str, int]) -> Gap | None:
        """What a gap's event of another start says."""
        try:
            said = json.loads(body)["data"]
            owed = sum(1 << sinks[name] for name in said["sinks"] if name in sinks)
            return Gap(said["reason"], owed, said["from"], said["to"], said["count"])
        except (ValueError, KeyError, TypeError):
            return None

    def _after(self, sink: str, after_seq: int, limit: int) -> list[Row]:
        if sink in self._rewind:
            self._rewind.discard(sink)
            after_seq = 0
        return list(
            itertools.islice(
                self._ledger.after(after_seq, sink, time.monotonic_ns(), uncommitted=self._reason is not None), limit
            )
        )

    # Reading

    def _read(self, rows: list[Row], bodies: dict[int, bytes | None]) -> list[Stored]:
        """Up to the first that cannot be read, if it is still wanted."""
        missing = [row.seq for row in rows if bodies[row.seq] is None]
        unread = False
        if missing:
            try:
                with self._disk:
                    unread = self._store is None
                    if self._store is not None:
                        bodies.update((seq, body) for seq, (_, body) in self._store.read(missing).items())
            except StoreError as error:
                unread = True  # also when the file is mended meanwhile: then it is to be asked again
                self._broken = f"damaged: {error}"
                self._wake.set()
                self._closing.wait(COMMIT_EVERY_S)
        found: list[Stored] = []
        for row in rows:
            body = bodies[row.seq]
            event = None if body is None else self._event(row.seq, row.boot, body)
            if event is not None:
                found.append(Stored(row.seq, event, row.expires_ns))
                continue
            with self._changed:
                if row.owed and (unread or self._broken):
                    break
                if row.owed:
                    self._ledger.lose(row, "damaged")
        return found

    def _event(self, seq: int, boot: int, body: bytes) -> EventPayload | None:
        said = self._boots.get(boot) or self._boots[self._ledger.boot]
        head = f'{{"event_seq":{seq},"boot_id":"{said.boot_id}","agent":{json.dumps(said.agent)},'
        try:
            return EventPayload.model_validate_json(b'%s"schema":"sightwire.event/1",%s' % (head.encode(), body[1:]))
        except ValueError:
            return None
