"""The durable outbox on disks that are full, broken, foreign or gone."""

from __future__ import annotations

import contextlib
import os
import shutil
import sqlite3
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from agent.messages import EventPayload
from agent.outbox import outbox as outboxes
from agent.outbox import repair
from agent.outbox.outbox import Outbox
from agent.outbox.settings import EventsSection
from agent.outbox.store import BLOCK, MAGIC, Store
from tests.support.needs import missing
from tests.support.outbox import committed, event, lawful, read, settle_all
from tests.support.waiting import until


@pytest.fixture(autouse=True)
def _tries_again_soon(monkeypatch):
    monkeypatch.setattr(outboxes, "RETRY_S", (0.05, 0.05))


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "events.db"


def opened(path: Path, **settings: object) -> Outbox:
    outbox = Outbox(EventsSection(path=path, **settings), "gatehouse", ["mqtt"])
    outbox.start()
    return outbox


def filled(path: Path, count: int = 40, *, log: bool = False) -> str:
    """A file with that many events that wait; with `log`, all of them are in the log still. Its boot_id."""
    outbox = opened(path)
    for n in range(count):
        outbox.put(event(n))
        if log and n % 8 == 7:
            committed(outbox)
    committed(outbox)
    if log:
        for name in path.name, path.name + "-wal":
            shutil.copy(path.with_name(name), path.with_name(name + ".copy"))
    outbox.close(5)
    if log:
        for name in path.name, path.name + "-wal":
            path.with_name(name + ".copy").rename(path.with_name(name))
    return outbox.boot_id


def aside(path: Path) -> list[Path]:
    return sorted(p for p in path.parent.glob(path.name + ".damaged-*") if not p.name.endswith("-wal"))


def fill(folder: Path) -> Path:
    """Leave no room in a folder."""
    ballast = folder / "ballast"
    with ballast.open("wb", buffering=0) as file, contextlib.suppress(OSError):
        while True:
            file.write(b"x" * 1024)
    return ballast


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    folder = tmp_path / "disk"
    folder.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", folder], check=False).returncode:
        missing("the right to mount a small disk")
    yield folder
    subprocess.run(["umount", "-l", folder], check=True)


def test_a_full_disk_is_reported_and_events_go_out_from_memory_until_it_has_room(small_disk):
    outbox = opened(small_disk / "events.db")
    outbox.put(event(0))
    committed(outbox)
    ballast = fill(small_disk)
    for n in range(1, 600):
        outbox.put(event(n, rule="x" * 200))
    until(lambda: outbox.state()["state"] == "memory")
    assert outbox.state()["reason"] == "there is no room left: make some"
    assert outbox.standing()["waiting"] == 600
    for stored in read(outbox)[:500]:
        outbox.settle("mqtt", stored.seq, "acknowledged")
    outbox.put(event(600))
    ballast.unlink()
    until(lambda: outbox.state()["state"] == "ok" and not outbox.unwritten)
    outbox.close(5)
    again = opened(small_disk / "events.db")
    assert [stored.seq for stored in read(again)] == list(range(501, 602))
    again.close(5)


def test_a_disk_that_is_full_at_the_start_gives_what_waits(small_disk):
    path = small_disk / "events.db"
    filled(path)
    ballast = fill(small_disk)
    outbox = opened(path)
    assert outbox.put(event()) == 41
    assert [stored.seq for stored in read(outbox)][:40] == list(range(1, 41))
    ballast.unlink()
    until(lambda: outbox.state()["state"] == "ok" and not outbox.unwritten)
    outbox.close(5)


def test_a_folder_that_cannot_be_used_is_reported_and_used_once_it_can_be(tmp_path):
    path = tmp_path / "state" / "events.db"
    path.parent.write_text("in the way")
    outbox = opened(path)
    assert outbox.state()["state"] == "memory"
    assert outbox.state()["reason"]
    number = outbox.put(event(0))
    found = read(outbox)
    assert found[0].seq == number > 10**12  # numbers of the file that nobody can read are not used
    path.parent.unlink()
    until(lambda: outbox.state()["state"] == "ok")
    committed(outbox)
    outbox.close(5)
    again = opened(path)
    assert number in [stored.seq for stored in read(again)]
    again.close(5)


@pytest.mark.parametrize("junk", [b"garbage" * 1000, b"", b"SQLite format 3\0" + b"\xff" * 2000, b"\0" * 4096])
def test_a_file_that_is_none_of_ours_is_kept_aside(path, junk):
    path.write_bytes(junk)
    outbox = opened(path)
    assert outbox.state()["state"] == "ok"
    number = outbox.put(event())
    assert [stored.seq for stored in settle_all(outbox) if stored.event.kind == "zone"] == [number]
    outbox.close(5)
    if junk:
        assert [old.read_bytes() for old in aside(path)] == [junk]


