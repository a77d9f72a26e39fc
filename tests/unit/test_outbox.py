"""The durable outbox on a disk that does what it should."""

from __future__ import annotations

import gc
import os
import stat
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from pydantic import ValidationError

from agent.outbox import outbox as outboxes
from agent.outbox.outbox import Outbox
from agent.outbox.settings import EventsSection
from tests.support.outbox import ByHand, committed, event, lawful, read, settle_all
from tests.support.waiting import until


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "state" / "events.db"


@pytest.fixture
def opened(path: Path) -> Iterator[type]:
    """Makes outboxes on one file and closes those that a test leaves open."""
    made: list[Outbox] = []

    class Opened:
        def __new__(cls, *sinks: str, **settings: object) -> Outbox:  # type: ignore[misc]
            outbox = Outbox(EventsSection(path=path, **settings), "gatehouse", sinks or ("mqtt",))
            outbox.start()
            made.append(outbox)
            return outbox

    yield Opened
    for outbox in made:
        outbox.close(5)


def test_an_event_is_read_back_as_it_was_put_with_its_number_and_start(opened):
    outbox = opened()
    number = outbox.put(event(7, "start", label="person", score=0.5, path=[(0.0, 1.0, 2.0)]))
    (stored,) = read(outbox)
    assert (number, stored.seq, stored.event.event_seq) == (1, 1, 1)
    assert stored.event.boot_id == outbox.boot_id
    assert stored.event.agent == "gatehouse"
    said = stored.event.model_dump(exclude_unset=True, exclude={"boot_id", "event_seq", "schema_"})
    assert said == event(7, "start", label="person", score=0.5, path=[(0.0, 1.0, 2.0)]).model_dump(
        exclude_unset=True, exclude={"boot_id", "event_seq", "schema_"}
    )
    assert 6.9 * 86400 < stored.expires_ns / 1e9 - time.monotonic() < 7.1 * 86400


def test_what_is_not_acknowledged_waits_for_the_next_start_and_numbers_go_on(opened):
    first = opened()
    for n in range(5):
        first.put(event(n))
    for stored in read(first)[:3]:
        first.settle("mqtt", stored.seq, "acknowledged")
    first.close(5)
    second = opened()
    assert [(stored.seq, stored.event.boot_id) for stored in read(second)] == [(4, first.boot_id), (5, first.boot_id)]
    assert second.put(event(5)) == 6
    assert second.boot_id != first.boot_id
    assert lawful(second)
    assert second.counts()["mqtt"]["made"] == 3


def test_numbers_go_on_where_nothing_waits(opened):
    for number in 1, 2, 3:
        outbox = opened()
        assert outbox.put(event()) == number
        settle_all(outbox)
        outbox.close(5)


def test_an_event_waits_until_each_sink_has_acknowledged_it(opened):
    outbox = opened("mqtt", "jsonl")
    outbox.put(event())
    assert len(settle_all(outbox, "jsonl")) == 1
    assert outbox.standing()["waiting"] == 1
    assert outbox.counts()["jsonl"]["waiting"] == 0
    outbox.close(5)
    again = opened("mqtt", "jsonl")
    assert again.next("jsonl", 0, 9, 0.0) == []
    assert len(settle_all(again)) == 1
    assert again.standing()["waiting"] == 0


def test_what_waits_for_a_sink_that_is_not_configured_waits_on(opened, caplog):
    outbox = opened("mqtt", "jsonl")
    outbox.put(event())
    outbox.close(5)
    without = opened("jsonl")
    assert "1 wait for mqtt, which is not configured" in caplog.text
    without.put(event())
    assert len(settle_all(without, "jsonl")) == 2
    without.close(5)
    assert [stored.seq for stored in read(opened("mqtt", "jsonl"))] == [1]


def test_a_new_sink_is_owed_what_comes_from_now_on(opened):
    outbox = opened("mqtt")
    outbox.put(event())
    outbox.close(5)
    outbox = opened("jsonl", "mqtt")
    outbox.put(event())
    assert [stored.seq for stored in read(outbox, "jsonl")] == [2]
    assert [stored.seq for stored in read(outbox, "mqtt")] == [1, 2]


