"""What may go wrong between an agent and its subscribers, with real brokers and processes; each returns what happened.

Used with small numbers by tests/integration/test_event_faults.py and with large ones by tests/prove/events.py.
"""

from __future__ import annotations

import os
import random
import signal
import sqlite3
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast
from unittest import mock

import psutil

from agent.sinks import Answer, Message, _link, mqtt
from tests.support.broker import Mosquitto, Subscriber, die_with_parent
from tests.support.eventful import PERSISTENT, SAVED_OFTEN, Account, EventAgent, Hearer, LiveResults
from tests.support.eventful import event as new_event
from tests.support.patience import PATIENCE_S
from tests.support.publishing import FAREWELL, RESULTS, STATUS

MEMORY_S = 1.0
"""What a killed mosquitto may not have written yet."""


ENOUGH = 5000
"""Events that must wait for the speed of their delivery to mean something."""


@dataclass
class Outcome:
    """Of one fault."""

    fault: str
    expected: str
    happened: str
    wrong: list[str] = field(default_factory=list)
    """What did not hold."""


def _judged(fault: str, expected: str, account: Account, more: str, *claims: tuple[bool, str]) -> Outcome:
    """With what always must hold: nothing missing, order, and duplicates that are duplicates."""
    wrong = [*account.faults[:5], *(what for holds, what in claims if not holds)]
    if account.missing:
        wrong.append(f"{account.missing} numbers never came")
    came = f"{len(account.numbers)} events, {account.missing} lost, {account.duplicates} duplicates"
    return Outcome(fault, expected, f"{came}{', ' if more else ''}{more}", wrong)


@contextmanager
def _lasting_broker(folder: Path, saved_often: bool = False) -> Iterator[Mosquitto]:
    """One whose sessions survive it."""
    broker = Mosquitto(folder, extra=PERSISTENT.format(folder=folder / "mosquitto") + SAVED_OFTEN * saved_often)
    try:
        yield broker
    finally:
        broker.stop()


def _sleep(seconds: float) -> None:
    """The time that the fault lasts; not a wait for something to happen."""
    time.sleep(seconds)


def broker_down(folder: Path, down_s: float, rate: float, backlog: int = 0) -> Outcome:
    """The broker is stopped for so long, with events all the while, and live results before and during the drain.

    `backlog`: so many events besides, all at once. The subscriber is away meanwhile, and has a session.
    """
    with _lasting_broker(folder) as broker, Hearer(broker.observer_url) as hearer:
        with (
            EventAgent(broker.url, folder / "events.db") as agent,
            Subscriber(broker.observer_url, RESULTS) as listener,
        ):
            assert isinstance(agent.sink, mqtt.MqttSink)
            agent.put(30)
            agent.drained()
            with LiveResults(agent.sink):
                _sleep(min(10.0, down_s / 4))
            before_ms = _ages_ms(listener)
            hearer.leave()  # its session stays; reading here would slow down what is measured
            broker.stop()
            agent.put(backlog)
            end_s = time.monotonic() + down_s
            while time.monotonic() < end_s:
                agent.put()
                _sleep(1 / rate)
            waiting, came = agent.counts["waiting"], len(listener.messages)
            with LiveResults(agent.sink):
                broker.restart()
                agent.wait_for(lambda counts: counts["waiting"] < waiting, 60)
                began_s = time.monotonic()
                left = agent.counts["waiting"]
                agent.drained(120)
                drained_s = time.monotonic() - began_s
            counts = agent.counts
            during_ms = _ages_ms(listener, came)
        hearer.come_back()
        account = hearer.wait_until(lambda account: len(account.numbers) >= counts["made"], 60)
    rate_s = left / drained_s
    ages = f"live results p95 {_p95(before_ms)} before, {_p95(during_ms)} during it"
    return _judged(
        f"broker down {down_s:g} s, then back",
        "0 lost, order kept per camera, duplicates recognisable by id; drained at 1,000/s or more, live results fresh",
        account,
        f"{waiting} had waited, drained at {rate_s:,.0f}/s, {ages}",
        (counts["acknowledged"] == counts["made"] == agent.offered, f"the account is {counts}"),
        (left < ENOUGH or rate_s >= 1000, f"drained at {rate_s:,.0f}/s"),
        (left < ENOUGH or statistics.median(during_ms) < 50, "live results waited for events"),
    )