def test_a_database_of_somebody_else_is_kept_aside(path):
    with sqlite3.connect(path) as db:
        db.execute("CREATE TABLE songs (title TEXT)")
    db.close()
    outbox = opened(path)
    outbox.put(event())
    assert settle_all(outbox)
    outbox.close(5)
    with sqlite3.connect(aside(path)[0]) as db:
        assert db.execute("SELECT name FROM sqlite_master").fetchall() == [("songs",)]
    db.close()


def test_what_a_newer_version_left_is_kept_aside_and_what_is_like_ours_is_delivered(path, caplog):
    filled(path)
    with sqlite3.connect(path, isolation_level=None) as db:
        db.execute(f"PRAGMA application_id={MAGIC + 2}")
        db.execute("ALTER TABLE events ADD COLUMN colour TEXT")
    db.close()
    outbox = opened(path)
    assert "made by a newer version" in caplog.text
    assert [stored.seq for stored in read(outbox) if stored.event.kind == "zone"] == list(range(1, 41))
    assert outbox.put(event()) == BLOCK  # not one that was used
    outbox.close(5)
    assert len(aside(path)) == 1


@pytest.mark.parametrize("log", [False, True], ids=["file", "file and log"])
def test_a_file_cut_off_at_any_page_always_opens_and_gives_what_is_left(tmp_path, log):
    whole = tmp_path / "whole" / "events.db"
    boot_id = filled(whole, log=log)
    cut_name = whole.name + "-wal" if log else whole.name
    size = whole.with_name(cut_name).stat().st_size
    step = 1048 if log else 1024
    rescued = []
    for number, length in enumerate(range(0, size, step)):
        path = tmp_path / str(number) / "events.db"
        shutil.copytree(whole.parent, path.parent)
        os.truncate(path.with_name(cut_name), length)
        outbox = opened(path)
        until(lambda: outbox.state()["state"] == "ok")  # noqa: B023
        put = outbox.put(event())
        found = settle_all(outbox, timeout_s=0.0) or read(outbox)
        old = [stored for stored in found if stored.event.boot_id == boot_id]
        assert [stored.seq for stored in old] == sorted(stored.seq for stored in old)
        assert all(stored.seq < put for stored in old)
        assert lawful(outbox)
        rescued.append(len(old))
        outbox.close(5)
    assert max(rescued) > 20
    if log:
        assert rescued == sorted(rescued)  # what was committed first survives


def test_bits_that_flipped_anywhere_never_stop_the_agent(tmp_path):
    whole = tmp_path / "whole" / "events.db"
    filled(whole, 12)
    data = whole.read_bytes()
    for number, at in enumerate([*range(0, 100, 9), *range(100, len(data), 1231)]):
        path = tmp_path / str(number) / "events.db"
        path.parent.mkdir()
        path.write_bytes(data[:at] + bytes([data[at] ^ 0xFF]) + data[at + 1 :])
        outbox = opened(path)
        until(lambda: outbox.state()["state"] == "ok")  # noqa: B023
        put = outbox.put(event())
        until(lambda: any(stored.seq == put for stored in read(outbox)))  # noqa: B023
        assert lawful(outbox)
        outbox.close(5)


def damage(outbox: Outbox, path: Path) -> None:
    """Write over a page in the middle of the file that is open."""
    with outbox._disk:
        outbox._store.checkpoint()
        outbox._store._db.execute("PRAGMA cache_size=0")
        middle = path.stat().st_size // 1024 // 2
        with path.open("r+b") as file:
            file.seek(middle * 1024)
            file.write(b"\xff" * 1024)


def test_what_a_mended_file_still_has_is_not_lost_to_who_was_just_reading_the_broken_one(path, monkeypatch):
    monkeypatch.setattr(outboxes, "CACHE_BYTES", 0)
    outbox = Outbox(EventsSection(path=path), "gatehouse", ["mqtt"])
    monkeypatch.setattr(outbox._writer, "start", lambda: None)  # it writes when the test says so
    outbox.start()
    for n in range(200):
        outbox.put(event(n))
    assert outbox._turn()
    damage(outbox, path)
    monkeypatch.setattr(outbox._closing, "wait", lambda _: outbox._turn())  # mended while the reader waits for that
    assert outbox.next("mqtt", 0, 500, 0) == []
    found = {stored.seq for stored in read(outbox)}
    assert 180 < len(found & set(range(1, 201))) < 200
    assert lawful(outbox)
    outbox._end()


