"""The mailbox: newest wins, and every request is accounted for; who is next is in `test_shares`."""

from __future__ import annotations

import threading
import time
from collections import Counter

from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from agent.flow import Account, Mailbox, Outcome, Request
from agent.frame import Frame, Timestamp
from agent.sources.synthetic import picture

IMAGE = picture(0, 320, 64, "gray")


def request(camera: str, seq: int, ended, *, lossless: bool = False) -> Request:
    frame = Frame(camera, seq, Timestamp(seq, time.monotonic_ns(), "receive", seq), IMAGE)
    return Request((camera, "use"), frame, (None,), lossless, 10**9, ended)


class MailboxMachine(RuleBasedStateMachine):
    """Any order of offers and takes: the account is always right, and the newest of each camera is taken."""

    def __init__(self) -> None:
        super().__init__()
        self.mailbox = Mailbox()
        self.account = Account()
        self.seq = 0
        self.newest: dict[str, int] = {}
        self.order: list[str] = []

    def ended(self, _request: Request, outcome: Outcome) -> None:
        self.account.ended(outcome)

    @rule(camera=st.sampled_from("abc"))
    def offer(self, camera: str) -> None:
        self.seq += 1
        self.account.offered()
        self.mailbox.offer(request(camera, self.seq, self.ended))
        self.newest[camera] = self.seq
        if camera not in self.order:
            self.order.append(camera)

    @rule(limit=st.integers(1, 4))
    def take(self, limit: int) -> None:
        taken = self.mailbox.take(limit, 0)
        assert len(taken) == min(limit, len(self.order))
        for one in taken:
            assert one.frame.seq == self.newest.pop(one.key[0])
            self.order.remove(one.key[0])
            one.ended(one, "inferred")

    @invariant()
    def everything_is_counted(self) -> None:
        counts = self.account.counts()
        assert counts["waiting"] == len(self.order)
        assert counts["offered"] == sum(n for name, n in counts.items() if name != "offered")


TestMailbox = MailboxMachine.TestCase


@given(st.lists(st.sampled_from("ab"), max_size=30))
def test_requests_of_a_recording_are_never_replaced_and_stay_in_order(cameras) -> None:
    mailbox = Mailbox()
    for seq, camera in enumerate(cameras):
        mailbox.offer(request(camera, seq, lambda *_: None, lossless=True))
    taken: dict[str, list[int]] = {"a": [], "b": []}
    while batch := mailbox.take(2, 0):
        assert len({r.key for r in batch}) == len(batch)
        for one in batch:
            taken[one.key[0]].append(one.frame.seq)
    assert taken == {c: [s for s, camera in enumerate(cameras) if camera == c] for c in "ab"}


def test_a_replaced_request_is_told_and_keeps_its_place_in_line() -> None:
    outcomes: Counter[tuple[int, str]] = Counter()
    mailbox = Mailbox()
    for camera, seq in (("a", 1), ("b", 2), ("a", 3)):
        mailbox.offer(request(camera, seq, lambda r, outcome: outcomes.update([(r.frame.seq, outcome)])))
    assert outcomes == {(1, "replaced"): 1}
    assert [r.frame.seq for r in mailbox.take(2, 0)] == [3, 2]


def test_a_closed_mailbox_gives_out_what_waits_and_refuses_the_rest() -> None:
    outcomes: list[Outcome] = []
    mailbox = Mailbox()
    mailbox.offer(request("a", 1, lambda _, outcome: outcomes.append(outcome)))
    mailbox.close()
    mailbox.offer(request("b", 2, lambda _, outcome: outcomes.append(outcome)))
    assert outcomes == ["disabled"]
    assert not mailbox.drained
    assert len(mailbox.take(5, 1)) == 1
    assert mailbox.drained
    assert mailbox.take(5, 1) == []


def test_taking_waits_for_an_offer_and_lingers_for_a_batch() -> None:
    mailbox = Mailbox()
    taken: list[Request] = []
    taker = threading.Thread(target=lambda: taken.extend(mailbox.take(2, 5, linger_s=5)))
    taker.start()
    mailbox.offer(request("a", 1, lambda *_: None))
    mailbox.offer(request("b", 2, lambda *_: None))
    taker.join(4)
    assert [r.frame.seq for r in taken] == [1, 2]


def test_age_counts_from_the_monotonic_clock_and_recordings_have_none() -> None:
    now_ns = time.monotonic_ns()
    old = Frame("a", 0, Timestamp(10**18, now_ns - 2 * 10**9, "rtcp", 10**18), IMAGE)
    recorded = Frame("a", 0, Timestamp(0, 0, "file", None), IMAGE)
    assert Request(("a", "u"), old, (None,), False, 10**9, lambda *_: None).stale(now_ns)
    assert not Request(("a", "u"), recorded, (None,), True, 10**9, lambda *_: None).stale(now_ns)
