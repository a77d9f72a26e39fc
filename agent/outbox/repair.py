"""What becomes of a file that cannot be used: it is set aside, and what can be read of it goes into a new one."""

from __future__ import annotations

import contextlib
import itertools
import logging
import sqlite3
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from agent.outbox.store import Batch, Boot, Damaged, Entry, Kept, Store, StoreError, reserved, told

log = logging.getLogger(__name__)

ASIDE = ".damaged-"
MOST_ASIDE = 3
"""Damaged files that are kept; the oldest goes."""
_ROWS = 500
_EVENTS = "SELECT seq, boot, born, life, owed, mark, body FROM events ORDER BY seq"
_FROM_BOTH_ENDS = (_EVENTS, _EVENTS + " DESC")


def machine() -> str:
    """The kernel's own boot_id: another one each time the machine starts; empty where there is none."""
    with contextlib.suppress(OSError):
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    return ""


class Contents(NamedTuple):
    """What a file says."""

    events: list[Kept]
    boots: dict[int, Boot]
    sinks: dict[str, int]
    marked: dict[int, tuple[int, bytes]]
    """Seq -> boot, body, of events with a mark."""


def open_or_replace(path: Path | None, sinks: Sequence[str]) -> tuple[Store, Contents, bool]:
    """Open the file, or another one in its place with what could be read of it; and whether it is another one.

    `sinks`: who is owed what, where the file does not say. Raises Unwritable.
    """
    try:
        return *_open(path), False
    except Damaged as error:
        if path is None:
            raise
        number = reserved(path)
        aside = set_aside(path)
        with contextlib.closing(Store(path)) as store:
            rescued = _rescue(aside, store, sinks)
            # Where the file does not say which numbers were used, they begin where none can have come by counting.
            store.reserve(max(number - 1, 0) or clock_number())
        log.error("events: %s: %s; it is kept as %s, %d events could be read of it", path, error, aside.name, rescued)
        return *_open(path), True


def _open(path: Path | None) -> tuple[Store, Contents]:
    store = Store(path)
    try:
        events = list(store.events())
        marked = store.read([kept.seq for kept in events if kept.mark])
        return store, Contents(events, store.boots(), store.sinks(), marked)
    except BaseException:
        store.close()
        raise


def clock_number() -> int:
    """A number that no agent reaches by counting, higher each time."""
    return max(time.time_ns() // 1_000_000, 10**12)


def set_aside(path: Path) -> Path:
    """Rename a file and its log; only the newest few such files are kept. Raises Unwritable."""
    with told():
        stamp = time.strftime("%Y%m%dT%H%M%S", time.gmtime())
        names = (path.with_name(f"{path.name}{ASIDE}{stamp}{'-' * bool(n)}{n or ''}") for n in itertools.count())
        aside = next(name for name in names if not name.exists())
        path.rename(aside)
        with contextlib.suppress(FileNotFoundError):
            _log_of(path).rename(_log_of(aside))
        older = [old for old in path.parent.glob(f"{path.name}{ASIDE}*") if not old.name.endswith("-wal")]
        for old in sorted(older, key=lambda old: old.stat().st_mtime_ns)[:-MOST_ASIDE]:
            if old != aside:
                old.unlink(missing_ok=True)
                _log_of(old).unlink(missing_ok=True)
        return aside


def copy(old: Store | None, new: Store, entries: dict[int, Entry]) -> set[int]:
    """Write these into a new file, with the bodies that the old one has; the numbers of those that are there.

    An entry with a body is written as it is.
    """
    copied: set[int] = set()
    seqs = sorted(entries)
    for start in range(0, len(seqs), _ROWS):
        part = seqs[start : start + _ROWS]
        bodies = {seq: entries[seq].body for seq in part if entries[seq].body}
        bodies |= _read(old, [seq for seq in part if seq not in bodies])
        new.write(Batch(put=[entries[seq].with_body(bodies[seq]) for seq in part if seq in bodies]))
        copied |= bodies.keys()
    return copied


def _read(old: Store | None, seqs: list[int]) -> dict[int, bytes]:
    """All that can be read: if one cannot, the others one by one."""
    if old is None or not seqs:
        return {}
    try:
        return {seq: body for seq, (_, body) in old.read(seqs).items()}
    except StoreError:
        if len(seqs) == 1:
            return {}
        middle = len(seqs) // 2
        return _read(old, seqs[:middle]) | _read(old, seqs[middle:])


def _log_of(path: Path) -> Path:
    return path.with_name(path.name + "-wal")


def _rescue(aside: Path, store: Store, sinks: Sequence[str]) -> int:
    """Copy what can be read of a damaged file: from its beginning and from its end, up to where it is not whole."""
    with contextlib.closing(sqlite3.connect(aside, timeout=0.0, isolation_level=None)) as db:
        db.execute("PRAGMA writable_schema=ON")  # or a file that is shorter than it says is not looked into
        names = {
            name: bit for bit, name in _rows(db, "SELECT bit, name FROM sinks") if _is(int, bit) and _is(str, name)
        }
        boots = {
            row[0]: Boot(row[1], row[2], row[3], bool(row[4]))
            for row in _rows(db, "SELECT n, boot_id, agent, machine, ended FROM boots")
            if _is(int, row[0], row[4]) and _is(str, *row[1:4])
        }
        everybody = 0 if names else (1 << len(sinks)) - 1
        store.begin(boots, names or {name: bit for bit, name in enumerate(sinks)})
        rescued: set[int] = set()
        for query in _FROM_BOTH_ENDS:
            entries: list[Entry] = []
            for row in _rows(db, query):
                if not (_is(int, *row[:6]) and _is(bytes, row[6])) or row[3] <= 0:
                    continue
                if row[0] in rescued:
                    break
                rescued.add(row[0])
                owed = everybody if everybody and row[4] else row[4]
                entries.append(Entry(row[0], row[1], row[2], row[3], owed, row[5], row[6]))
                if len(entries) == _ROWS:
                    store.write(Batch(put=entries))
                    entries = []
            store.write(Batch(put=entries))
    return len(rescued)


def _is(kind: type, *values: object) -> bool:
    return all(type(value) is kind for value in values)


def _rows(db: sqlite3.Connection, query: str) -> Iterator[tuple[Any, ...]]:
    """Up to the first that cannot be read."""
    with contextlib.suppress(sqlite3.Error, ValueError):
        yield from db.execute(query)
