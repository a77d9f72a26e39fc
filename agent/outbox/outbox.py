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
from agent.outbox.store import Boot, Damaged, Entry, Kept, Store, StoreError, Unwritable
from agent.workers import Backoff, Worker

log = logging.getLogger(__name__)

COMMIT_EVERY_S = 0.1
DELETE_AFTER_S = 2.0
"""Acknowledgements wait so long for the next event, to be written with it."""
MANY_DELETES = 1000
"""So many do not wait."""
TICK_S = 0.5
TIDY_EVERY_S = 10.0
RETRY_S = (0.5, 15.0)
CACHE_BYTES = 4_000_000
"""Of events that are on the disk, and in memory too: those that are read next, mostly."""
UNWRITTEN = 20_000
UNWRITTEN_BYTES = 16_000_000
"""What may wait for the disk."""
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
    """Wall time as the clock is now."""


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
        self._ledger = Ledger((), {}, 0, 1, self._limits())
        self._boots: dict[int, Boot] = {}
        self._cached: deque[tuple[int, int]] = deque()
        self._cached_bytes = 0
        self._rewind: set[str] = set()
        self._reason: str | None = None
        self._refusals: dict[str, str] = {}
        self._wake = threading.Event()
        self._closing = threading.Event()
        self._commit_s = self._dirty_s = self._tidy_s = 0.0
        self._writer = Worker("outbox", self._run)
        self._started = False

    @classmethod
    def in_memory(cls, agent: str, sinks: Sequence[str], settings: EventsSection | None = None) -> Outbox:
        """One that forgets: for tests, and for looking at recordings."""
        return cls(settings or EventsSection(), agent, sinks, in_memory=True)

    def start(self) -> None:
        """Open the file, end what a killed agent left open, and begin. Waits for the disk; raises nothing."""
        try:
            store, lost = repair.open_or_replace(self.path)
        except Unwritable as error:
            self._begin_without(str(error))
        else:
            self._begin(store, lost)
        self._started = True
        self._writer.start()

    def put(self, event: EventPayload) -> int:
        """Take an event: its number. Never waits for the disk."""
        body = event.model_dump_json(
            by_alias=True, exclude_unset=True, exclude={"schema_", "agent", "boot_id", "event_seq"}
        ).encode()
        with self._changed:
            now_ns, now_s = time.monotonic_ns(), int(time.time())
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
            self._refusals[sink] = f"event {seq}: {reason}"

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

    def state(self) -> dict[str, Any]:
        """For the agent's status: where events wait, and why not where they should."""
        with self._changed:
            state, reason = "ok", self._reason
            if reason or self.path is None:
                state = "memory"
            if self._started and not self._writer.alive:
                state, reason = "stopped", reason or ("" if self._closing.is_set() else "its thread has ended")
            oldest = self._ledger.oldest()
            return {
                "path": None if self.path is None else str(self.path),
                "state": state,
                "reason": reason or None,
                "waiting": self._ledger.waiting.events,
                "bytes": self._ledger.waiting.bytes,
                "oldest": None if oldest is None else rfc3339(oldest.born_s * 1_000_000_000),
                "open": len(self._ledger.open),
                "refused": dict(self._refusals),
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

    def _begin_without(self, reason: str) -> None:
        """Nobody knows which numbers the file has: begin where none can have come by counting."""
        bits = {name: bit for bit, name in enumerate(self._sinks)}
        self._boots = {1: self._this_boot()}
        first = max(time.time_ns() // 1_000_000, 10**12)
        self._ledger = Ledger(self._sinks, bits, 1, first, self._limits())
        self._ledger.miss("numbers_unknown", 0, first - 1)
        self._say(reason)

    def _begin(self, store: Store, lost: bool) -> None:
        found = list(store.events())
        boots, sinks = store.boots(), store.sinks()
        for name in self._sinks:
            if name not in sinks:
                sinks[name] = next(bit for bit in itertools.count() if bit not in sinks.values())
        boot = max(boots, default=0) + 1
        first = max((kept.seq for kept in found), default=0) + 1
        next_seq = first
        last = boots.get(boot - 1)
        power_cut = last is not None and not last.ended and last.machine != repair.machine()
        if lost or power_cut:
            next_seq = max(first, store.reserved)
        used = {kept.boot for kept in found}
        self._boots = {n: said for n, said in boots.items() if n in used} | {boot: self._this_boot()}
        self._ledger = Ledger(self._sinks, sinks, boot, next_seq, self._limits())
        if lost or power_cut:
            self._ledger.miss("damaged" if lost else "power_cut", first, next_seq - 1)
        for kept in found:
            self._ledger.found(self._aged(kept))
        try:
            store.begin(self._boots, sinks)
        except StoreError as error:
            self._say(str(error))
        self._store = store
        waiting = self._ledger.waiting.events
        if waiting:
            log.info("events: %s: %d wait", self.path, waiting)
        for name in set(sinks) - set(self._sinks):
            if left := self._ledger.accounts[name].waiting():
                log.warning("events: %d wait for %s, which is not configured", left, name)
        self._end_what_vanished([kept.seq for kept in found if kept.holds])

    def _this_boot(self) -> Boot:
        return Boot(self.boot_id, self.agent, repair.machine(), ended=False)

    def _aged(self, kept: Kept) -> Row:
        """How long it may still wait. The wall clock counts only where it can be right: then and now."""
        now_s = int(time.time())
        age_s = max(0, now_s - kept.born_s) if min(now_s, kept.born_s) >= CLOCK_WAS_SET_S else 0
        expires_ns = time.monotonic_ns() + (kept.life_s - age_s) * 1_000_000_000
        return Row(kept.seq, kept.boot, kept.born_s, kept.life_s, expires_ns, kept.owed, kept.size, holds=kept.holds)

    def _end_what_vanished(self, seqs: list[int]) -> None:
        """The agent that opened these incidents was killed: nobody else will end them."""
        if not seqs or self._store is None:
            return
        try:
            words = self._store.read(seqs)
        except StoreError as error:
            self._say(str(error))
            return
        for seq in sorted(words):
            boot, body = words[seq]
            if (event := self._event(seq, boot, body)) is None:
                continue
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
            if self._store is None or self._store.moved:
                self._renew("the file was deleted" if self._store else None)
            if self._store is not None:
                self._commit(self._store, last=last)
        except Damaged as error:
            log.error("events: %s: damaged: %s", self.path, error)
            try:
                self._renew(f"damaged: {error}")
            except StoreError as again:
                self._say(f"damaged: {again}")
                return False
            return self._turn(last=last) if not last else True
        except StoreError as error:
            self._say(str(error))
            return False
        self._say(None)
        return True

    def _commit(self, store: Store, *, last: bool) -> None:
        now_s = time.monotonic()
        with self._changed:
            self._ledger.expire(time.monotonic_ns())
            life_s = self._life_s("gap")
            self._ledger.announce(time.monotonic_ns(), self._word_gap, life_s, int(time.time()), at_once=last)
            self._ledger.limit()
            waiting = self._ledger.unwritten.events or self._reason
            if not self._ledger.dirty:
                self._dirty_s = now_s
            due = now_s - self._dirty_s >= DELETE_AFTER_S or len(self._ledger.dirty) >= MANY_DELETES
            if not (waiting or due or last):
                return
            batch, dirty = self._ledger.batch()
        if batch:
            with self._disk:
                try:
                    if batch.put:
                        store.reserve(batch.put[-1].seq)
                    store.write(batch)
                except StoreError:
                    with self._changed:
                        self._ledger.dirty |= dirty
                    raise
            self._commit_s = self._dirty_s = time.monotonic()
            with self._changed:
                self._ledger.written(batch.put)
                self._cache(batch.put)
                self._changed.notify_all()
        if now_s >= self._tidy_s:
            self._tidy_s = now_s + TIDY_EVERY_S
            with self._disk:
                store.shrink(1000)

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

    def _renew(self, reason: str | None) -> None:
        """Another file, with all that can be had of the one before."""
        raise Unwritable(reason or "cannot be opened")

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
        while self._cached_bytes > CACHE_BYTES:
            seq, size = self._cached.popleft()
            self._cached_bytes -= size
            row = self._ledger.rows.get(seq)
            if row and row.committed:
                self._ledger.bodies.pop(seq, None)

    # Under the lock

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
        missing = [row.seq for row in rows if bodies[row.seq] is None]
        if missing:
            with self._disk:
                try:
                    if self._store is not None:
                        bodies.update((seq, body) for seq, (_, body) in self._store.read(missing).items())
                except StoreError as error:
                    log.error("events: %s: %s", self.path, error)
                    self._wake.set()
        found: list[Stored] = []
        now_ns, wall_ns = time.monotonic_ns(), time.time_ns()
        for row in rows:
            body = bodies[row.seq]
            if body is None:
                continue  # settled or dropped since
            event = self._event(row.seq, row.boot, body)
            if event is not None:
                found.append(Stored(row.seq, event, wall_ns + row.expires_ns - now_ns))
        return found

    def _event(self, seq: int, boot: int, body: bytes) -> EventPayload | None:
        said = self._boots.get(boot) or self._boots[self._ledger.boot]
        head = json.dumps(
            {"schema": "sightwire.event/1", "agent": said.agent, "boot_id": said.boot_id, "event_seq": seq}
        )
        try:
            return EventPayload.model_validate_json(head[:-1].encode() + b"," + body[1:])
        except ValueError:
            return None