def test_a_sink_may_come_and_go_while_events_come(opened, caplog):
    """It is owed what is put while it is there, over a restart too; what waits for one that went waits on."""
    first = opened("mqtt")
    first.put(event(1))
    first.owe(["mqtt", "jsonl"])
    first.put(event(2))
    committed(first)
    first.owe(["jsonl"])
    first.put(event(3))
    committed(first)
    assert [stored.seq for stored in read(first, "jsonl")] == [2, 3]
    assert [stored.seq for stored in read(first, "mqtt")] == [1, 2]
    first.close(5)
    second = opened("jsonl", "other")
    assert second.put(event(4)) == 4
    committed(second)
    assert [stored.seq for stored in read(second, "jsonl")] == [2, 3, 4]
    assert [stored.seq for stored in read(second, "other")] == [4]
    assert "2 wait for mqtt, which is not configured" in caplog.text
    assert lawful(second)


def test_a_sink_that_came_while_the_file_could_not_be_opened_is_in_it_when_it_can_be(path, opened):
    """And one that went then is owed what it was."""
    path.parent.parent.mkdir(parents=True, exist_ok=True)
    path.parent.write_bytes(b"no folder")
    outbox = opened("mqtt")
    outbox.put(event(1))
    outbox.owe(["jsonl"])
    outbox.put(event(2))
    path.parent.unlink()
    until(lambda: outbox.state()["state"] == "ok" and not outbox.unwritten)
    assert 2 in [stored.event.data.get("n") for stored in read(outbox, "jsonl")]
    assert lawful(outbox)
    outbox.close(5)
    again = opened("jsonl")
    assert 2 in [stored.event.data.get("n") for stored in read(again, "jsonl")]
    assert 1 in [stored.event.data.get("n") for stored in read(again, "mqtt")]


def test_fewer_events_are_kept_from_when_it_is_said(opened):
    outbox = opened(keep=100)
    for n in range(60):
        outbox.put(event(n))
    outbox.limit(outbox.settings.model_copy(update={"keep": 10}))
    until(lambda: outbox.counts()["mqtt"]["waiting"] <= 10)
    assert lawful(outbox)


def test_the_same_answer_twice_counts_once(opened):
    outbox = opened()
    outbox.put(event())
    committed(outbox)
    for _ in range(2):
        outbox.settle("mqtt", 1, "no_subscriber")
    assert outbox.counts()["mqtt"] == {
        "made": 1, "acknowledged": 1, "expired": 0, "dropped": 0, "waiting": 0, "no_subscriber": 1, "refused": 0,
    }  # fmt: skip


def test_a_refused_event_stays_and_status_says_so(opened):
    outbox = opened()
    outbox.put(event())
    committed(outbox)
    outbox.refused("mqtt", 1, "not authorised")
    assert outbox.state()["refused"] == {"mqtt": "event 1: not authorised"}
    assert outbox.counts()["mqtt"]["refused"] == 1
    assert [stored.seq for stored in read(outbox)] == [1]
    outbox.settle("mqtt", 1, "acknowledged")
    assert outbox.state()["refused"] == {}


def test_what_is_too_much_goes_oldest_first_and_is_announced(opened):
    outbox = opened(keep=10)
    for n in range(30):
        outbox.put(event(n))
    until(lambda: any(stored.event.kind == "gap" for stored in read(outbox)))
    outbox.close(5)
    outbox = opened(keep=10)
    found = settle_all(outbox)
    gaps = [stored.event.data for stored in found if stored.event.kind == "gap"]
    assert 1 <= len(gaps) <= 2  # bursts, not drops
    assert {(gap["reason"], *gap["sinks"]) for gap in gaps} == {("limit", "mqtt")}
    numbers = {stored.seq for stored in found}
    lost = set(range(1, max(numbers) + 1)) - numbers
    assert sum(gap["count"] for gap in gaps) == len(lost) >= 20
    assert all(any(gap["from"] <= number <= gap["to"] for gap in gaps) for number in lost)


def test_a_full_outbox_says_so_now_and_then_not_with_each_event():
    """To a sink that hears everything while another one is away."""
    outbox = ByHand(EventsSection(keep=1000), "gatehouse", ["mqtt", "jsonl"], in_memory=True)
    outbox.start()
    gaps = 0
    for n in range(1200):
        outbox.put(event(n))
        if n > 990:
            outbox.write()
            gaps += sum(stored.event.kind == "gap" for stored in settle_all(outbox, "jsonl", 0.0))
    dropped = outbox.counts()["mqtt"]["dropped"]
    assert outbox.standing()["waiting"] <= 1000
    assert outbox.counts()["jsonl"]["dropped"] == 0
    assert dropped >= 200
    assert 2 <= gaps <= 1 + dropped // 9