def test_damage_that_shows_only_later_is_announced_and_the_rest_is_delivered(path, monkeypatch):
    monkeypatch.setattr(outboxes, "CACHE_BYTES", 0)
    outbox = opened(path)
    for n in range(200):
        outbox.put(event(n))
    committed(outbox)
    damage(outbox, path)
    found: dict[int, EventPayload] = {}

    def gap_came() -> bool:
        found.update((stored.seq, stored.event) for stored in settle_all(outbox, timeout_s=0.1))
        return any(event.kind == "gap" for event in found.values())

    until(gap_came)
    (gap,) = [event.data for event in found.values() if event.kind == "gap"]
    assert gap["reason"] == "damaged"
    lost = set(range(1, 201)) - found.keys()
    assert 0 < len(lost) < 20
    assert (min(lost), max(lost), len(lost)) == (gap["from"], gap["to"], gap["count"])
    assert lawful(outbox)
    assert len(aside(path)) == 1
    outbox.close(5)
    again = opened(path)
    assert again.put(event()) == 202
    again.close(5)


def test_a_file_that_is_deleted_under_us_is_made_again_with_what_waits(path):
    outbox = opened(path)
    for n in range(100):
        outbox.put(event(n))
    committed(outbox)
    for file in path.parent.glob("events.db*"):
        file.unlink()
    until(lambda: path.exists() and outbox.state()["state"] == "ok")
    outbox.put(event(100))
    committed(outbox)
    outbox.close(5)
    again = opened(path)
    assert [stored.seq for stored in read(again)] == list(range(1, 102))
    assert again.put(event()) == 102
    again.close(5)


def test_a_log_that_is_deleted_under_us_costs_nothing(path):
    outbox = opened(path)
    for n in range(100):
        outbox.put(event(n))
    committed(outbox)
    log = path.with_name("events.db-wal")
    log.unlink()
    until(lambda: outbox._store.log_moved is False)
    outbox.put(event(100))
    committed(outbox)
    for name in "events.db", "events.db-wal":  # as a killed agent would leave it
        if path.with_name(name).exists():
            shutil.copy(path.with_name(name), path.with_name("killed-" + name))
    outbox.close(5)
    again = opened(path.with_name("killed-events.db"))
    assert [stored.seq for stored in read(again)] == list(range(1, 102))
    again.close(5)


def test_a_second_agent_on_the_same_file_says_so_and_takes_over_when_the_first_ends(path):
    first = opened(path)
    first.put(event(1))
    committed(first)
    second = opened(path)
    assert second.state()["state"] == "memory"
    assert "another process uses it" in second.state()["reason"]
    number = second.put(event(2))
    until(lambda: len(read(second)) == 2)
    (gap, own) = sorted(read(second), key=lambda stored: stored.event.kind)
    assert (own.seq, gap.event.data["reason"]) == (number, "numbers_unknown")
    first.close(5)
    until(lambda: second.state()["state"] == "ok")
    found = [stored.seq for stored in second.next("mqtt", own.seq, 9, 1.0)]  # although that is beyond
    assert found[0] == 1
    assert number in found
    assert lawful(second)
    second.close(5)


def test_only_a_few_damaged_files_are_kept(path):
    for n in range(6):
        path.write_bytes(b"garbage %d" % n * 100)
        os.utime(path, (n, n))
        opened(path).close(5)
    assert len(aside(path)) == repair.MOST_ASIDE
    assert b"garbage 5" in b"".join(old.read_bytes() for old in aside(path))


def test_after_a_power_cut_no_number_is_used_that_somebody_may_have_seen(path, monkeypatch):
    monkeypatch.setattr(repair, "machine", lambda: "before")
    filled(path, 3, log=True)  # it was not closed
    monkeypatch.setattr(repair, "machine", lambda: "after")
    outbox = opened(path)
    assert outbox.put(event()) == BLOCK
    until(lambda: len(read(outbox)) == 5)
    (gap,) = [stored.event.data for stored in read(outbox) if stored.event.kind == "gap"]
    assert gap == {"from": 4, "to": BLOCK - 1, "count": None, "reason": "power_cut", "sinks": ["mqtt"]}
    outbox.close(5)


def test_what_waits_long_is_made_safe_from_a_power_cut(path, monkeypatch):
    monkeypatch.setattr(outboxes, "SYNC_AFTER_S", 0.0)
    synced: list[int] = []
    sync = Store.sync
    monkeypatch.setattr(Store, "sync", lambda store: (sync(store), synced.append(1))[0])
    outbox = opened(path)
    outbox.put(event())
    until(lambda: bool(synced))
    outbox.close(5)
