"""The gate that keeps results from a broker that does not answer, on an invented clock."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.sinks._gate import ASK_EVERY_NS, IGNORED_NS, MILLISECOND_NS, OVERDUE_MAX_NS, OVERDUE_NS, Gate

MS = MILLISECOND_NS


def ask(gate: Gate, question: int, now_ns: int) -> None:
    """Hand a result over and ask about it."""
    gate.handed()
    assert gate.should_ask(now_ns)
    gate.asked(question, now_ns)


def test_open_until_an_answer_is_overdue_and_again_after_it() -> None:
    """The whole life of one question."""
    gate = Gate()
    ask(gate, 1, 100 * MS)
    assert gate.is_open(100 * MS + OVERDUE_NS)
    assert not gate.is_open(101 * MS + OVERDUE_NS)
    assert not gate.answered(1, 400 * MS)
    assert gate.is_open(400 * MS)


def test_questions_are_rare_and_one_at_a_time() -> None:
    """Not before 20 ms, not while one is unanswered, not without a result to ask about."""
    gate = Gate()
    assert not gate.should_ask(0)
    ask(gate, 1, 0)
    gate.handed()
    assert not gate.should_ask(ASK_EVERY_NS)
    gate.answered(1, 1 * MS)
    assert not gate.should_ask(ASK_EVERY_NS - 1)
    assert gate.should_ask(ASK_EVERY_NS)


def test_after_an_overdue_answer_the_buffers_must_be_empty() -> None:
    """Results that followed the late question may still be on their way: the next one asks about those."""
    gate = Gate()
    ask(gate, 1, 0)
    gate.handed()
    assert gate.answered(1, 300 * MS)
    gate.asked(2, 300 * MS)
    assert not gate.is_open(301 * MS)
    assert not gate.answered(2, 302 * MS)
    assert gate.is_open(302 * MS)


def test_a_stranger_s_answer_is_ignored() -> None:
    """An answer to a question of an older connection says nothing."""
    gate = Gate()
    ask(gate, 7, 0)
    assert not gate.answered(6, 1 * MS)
    assert gate.waiting


@given(st.lists(st.integers(0, 5_000), min_size=1, max_size=50))
def test_the_limit_stays_in_its_bounds_and_never_follows_a_growing_queue(trips_ms: list[int]) -> None:
    """Four times the shortest recent round trip, 50 ms to 1 s."""
    gate = Gate()
    for question, trip_ms in enumerate(trips_ms):
        now_ns = question * 20 * MS
        gate.asked(question, now_ns)
        gate.answered(question, now_ns + trip_ms * MS)
        assert OVERDUE_NS <= gate.limit_ns() <= OVERDUE_MAX_NS
    # 50 questions are less than one window.
    if len(trips_ms) < 50 and max(trips_ms) < 4_000:
        assert gate.limit_ns() == min(max(OVERDUE_NS, 4 * min(trips_ms) * MS), OVERDUE_MAX_NS)


@pytest.mark.parametrize(
    ("question", "packet", "ignored"), [(5, 6, True), (5, 4, False), (65535, 1, True), (1, 65535, False)]
)
def test_a_question_is_ignored_when_what_came_behind_it_is_answered(question: int, packet: int, ignored: bool) -> None:
    """Not when it came before, and not at once; packet ids begin again after 65535."""
    gate = Gate()
    gate.asked(question, 0)
    gate.acknowledged(packet)
    assert not gate.is_ignored(IGNORED_NS)
    assert gate.is_ignored(IGNORED_NS + 1) is ignored
    gate.answered(question, IGNORED_NS + 2)
    assert not gate.is_ignored(2 * IGNORED_NS + 3)