def test_what_has_waited_too_long_goes_by_its_kind_and_is_announced(opened):
    outbox = opened(expire={"line": "1s"})
    for n in range(4):
        outbox.put(event(n, kind="line" if n % 2 else "zone"))
    until(lambda: outbox.counts()["mqtt"]["expired"] == 2)
    until(lambda: len(read(outbox)) == 3)
    kinds = [(stored.event.kind, stored.event.data.get("reason")) for stored in read(outbox)]
    assert kinds == [("zone", None), ("zone", None), ("gap", "expired")]
    assert read(outbox)[-1].event.data["count"] == 2
    assert lawful(outbox)


def test_bytes_are_limited_too(opened):
    outbox = opened(max_mb=0.01)
    for n in range(100):
        outbox.put(event(n))
    assert outbox.standing()["bytes"] <= 10_000
    assert outbox.counts()["mqtt"]["dropped"] > 20
    assert lawful(outbox)


def test_a_clock_that_was_not_set_yet_expires_nothing(opened, monkeypatch):
    monkeypatch.setattr(outboxes.time, "time", lambda: 12.0)
    outbox = opened(expire="1h")
    outbox.put(event())
    committed(outbox)
    monkeypatch.undo()  # now it is set: 50 years have passed, or none
    assert outbox.put(event()) == 2
    committed(outbox)
    assert [stored.seq for stored in read(outbox)] == [1, 2]
    outbox.close(5)
    assert [stored.seq for stored in read(opened(expire="1h"))] == [1, 2]


def test_what_grew_too_old_while_the_agent_was_off_is_dropped(opened, monkeypatch):
    outbox = opened(expire="1h")
    outbox.put(event())
    outbox.close(5)
    later = time.time() + 3601
    monkeypatch.setattr(outboxes.time, "time", lambda: later)
    outbox = opened(expire="1h")
    until(lambda: outbox.counts()["mqtt"]["expired"] == 1)


def test_incidents_that_a_killed_agent_left_open_are_ended_at_the_next_start(opened):
    outbox = opened()
    outbox.put(event(1, "start"))
    outbox.put(event(2, "start"))
    outbox.put(event(1, "update", last_seen="2026-11-22T08:00:09.000000Z"))
    outbox.put(event(2, "end"))
    outbox.put(event(3, "moment"))
    settle_all(outbox)
    outbox.close(5)  # without an end of incident 1
    outbox = opened()
    (ended,) = settle_all(outbox)
    assert (ended.event.id, ended.event.phase, ended.event.reason) == (event(1).id, "end", "agent_vanished")
    assert ended.event.last_seen == "2026-11-22T08:00:09.000000Z"
    assert (ended.seq, ended.event.boot_id) == (6, outbox.boot_id)
    outbox.close(5)
    assert opened().standing()["waiting"] == 0


def test_an_open_incident_is_remembered_though_its_events_were_dropped(opened):
    outbox = opened(keep=3)
    outbox.put(event(1, "start"))
    for n in range(2, 20):
        outbox.put(event(n))
    outbox.close(5)
    outbox = opened(keep=3)
    assert [stored.event.id for stored in settle_all(outbox) if stored.event.phase == "end"] == [event(1).id]


def test_only_its_owner_reads_the_file(opened, path):
    outbox = opened()
    outbox.put(event())
    committed(outbox)
    modes = [stat.S_IMODE(file.stat().st_mode) for file in path.parent.iterdir()]
    assert set(modes) == {0o600}
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700


def test_the_file_shrinks_when_an_outage_is_over(opened, path):
    outbox = opened()
    for n in range(6000):
        outbox.put(event(n, rule="x" * 300))
    committed(outbox)
    with outbox._disk:
        outbox._store.checkpoint()
    before = path.stat().st_size
    settle_all(outbox)
    until(lambda: not outbox._ledger.dirty and not outbox._free)
    outbox.close(5)
    assert before > 2_500_000
    assert path.stat().st_size < 1_200_000


def test_no_courier_gets_what_is_not_committed(opened, monkeypatch):
    outbox = opened()
    outbox._disk.acquire()  # the disk hangs
    try:
        started = time.perf_counter()
        for n in range(100):
            outbox.put(event(n))
        assert outbox.next("mqtt", 0, 9, 0.3) == []
        assert time.perf_counter() - started < 5
        assert outbox.unwritten == 100
    finally:
        outbox._disk.release()
    committed(outbox)
    assert len(read(outbox)) == 100


