"""The outbox against a model: whatever is put, settled, refused, killed and begun again."""

from __future__ import annotations

import shutil
import tempfile
from collections import defaultdict
from pathlib import Path

from hypothesis import Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from agent.outbox.settings import EventsSection
from tests.support.outbox import ByHand, event, lawful

SINKS = ("mqtt", "jsonl")


class Machine(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.folder = Path(tempfile.mkdtemp())
        self.files = 0
        self.n = 0
        self.put: dict[int, int] = {}
        """Number -> what, of what was put."""
        self.committed = 0
        self.got: dict[str, dict[int, object]] = defaultdict(dict)
        self.told: dict[str, dict[int, dict[str, int]]] = defaultdict(dict)
        """Sink -> number of a gap -> what it says."""
        self.settled: dict[str, set[int]] = defaultdict(set)

    @initialize(keep=st.integers(4, 12))
    def begin(self, keep: int) -> None:
        self.keep = keep
        self.open()

    def open(self) -> None:
        path = self.folder / str(self.files) / "events.db"
        self.outbox = ByHand(EventsSection(path=path, keep=self.keep), "gatehouse", SINKS)
        self.outbox.start()
        self.newest = self.outbox._ledger.next_seq - 1

    @rule(phase=st.sampled_from(["moment", "start", "update", "end"]), incident=st.integers(0, 3))
    def put_event(self, phase: str, incident: int) -> None:
        self.n += 1
        number = self.outbox.put(event(incident, phase, score=float(self.n)))
        assert number == self.newest + 1
        self.newest = number
        self.put[number] = self.n

    @rule()
    def write(self) -> None:
        self.outbox.write()
        self.newest = self.outbox._ledger.next_seq - 1
        self.committed = self.newest

    @rule(sink=st.sampled_from(SINKS), limit=st.integers(1, 9), settle=st.integers(0, 9))
    def deliver(self, sink: str, limit: int, settle: int) -> None:
        found = self.outbox.next(sink, 0, limit, 0.0)
        assert [stored.seq for stored in found] == sorted({stored.seq for stored in found})
        for position, stored in enumerate(found):
            assert stored.seq <= self.committed, "handed out before it was committed"
            assert stored.seq not in self.settled[sink] or self.files
            before = self.got[sink].setdefault(stored.seq, stored.event)
            assert before == stored.event, "one number, two events"
            if stored.event.kind == "gap":
                if sink in stored.event.data["sinks"]:
                    self.told[sink][stored.seq] = stored.event.data
            elif stored.seq in self.put:
                assert stored.event.score == self.put[stored.seq]
            if position < settle:
                self.outbox.settle(sink, stored.seq, "acknowledged")
                self.settled[sink].add(stored.seq)

    @rule(sink=st.sampled_from(SINKS))
    def refuse(self, sink: str) -> None:
        for stored in self.outbox.next(sink, 0, 1, 0.0):
            self.outbox.refused(sink, stored.seq, "no")

    @rule()
    def end_and_begin(self) -> None:
        self.write()
        self.outbox._end()
        self.begin_again()

    @precondition(lambda self: self.files < 5)
    @rule()
    def kill(self) -> None:
        """What is on the disk at this moment is all that is left."""
        left = self.folder / str(self.files)
        self.files += 1
        shutil.copytree(left, self.folder / str(self.files))
        self.outbox._store.close()
        self.put = {number: n for number, n in self.put.items() if number <= self.committed}
        self.begin_again()

    def begin_again(self) -> None:
        self.open()
        # Ends of what was left open are put at once; nothing that was committed is numbered again.
        assert self.newest >= self.committed

    @invariant()
    def law_holds(self) -> None:
        if hasattr(self, "outbox"):
            assert lawful(self.outbox)
            assert self.outbox.standing()["waiting"] <= self.keep

    def teardown(self) -> None:
        if not hasattr(self, "outbox"):
            return
        self.write()
        for sink in SINKS:
            for _ in range(100):
                before = len(self.got[sink]), len(self.settled[sink])
                self.deliver(sink, 500, 500)
                self.write()
                if before == (len(self.got[sink]), len(self.settled[sink])):
                    break
            # Every number was acknowledged, or is told of by a gap that was.
            missing = set(range(1, self.committed + 1)) - self.settled[sink]
            told = [gap for number, gap in self.told[sink].items() if number in self.settled[sink]]
            untold = {number for number in missing if not any(gap["from"] <= number <= gap["to"] for gap in told)}
            assert not untold, (sink, self.told[sink], self.committed, self.outbox.counts())
            assert sum(gap["count"] for gap in told) >= len(missing)
            if not self.files:  # else answers were forgotten, and what was answered may have been lost after all
                assert sum(gap["count"] for gap in told) == len(missing)
            assert self.outbox.counts()[sink]["waiting"] == 0
        self.outbox._end()
        shutil.rmtree(self.folder)


TestOutbox = Machine.TestCase
# Without shrinking: each step touches the disk.
TestOutbox.settings = settings(max_examples=12, stateful_step_count=30, deadline=None, phases=[Phase.generate])