def _ages_ms(listener: Subscriber, since: int = 0) -> list[float]:
    """How old results were when they arrived."""
    with listener._changed:
        return [(m.arrived_ns - m.data["at_ns"]) / 1e6 for m in listener.messages[since:]]


def _p95(ages_ms: list[float]) -> str:
    return f"{statistics.quantiles(ages_ms, n=20)[-1]:.1f} ms of {len(ages_ms)}" if len(ages_ms) > 1 else "none"


class Nursery:
    """Agents as processes of their own, quickly: one that has imported everything forks them."""

    def __init__(self, url: str, path: Path) -> None:
        self._parent = subprocess.Popen(
            [sys.executable, "-m", "tests.support.eventful", url, str(path)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            preexec_fn=die_with_parent,
            cwd=Path(__file__).parents[2],
        )

    def born(self, rate: float) -> int:
        """An agent that makes so many events a second; its process id."""
        assert self._parent.stdin
        assert self._parent.stdout
        self._parent.stdin.write(f"{rate}\n")
        self._parent.stdin.flush()
        return int(self._parent.stdout.readline())

    def kill(self, child: int) -> None:
        """SIGKILL; it is gone when this returns."""
        assert self._parent.stdout
        os.kill(child, signal.SIGKILL)
        assert self._parent.stdout.readline() == "gone\n"

    def __enter__(self) -> Nursery:
        return self

    def __exit__(self, *_: object) -> None:
        self._parent.communicate()


def agent_killed(folder: Path, times: int, rate: float = 500.0, longest_s: float = 0.8) -> Outcome:
    """SIGKILL at a random moment of its life, again and again; at the end one that lives delivers what waits."""
    moments = random.Random(6)
    path, unreadable, committed = folder / "events.db", 0, 0
    with _lasting_broker(folder) as broker, Hearer(broker.observer_url) as hearer:
        with Nursery(broker.url, path) as nursery:
            for _ in range(times):
                child = nursery.born(rate)
                _sleep(moments.uniform(0.02, longest_s))
                nursery.kill(child)
                found = _newest_on_disk(path)
                unreadable += found is None
                committed = max(committed, found or 0)
        with EventAgent(broker.url, path) as last:
            opened = last.outbox.state()
            last.put()
            last.drained(60)
        newest = last.offered and max(hearer.wait_until(lambda account: not account.missing, 30).numbers)
        account = hearer.account
    boots = len(set(account.numbers.values()))
    return _judged(
        f"agent killed with SIGKILL at random, {times} times",
        "0 lost that were committed, the outbox always opens",
        account,
        f"{boots} starts heard of, newest committed {committed} of {newest}",
        (unreadable == 0, f"{unreadable} times the file could not be opened"),
        (opened["state"] == "ok", f"the last start says {opened}"),
        (newest >= committed, f"{committed} was committed and {newest} the newest that came"),
    )


def _newest_on_disk(path: Path) -> int | None:
    """The highest number that is committed, 0 if none is; None if SQLite finds a fault in the file."""
    if not path.exists():
        return 0
    try:
        with sqlite3.connect(path, timeout=PATIENCE_S) as file:
            if file.execute("PRAGMA quick_check").fetchone() != ("ok",):
                return None
            tables = {name for (name,) in file.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
            return int(file.execute("SELECT max(seq) FROM events").fetchone()[0] or 0) if "events" in tables else 0
    except sqlite3.DatabaseError:
        return None
    finally:
        if "file" in locals():
            file.close()


def broker_killed(folder: Path, times: int, rate: float = 200.0, up_s: float = 0.5) -> Outcome:
    """SIGKILL while events pass, then it comes back; every event must be acknowledged, and what is must be heard.

    mosquitto acknowledges before it has written its memory to the disk, so it may itself lose what it acknowledged in
    the moment before it was killed. Such events are counted apart: nothing that a publisher can do brings them back.
    """
    kills: dict[int, float] = {}
    """Connection -> when its broker was killed."""
    acknowledged: dict[int, tuple[int, float]] = {}
    with (
        mock.patch.object(_link, "STEADY_S", 0.1),
        _lasting_broker(folder, saved_often=True) as broker,
        Hearer(broker.observer_url) as hearer,
    ):
        with EventAgent(broker.url, folder / "events.db") as agent:
            _note_answers(agent, acknowledged)
            for _ in range(times):
                so_far = agent.counts["acknowledged"]
                agent.put(20)
                agent.wait_for(lambda counts, least=so_far: counts["acknowledged"] > least, 60)
                end_s = time.monotonic() + up_s
                while time.monotonic() < end_s:
                    agent.put()
                    _sleep(1 / rate)
                agent.put(100)
                broker.kill()
                kills[agent.sink.state()["reconnects"]] = time.monotonic()
                agent.put(50)
                broker.restart()
            counts = agent.drained(120)
            again = agent.courier.counts()["again"]
        newest = max(acknowledged)
        hearer.wait_until(lambda account: newest in account.numbers, 30)
        account = hearer.account
    gone = [seq for seq in range(1, newest + 1) if seq not in account.numbers]
    theirs = [seq for seq in gone if _is_of_a_kill(*acknowledged[seq], kills)]
    wrong = [*account.faults[:5]]
    if len(gone) > len(theirs):
        wrong.append(f"{len(gone) - len(theirs)} events were lost that the broker had not just acknowledged")
    if not counts["acknowledged"] == counts["made"] == agent.offered == len(acknowledged):
        wrong.append(f"the account is {counts}")
    said = (
        f"{len(acknowledged)} events, all acknowledged, {again} of them delivered again, {account.duplicates} came "
        f"twice; {len(theirs)} that mosquitto acknowledged within {MEMORY_S:g} s before a kill it lost itself"
    )
    expected = "0 lost as far as acknowledgements say; the subscriber has a persistent session"
    return Outcome(f"broker killed with SIGKILL, {times} times", expected, said, wrong)


def _is_of_a_kill(connection: int, at_s: float, kills: dict[int, float]) -> bool:
    """Whether the broker was killed just after it said so (or before we had read it)."""
    return connection in kills and at_s > kills[connection] - MEMORY_S


def _note_answers(agent: EventAgent, acknowledged: dict[int, tuple[int, float]]) -> None:
    """On which connection each event was acknowledged, and when."""
    sink = cast(mqtt.MqttSink, agent.sink)
    deliver = agent.sink.deliver

    def noting(event: Message, answered: Callable[[Answer, str | None], None]) -> None:
        def note(answer: Answer, reason: str | None) -> None:
            if answer in ("acknowledged", "no_subscriber"):
                acknowledged[cast(Any, event.payload).event_seq] = sink._link.reconnects, time.monotonic()
            answered(answer, reason)

        deliver(event, note)

    agent.sink.deliver = noting  # type: ignore[method-assign]


def limit_reached(folder: Path, keep: int, offered: int) -> Outcome:
    """More events than may wait while the broker is away."""
    with _lasting_broker(folder) as broker, Hearer(broker.observer_url) as hearer:
        broker.stop()
        with EventAgent(broker.url, folder / "events.db", keep=keep) as agent:
            for _ in range(5):  # in bursts, so that some are on the disk when they are dropped and some are not
                agent.put(offered // 5)
                _sleep(0.12)
            agent.wait_for(lambda counts: counts["dropped"] >= offered - keep)
            broker.restart()
            agent.drained(60)
            # The last of them may be announced a second later, while nothing else waits.
            account = hearer.wait_until(lambda account: account.announced >= agent.counts["dropped"], 30)
            counts = agent.counts
    came = sorted(account.numbers)
    oldest = [seq for seq in came if seq <= counts["dropped"] - len(account.gaps)]
    missing = account.missing
    wrong = [*account.faults[:5]]
    if account.announced != counts["dropped"]:
        wrong.append(f"{counts['dropped']} dropped, {account.announced} announced")
    if missing != counts["dropped"]:
        wrong.append(f"{counts['dropped']} dropped, {missing} did not come")
    if oldest:
        wrong.append(f"{len(oldest)} of the oldest came, newer ones did not")
    said = f"{offered} offered, {counts['dropped']} dropped, {account.announced} announced, {missing} did not come"
    return Outcome(
        f"outbox limit of {keep} reached", "the oldest are dropped, their count is the announced one", said, wrong
    )


def flood(folder: Path, seconds: float, rate: int = 10_000, max_mb: float = 16) -> Outcome:
    """So many events a second offered to an outbox that takes `max_mb`, with a broker that works."""
    process, events = psutil.Process(), [new_event(n) for n in range(1000)]
    with Mosquitto(folder) as broker, EventAgent(broker.url, folder / "events.db", max_mb=max_mb) as agent:
        agent.put(100)
        agent.drained()
        least_mb = most_mb = process.memory_info().rss / 1e6
        offered, began_s = 0, time.monotonic()
        while offered < seconds * rate:
            due = min(int((time.monotonic() - began_s) * rate), round(seconds * rate))
            for _ in range(min(due - offered, 1000)):
                agent.outbox.put(events[offered % len(events)])
                offered += 1
            most_mb = max(most_mb, process.memory_info().rss / 1e6)
            _sleep(0.005)
        passed_s = time.monotonic() - began_s
        counts = agent.drained(240)
        most_mb = max(most_mb, process.memory_info().rss / 1e6)
    said = (
        f"{offered:,} offered in {passed_s:.1f} s ({offered / passed_s:,.0f}/s), {counts['acknowledged']:,} "
        f"acknowledged, {counts['dropped']:,} dropped and counted, memory {least_mb:.0f} to {most_mb:.0f} MB"
    )
    wrong = []
    if most_mb - least_mb > 100:
        wrong.append(f"memory grew by {most_mb - least_mb:.0f} MB")
    if counts["made"] < offered + agent.offered:
        wrong.append(f"{offered + agent.offered} offered, {counts['made']} made")
    if counts["acknowledged"] + counts["dropped"] + counts["expired"] != counts["made"]:
        wrong.append(f"the account is {counts}")
    return Outcome(f"{rate:,} events/s offered for {seconds:g} s", "bounded memory, loss counted", said, wrong)


def frozen_broker(folder: Path) -> Outcome:
    """SIGSTOP: connections stay open and nothing answers."""
    with Mosquitto(folder) as broker, EventAgent(broker.url, None) as agent:
        agent.put(3)
        agent.drained()
        broker.freeze()
        try:
            began_s = time.monotonic()
            while agent.sink.state()["connected"]:
                assert time.monotonic() - began_s < 30
                _sleep(0.01)
            found_s = time.monotonic() - began_s
        finally:
            broker.thaw()
        agent.put(100)
        counts = agent.drained(60)
    wrong = [] if found_s <= 15 else [f"found after {found_s:.1f} s"]
    if counts["acknowledged"] != 103:
        wrong.append(f"the account is {counts}")
    return Outcome(
        "frozen broker", "connection given up within 15 s", f"after {found_s:.1f} s; then all delivered", wrong
    )


def name_shared(folder: Path, seconds: float) -> Outcome:
    """Two agents of one name at one broker that does not say why it ends a connection."""
    with Mosquitto(folder) as broker:
        sinks = [mqtt.Config(url=broker.url).open("gate", FAREWELL) for _ in range(2)]
        try:
            said: set[str] = set()
            end_s = time.monotonic() + seconds
            while time.monotonic() < end_s:
                said |= {str(sink.state()["reason"]) for sink in sinks}
                _sleep(0.05)
            kicks = sum(sink.state()["reconnects"] for sink in sinks)
        finally:
            for sink in sinks:
                sink.close(1)
    reported = any("another client use" in reason for reason in said)
    wrong = [] if reported else [f"said was {said}"]
    if kicks > 8 + seconds / 10:
        wrong.append(f"{kicks} times")
    happened = f"{kicks} reconnects of both in {seconds:g} s, {'reported' if reported else 'not reported'}"
    return Outcome("two agents of one name", "reported, not fought over", happened, wrong)


def retained_restored(folder: Path) -> Outcome:
    """A broker that forgot everything hears all state again."""
    with Mosquitto(folder) as broker:
        sink = mqtt.Config(url=broker.url).open("gate", FAREWELL)
        try:
            sink.send(FAREWELL)
            assert sink.ready(5)
            broker.kill()
            broker.restart()
            with Subscriber(broker.observer_url, STATUS) as listener:
                began_s = time.monotonic()
                listener.wait_for_topic(STATUS, 20)
                took_s = time.monotonic() - began_s
        finally:
            sink.close(1)
    return Outcome("broker restarted, memory lost", "retained state said again", f"after {took_s:.1f} s")