def test_a_disk_that_does_not_answer_is_reported(opened, monkeypatch):
    monkeypatch.setattr(outboxes, "STUCK_S", 0.1)
    outbox = opened()
    with outbox._disk:
        outbox.put(event())
        until(lambda: outbox.state()["state"] == "stuck")
        assert "has not answered" in outbox.state()["reason"]
    until(lambda: outbox.state()["state"] == "ok")


def test_a_hanging_disk_costs_bounded_memory_and_what_is_lost_is_counted(opened, monkeypatch):
    monkeypatch.setattr(outboxes, "UNWRITTEN", 50)
    outbox = opened()
    with outbox._disk:
        for n in range(200):
            outbox.put(event(n))
        assert outbox.unwritten == 50
    found = settle_all(outbox, timeout_s=0.7)
    gaps = [stored.event.data for stored in found if stored.event.kind == "gap"]
    assert {gap["reason"] for gap in gaps} == {"queue_full"}
    assert sum(gap["count"] for gap in gaps) == outbox.counts()["mqtt"]["dropped"] >= 150
    assert lawful(outbox)


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_the_writers_death_is_seen(opened, monkeypatch):
    outbox = opened()

    def die(*args: object, **more: object) -> None:
        raise SystemExit

    monkeypatch.setattr(outbox, "_turn", die)
    until(lambda: not outbox._writer.alive)
    assert outbox.state()["state"] == "stopped"
    assert outbox.state()["reason"] == "its thread has ended"


def test_a_fault_of_ours_in_the_writer_is_seen_and_it_goes_on(opened, monkeypatch, caplog):
    outbox = opened()
    commit, failures = outbox._commit, iter([RuntimeError("oops")])

    def fail_once(**more: object) -> None:
        for failure in failures:
            raise failure
        commit(**more)

    monkeypatch.setattr(outbox, "_commit", fail_once)
    until(lambda: outbox._writer.restarts == 1)
    outbox.put(event())
    assert [stored.seq for stored in read(outbox)] == [1]
    assert "a fault of ours: RuntimeError('oops')" in caplog.text
    until(lambda: outbox.state()["state"] == "ok")


def test_without_a_file_it_does_the_same():
    outbox = Outbox.in_memory("gatehouse", ["memory"])
    outbox.start()
    outbox.put(event())
    assert [stored.seq for stored in settle_all(outbox, "memory")] == [1]
    assert outbox.state()["state"] == "memory"
    outbox.close(5)


def test_the_file_lies_in_the_state_folder_unless_it_is_said(monkeypatch, tmp_path):
    monkeypatch.delenv("STATE_DIRECTORY", raising=False)
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    assert EventsSection().file("gatehouse") == tmp_path / "sightwire" / "events" / "gatehouse.db"
    monkeypatch.setenv("STATE_DIRECTORY", "/var/lib/sightwire")
    assert EventsSection().file("gatehouse") == Path("/var/lib/sightwire/events/gatehouse.db")
    assert EventsSection(path="x.db").file("gatehouse") == Path("x.db")


def test_how_long_events_may_wait_is_said_of_all_kinds_or_of_some():
    assert EventsSection().expire_s("zone") == 7 * 86400
    assert EventsSection(expire="2h").expire_s("zone") == 7200
    some = EventsSection(expire={"line": "60s", "default": "1h"})
    assert (some.expire_s("line"), some.expire_s("zone")) == (60, 3600)
    with pytest.raises(ValidationError):
        EventsSection(expire="0s")


def test_nothing_is_kept_in_memory_of_what_was_acknowledged(path):
    outbox = ByHand(EventsSection(path=path), "gatehouse", ["mqtt"])
    outbox.start()

    def blocks_after(rounds: range) -> int:
        for n in rounds:
            outbox.put(event(n, first_seen=f"2026-11-22T08:00:{n:09.6f}Z"))
            outbox.write()
            assert len(settle_all(outbox, timeout_s=0)) == 1
            outbox.write()
        gc.collect()
        return sys.getallocatedblocks()

    before = blocks_after(range(100))
    assert blocks_after(range(100, 600)) - before < 500  # less than one an event
    outbox._end()


def test_few_bytes_are_written_for_an_event(opened):
    outbox = opened()
    before = _written()
    for n in range(5):
        outbox.put(event(n))
        settle_all(outbox, timeout_s=0.15)
    outbox.close(5)
    assert (_written() - before) / 5 < 12_000  # 5 commits, and once what a close costs


def _written() -> int:
    return int(Path(f"/proc/{os.getpid()}/io").read_text().split("wchar: ")[1].split()[0])
