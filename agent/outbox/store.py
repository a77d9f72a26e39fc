"""The file that events wait in: SQLite in WAL mode. It does what it is told, or says why it cannot.

    boots   each start of the agent: events know theirs by its number
    sinks   name -> the bit of `events.owed`
    events  what waits, and the newest event of all, so that its number is remembered

One connection holds the file, so that no second agent can, and there is no shared-memory file that would be written
too. Not thread-safe.
"""

from __future__ import annotations

import contextlib
import os
import sqlite3
import struct
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, NamedTuple

VERSION = 1
MAGIC = 0x53774500
"""`application_id`: "SwE" and the version."""
BLOCK = 10_000
"""Numbers are reserved by so many: see `Store.reserve`."""
PAGE_BYTES = 1024
WAL_PAGES = 1000
"""So many pages of the log, then they are copied to their places: a checkpoint, which waits for the disk."""
HOLDS, GAP = 1, 2
"""Events that must be known at the next start: the newest word on an incident that is still open; what was lost."""
_READ_ROWS = 500

_SCHEMA = (
    "CREATE TABLE boots (n INTEGER PRIMARY KEY, boot_id TEXT NOT NULL, agent TEXT NOT NULL,"
    " machine TEXT NOT NULL, ended INTEGER NOT NULL)",
    "CREATE TABLE sinks (bit INTEGER PRIMARY KEY, name TEXT NOT NULL)",
    "CREATE TABLE events (seq INTEGER PRIMARY KEY, boot INTEGER NOT NULL, born INTEGER NOT NULL,"
    " life INTEGER NOT NULL, owed INTEGER NOT NULL, mark INTEGER NOT NULL, body BLOB NOT NULL)",
)


class StoreError(Exception):
    """The file cannot do its work."""


class Unwritable(StoreError):
    """... now: no room, no permission, no folder. It may be later."""


class InUse(Unwritable):
    """... because another process has it."""


class Damaged(StoreError):
    """... ever: what is in it is not ours or not whole."""


@dataclass(frozen=True)
class Entry:
    """One event as it is kept."""

    seq: int
    boot: int
    """Of `boots`."""
    born_s: int
    """Wall time when it was put."""
    life_s: int
    """It may wait so long."""
    owed: int
    """A bit for each sink that has not acknowledged it."""
    mark: int
    """HOLDS, GAP or 0."""
    body: bytes
    """JSON, without what `boots` and `seq` say."""

    def with_body(self, body: bytes) -> Entry:
        """The same with another body."""
        return replace(self, body=body)


class Kept(NamedTuple):
    """What is known of an event without reading it."""

    seq: int
    boot: int
    born_s: int
    life_s: int
    owed: int
    mark: int
    size: int
    """Bytes of its body."""


@dataclass(frozen=True)
class Boot:
    """One start of an agent."""

    boot_id: str
    agent: str
    machine: str
    """The kernel's own boot_id: another one after a power cut."""
    ended: bool
    """Whether it came to an orderly end."""


@dataclass
class Batch:
    """What one transaction changes."""

    put: list[Entry] = field(default_factory=list)
    owe: list[tuple[int, int, int]] = field(default_factory=list)
    """(owed, mark, seq) of events that are there."""
    delete: list[int] = field(default_factory=list)

    def __bool__(self) -> bool:
        return bool(self.put or self.owe or self.delete)


@contextlib.contextmanager
def told() -> Iterator[None]:
    """SQLite's errors as ours. (Before Python 3.11 they have no code, only words.)"""
    try:
        yield
    except sqlite3.OperationalError as error:
        said = str(error)
        if "locked" in said:
            raise InUse("another process uses it: end that, or give each agent its own events.path") from error
        if "no such" in said or "malformed" in said:
            raise Damaged(said) from error
        if "full" in said:
            raise Unwritable("there is no room left: make some") from error
        raise Unwritable(f"{said}: see to its folder and disk") from error
    except (sqlite3.DatabaseError, ValueError, TypeError, OverflowError) as error:
        raise Damaged(str(error)) from error
    except OSError as error:
        raise Unwritable((error.strerror or str(error)).lower()) from error


def reserved(path: Path) -> int:
    """Numbers below this one may have been used, as the first page of the file says; 0 if it cannot be read.

    `user_version` of SQLite's header (file format, section 1.3), in blocks: it is on the disk before its numbers are
    used, and can be read where the rest is damaged.
    """
    with contextlib.suppress(OSError), path.open("rb") as file:
        header = file.read(100)
        if len(header) == 100 and header.startswith(b"SQLite format 3\0"):
            return max(0, int(struct.unpack_from(">i", header, 60)[0])) * BLOCK
    return 0


class Store:
    """An open file."""

    def __init__(self, path: Path | None) -> None:
        """Open or create it; None: in memory. Raises Unwritable, InUse, Damaged."""
        self.path = path
        self._open()

    def reopen(self) -> None:
        """The same file, as it is now."""
        self.close()
        self._open()

    def _open(self) -> None:
        path = self.path
        with told():
            if path is not None:
                path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
                os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))
            self._db = sqlite3.connect(path or ":memory:", timeout=0.0, isolation_level=None, check_same_thread=False)
            try:
                self._prepare()
            except BaseException as error:
                self._db.close()
                if path is not None and "readonly" in str(error) and os.access(path.parent, os.W_OK):
                    raise Damaged("what it says of its format is wrong") from error
                raise
        self._file, self._log = self._identity(""), self._identity("-wal")

    def _prepare(self) -> None:
        run = self._db.execute
        run("PRAGMA locking_mode=EXCLUSIVE")  # before the file is looked at, or there is a shared-memory file
        if not run("PRAGMA page_count").fetchone()[0]:
            run(f"PRAGMA page_size={PAGE_BYTES}")
            run("PRAGMA auto_vacuum=INCREMENTAL")
        if run("PRAGMA journal_mode=WAL").fetchone()[0] not in ("wal", "memory"):
            raise Damaged("it cannot have a log")
        run("PRAGMA synchronous=NORMAL")
        run(f"PRAGMA wal_autocheckpoint={WAL_PAGES}")
        run(f"PRAGMA journal_size_limit={WAL_PAGES * PAGE_BYTES}")
        run("PRAGMA cache_size=-1000")
        run("BEGIN EXCLUSIVE")
        kind = run("PRAGMA application_id").fetchone()[0]
        tables = run("SELECT count(*) FROM sqlite_master").fetchone()[0]
        if kind == 0 and not tables:
            for statement in _SCHEMA:
                run(statement)
            run(f"PRAGMA application_id={MAGIC + VERSION}")
        elif kind & ~0xFF != MAGIC:
            raise Damaged("not a file of events")
        elif kind - MAGIC > VERSION:
            raise Damaged("made by a newer version of sightwire")
        run("COMMIT")
        self.reserved: int = run("PRAGMA user_version").fetchone()[0] * BLOCK
        """Numbers below this one may have been used."""
        if (said := run("PRAGMA quick_check(1)").fetchone()[0]) != "ok":
            raise Damaged(said.splitlines()[-1])

    def events(self) -> Iterator[Kept]:
        """What is in it, oldest first."""
        with told():
            rows = self._db.execute("SELECT seq, boot, born, life, owed, mark, length(body) FROM events ORDER BY seq")
            for row in rows:
                if not all(type(value) is int for value in row):
                    raise Damaged("what it says of events is no number")
                yield Kept._make(row)

    def read(self, seqs: Sequence[int]) -> dict[int, tuple[int, bytes]]:
        """Seq -> boot, body, of those that are there."""
        found: dict[int, tuple[int, bytes]] = {}
        with told():
            for start in range(0, len(seqs), _READ_ROWS):
                part = seqs[start : start + _READ_ROWS]
                marks = ",".join("?" * len(part))
                rows = self._db.execute(f"SELECT seq, boot, body FROM events WHERE seq IN ({marks})", part)  # noqa: S608
                found.update((seq, (boot, body)) for seq, boot, body in rows)
        return found

    def boots(self) -> dict[int, Boot]:
        """Number -> start of the agent."""
        with told():
            rows = self._db.execute("SELECT n, boot_id, agent, machine, ended FROM boots ORDER BY n")
            return {n: Boot(boot_id, agent, machine, bool(ended)) for n, boot_id, agent, machine, ended in rows}

    def sinks(self) -> dict[str, int]:
        """Name -> bit number."""
        with told():
            return {name: bit for bit, name in self._db.execute("SELECT bit, name FROM sinks ORDER BY bit")}

    def begin(self, boots: dict[int, Boot], sinks: dict[str, int]) -> None:
        """Write down who starts, beside the starts that events still know. On the disk when this returns."""
        with self._transaction() as run:
            run("DELETE FROM boots")
            self._db.executemany(
                "INSERT INTO boots VALUES (?, ?, ?, ?, ?)",
                [(n, boot.boot_id, boot.agent, boot.machine, boot.ended) for n, boot in boots.items()],
            )
            run("DELETE FROM sinks")
            self._db.executemany("INSERT INTO sinks VALUES (?, ?)", [(bit, name) for name, bit in sinks.items()])
        self.checkpoint()
        self._file, self._log = self._identity(""), self._identity("-wal")

    def reserve(self, number: int) -> None:
        """Make sure that it is known, whatever becomes of the rest, that numbers up to this one may be used."""
        if number < self.reserved:
            return
        with told():
            block = number // BLOCK + 1
            self._db.execute(f"PRAGMA user_version={block}")
            self.checkpoint()
            self.reserved = block * BLOCK

    def write(self, batch: Batch) -> None:
        """All of it or nothing."""
        with self._transaction():
            many = self._db.executemany
            if batch.delete:
                many("DELETE FROM events WHERE seq=?", [(seq,) for seq in batch.delete])
            if batch.owe:
                many("UPDATE events SET owed=?, mark=? WHERE seq=?", batch.owe)
            if batch.put:
                self.insert(batch.put)

    def insert(self, entries: Iterable[Entry]) -> None:
        """Without a transaction of its own."""
        self._db.executemany(
            "INSERT OR REPLACE INTO events VALUES (?, ?, ?, ?, ?, ?, ?)",
            ((e.seq, e.boot, e.born_s, e.life_s, e.owed, e.mark, e.body) for e in entries),
        )

    def checkpoint(self) -> None:
        """Bring everything to its place; it is on the disk when this returns."""
        with told():
            self._db.execute("PRAGMA wal_checkpoint(TRUNCATE)")

    def sync(self) -> None:
        """What is committed is on the disk when this returns: no power cut takes it. Cheaper than a checkpoint."""
        if self.path is not None:
            with told():
                log = os.open(self.path.with_name(self.path.name + "-wal"), os.O_RDONLY | os.O_CLOEXEC)
                try:
                    os.fsync(log)
                finally:
                    os.close(log)

    def shrink(self) -> bool:
        """Give free pages back to the file system, some at a time; False if there are few."""
        with told():
            if self._db.execute("PRAGMA freelist_count").fetchone()[0] <= WAL_PAGES:
                return False
            # It gives rows without columns, a page each, of which `execute` would take only the first.
            self._db.executescript(f"PRAGMA incremental_vacuum({WAL_PAGES})")
            return True

    def probe(self, boot: int) -> None:
        """Write what is there already."""
        with self._transaction() as run:
            run("UPDATE boots SET ended=0 WHERE n=?", (boot,))

    @property
    def moved(self) -> bool:
        """Whether the file is no longer where it was: whoever looks for it there finds another one, or none."""
        return self._identity("") != self._file

    @property
    def log_moved(self) -> bool:
        """The same of its log."""
        return self._identity("-wal") != self._log

    def end(self, boot: int) -> None:
        """Write down that this start came to its end."""
        with self._transaction() as run:
            run("UPDATE boots SET ended=1 WHERE n=?", (boot,))
        self.checkpoint()

    def close(self) -> None:
        """Let go; what cannot be written any more is not."""
        with contextlib.suppress(sqlite3.Error):
            self._db.close()

    def _identity(self, suffix: str) -> tuple[int, int] | None:
        if self.path is None:
            return None
        try:
            found = self.path.with_name(self.path.name + suffix).stat()
        except OSError:
            return None
        return found.st_dev, found.st_ino

    @contextlib.contextmanager
    def _transaction(self) -> Iterator[Any]:
        with told():
            self._db.execute("BEGIN IMMEDIATE")
            try:
                yield self._db.execute
                self._db.execute("COMMIT")
            except BaseException:
                with contextlib.suppress(sqlite3.Error):
                    self._db.execute("ROLLBACK")
                raise
