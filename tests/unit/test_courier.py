"""The courier between an outbox in memory and a sink that answers as it is told."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from agent.errors import Transient
from agent.events import Events
from agent.outbox import courier
from agent.outbox.outbox import Outbox
from agent.outbox.settings import EventsSection
from agent.publishing import Outlets
from agent.sinks import Answer, Message, Sink
from tests.support.agents import fake_model, settings_of
from tests.support.eventful import EventAgent, event
from tests.support.patience import PATIENCE_S

Answered = Callable[[Answer, str | None], None]
MODELS = {"colours": fake_model("classes")}
CAMERAS = {"dock": {"source": "synthetic:", "models": ["colours"]}}


class Scripted(Sink):
    """Takes `room` events at a time and keeps them until it is told what to answer."""

    name = "scripted"

    def __init__(self) -> None:
        self.taken: list[int] = []
        """Numbers in the order in which they were handed over."""
        self.pending: list[tuple[int, str | None, Answered]] = []
        self.answer: Callable[[int, str | None], Answer | None] = lambda _number, _camera: "acknowledged"
        """Event and camera -> what is answered at once; None: it is kept in `pending`."""
        self.open = True
        self.reconnects = 0
        self._changed = threading.Condition()

    def ready(self, timeout_s: float) -> bool:
        return True

    def send(self, message: Message) -> None:
        raise AssertionError(f"{message.topic}: a courier delivers")

    def deliver(self, message: Message, answered: Answered) -> None:
        payload: Any = message.payload
        with self._changed:
            if not self.open:
                raise Transient("closed")
            self.taken.append(payload.event_seq)
            answer = self.answer(payload.event_seq, payload.camera)
            if answer is None:
                self.pending.append((payload.event_seq, payload.camera, answered))
            self._changed.notify_all()
        if answer is not None:
            answered(answer, "not wanted" if answer == "refused" else None)

    def lose(self) -> None:
        """The connection ends: nothing is taken, and what is pending is lost, newest first."""
        with self._changed:
            self.open = False
            pending, self.pending = self.pending, []
        for _, _, answered in reversed(pending):
            answered("lost", "connection lost")

    def wait_for(self, wanted: Callable[[list[int]], Any], deadline_s: float = PATIENCE_S) -> list[int]:
        """What was taken, as soon as it is so."""
        with self._changed:
            assert self._changed.wait_for(lambda: wanted(self.taken), deadline_s), self.taken[-20:]
            return list(self.taken)

    def state(self) -> dict[str, Any]:
        return {"reconnects": self.reconnects}

    def close(self, deadline_s: float) -> None:
        """Nothing is held."""


@pytest.fixture
def opened() -> Iterator[Callable[..., tuple[EventAgent, Scripted]]]:
    """Agents that are closed after the test."""
    agents: list[EventAgent] = []

    def open_agent(**events: Any) -> tuple[EventAgent, Scripted]:
        sink = Scripted()
        agents.append(EventAgent("", events.pop("path", None), sink, **events))
        return agents[-1], sink

    yield open_agent
    for agent in agents:
        agent.close()


Open = Callable[..., tuple[EventAgent, Scripted]]


def test_what_is_acknowledged_is_gone_and_comes_once(opened: Open) -> None:
    """The account balances, in order."""
    agent, sink = opened()
    agent.put(200)
    counts = agent.drained()
    assert sink.taken == list(range(1, 201))
    assert counts["acknowledged"] == counts["made"] == 200
    assert agent.courier.counts() == {"under_way": 0, "aside": 0, "again": 0}


def test_what_was_lost_comes_again_in_order_before_anything_newer(opened: Open) -> None:
    """However the answers come in."""
    agent, sink = opened()
    sink.answer = lambda number, _camera: "acknowledged" if number <= 10 else None
    agent.put(30)
    sink.wait_for(lambda taken: len(taken) == 30)
    agent.put(20)
    sink.wait_for(lambda taken: len(taken) == 50)
    sink.answer = lambda _number, _camera: "acknowledged"
    sink.lose()
    agent.put(5)
    sink.open = True
    agent.drained()
    assert sink.taken == [*range(1, 51), *range(11, 56)]
    assert agent.courier.counts()["again"] == 40


def test_what_the_outbox_dropped_during_an_outage_is_not_delivered_after_all(opened: Open) -> None:
    """What is announced as a gap does not come, and what comes is not announced."""
    agent, sink = opened(keep=50)
    sink.open = False
    agent.put(200)
    agent.wait_for(lambda counts: counts["waiting"] <= 51 and counts["dropped"] >= 149)
    sink.open = True
    counts = agent.drained()
    assert len(sink.taken) == counts["acknowledged"] == counts["made"] - counts["dropped"]
    assert sink.taken == sorted(sink.taken)
    assert sink.taken[0] > counts["dropped"]


def test_a_refused_event_stays_and_blocks_nobody(opened: Open) -> None:
    """Not even its own camera; it is reported."""
    agent, sink = opened()
    sink.answer = lambda number, _camera: "refused" if number == 2 else "acknowledged"
    agent.put(10, "dock")
    counts = agent.wait_for(lambda counts: counts["acknowledged"] == 9)
    assert sink.taken == list(range(1, 11))
    assert counts["waiting"] == 1
    assert counts["refused"] == 1
    assert agent.courier.counts() == {"under_way": 0, "aside": 1, "again": 0}
    assert agent.outbox.state()["refused"] == {"mqtt": "event 2: not wanted"}


def test_refused_events_are_tried_again_when_the_sink_has_connected_again(
    opened: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One of each camera finds out; then the others follow in order."""
    monkeypatch.setattr(courier, "NOTICE_S", 0.01)
    agent, sink = opened()
    sink.answer = lambda _number, _camera: "refused"
    agent.put(3, "dock")
    agent.put(2, "gate")
    agent.wait_for(lambda counts: counts["refused"] == 5)
    sink.wait_for(lambda taken: len(taken) == 5)
    looked = threading.Event()
    state = sink.state

    def look() -> dict[str, Any]:
        looked.set()
        return state()

    monkeypatch.setattr(sink, "state", look)
    assert looked.wait(PATIENCE_S)
    sink.answer = lambda _number, camera: "refused" if camera == "gate" else "acknowledged"
    sink.reconnects += 1
    agent.wait_for(lambda counts: counts["acknowledged"] == 3 and counts["refused"] == 6)
    again = sink.taken[5:]
    assert [n for n in again if n <= 3] == [1, 2, 3]
    assert [n for n in again if n > 3] == [4]
    sink.answer = lambda _number, _camera: "acknowledged"
    sink.reconnects += 1
    agent.drained()
    assert agent.outbox.state()["refused"] == {}


def test_one_that_is_refused_for_ever_does_not_stand_before_the_others(
    opened: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A message that is too large, and one that was merely not allowed then."""
    monkeypatch.setattr(courier, "NOTICE_S", 0.0)
    monkeypatch.setattr(courier, "RETRY_S", 0.01)
    agent, sink = opened()
    sink.answer = lambda _number, _camera: "refused"
    agent.put(4, "dock")
    agent.wait_for(lambda counts: counts["refused"] >= 4)
    sink.answer = lambda number, _camera: "refused" if number == 1 else "acknowledged"
    counts = agent.wait_for(lambda counts: counts["acknowledged"] == 3)
    assert counts["waiting"] == 1


@pytest.mark.parametrize("policy", ["delete", "keep"])
def test_what_nobody_hears_is_deleted_or_kept_until_somebody_does(opened: Open, policy: str) -> None:
    """Kept, it comes as soon as a newer one of its camera is heard."""
    agent, sink = opened(no_subscriber=policy)
    sink.answer = lambda _number, _camera: "no_subscriber"
    agent.put(5, "dock")
    if policy == "delete":
        counts = agent.drained()
        assert counts["no_subscriber"] == counts["acknowledged"] == 5
        assert sink.taken == [1, 2, 3, 4, 5]
        return
    agent.wait_for(lambda counts: counts["refused"] == 5)
    assert agent.counts["waiting"] == 5
    assert agent.outbox.state()["refused"] == {"mqtt": "event 1: nobody listens"}
    sink.answer = lambda _number, _camera: "acknowledged"
    agent.put(1, "dock")
    agent.drained()
    assert sink.taken == [1, 2, 3, 4, 5, 6, 1, 2, 3, 4, 5]


def test_an_event_past_its_time_is_not_delivered(opened: Open) -> None:
    """It is counted as expired."""
    agent, sink = opened(expire="100ms")
    sink.open = False
    agent.put(3)
    counts = agent.wait_for(lambda counts: counts["expired"] >= 3)
    sink.open = True
    agent.put(1)
    sink.wait_for(bool)
    assert not set(sink.taken) & {1, 2, 3}
    assert counts["acknowledged"] == 0


def test_a_clock_that_is_set_costs_no_event(opened: Open, monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine without a battery learns the year when the network comes, with events that wait for it as well."""
    agent, sink = opened()
    sink.open = False
    agent.put(5)
    wall_ns = time.time_ns
    monkeypatch.setattr(time, "time_ns", lambda: wall_ns() + 10 * 365 * 86400 * 10**9)
    sink.open = True
    agent.drained()
    assert sink.taken == [1, 2, 3, 4, 5]


def test_a_file_that_another_agent_gives_back_late_is_delivered_too(opened: Open, tmp_path: Path) -> None:
    """Its numbers are lower than all that went before; what is put aside is not disturbed."""
    path = tmp_path / "events.db"
    other = Outbox(EventsSection(path=path), "gate", ["mqtt"])
    other.start()
    for n in range(3):
        other.put(event(n))
    agent, sink = opened(path=path)
    sink.answer = lambda number, _camera: "refused" if number == own else "acknowledged"
    own = agent.outbox.put(event(3))
    agent.wait_for(lambda counts: counts["refused"] == 1)
    other.close(5)
    agent.wait_for(lambda counts: counts["acknowledged"] == 4)  # with the gap
    assert [n for n in sink.taken if n < 10] == [1, 2, 3]
    assert agent.outbox.find("mqtt", own) is not None
    assert agent.outbox.find("mqtt", 1) is None


def test_reasons_that_alternate_are_not_said_again_and_again(opened: Open, caplog: pytest.LogCaptureFixture) -> None:
    """Each camera's topic is refused in words of its own."""
    agent, sink = opened()
    sink.answer = lambda _number, _camera: "refused"
    monotone = sink.deliver

    def deliver(message: Message, answered: Answered) -> None:
        monotone(message, lambda answer, _reason: answered(answer, f"{message.topic} refused"))

    sink.deliver = deliver  # type: ignore[method-assign]
    for _ in range(10):
        agent.put(1, "dock")
        agent.put(1, "gate")
    agent.wait_for(lambda counts: counts["refused"] == 20)
    assert caplog.text.count("stays") == 2
    assert agent.outbox.state()["refused"] == {"mqtt": "event 1: dock/events refused"}


@pytest.mark.parametrize("policy", ["delete", "keep"])
def test_the_configuration_says_what_becomes_of_what_nobody_hears(policy: str) -> None:
    """All the way to the courier of a service."""
    sink = Scripted()
    sink.answer = lambda _number, _camera: "no_subscriber"
    settings = settings_of(events={"no_subscriber": policy}, models=MODELS, cameras=CAMERAS)
    events = Events(
        settings, {"mqtt": sink}, Outlets([]), on_state=lambda: None,
        new_outbox=lambda sinks: Outbox.in_memory("gate", sinks, settings.events),
    )  # fmt: skip
    events.start()
    events.outbox.put(event(1))
    sink.wait_for(bool)
    events.close()
    assert events.outbox.counts()["mqtt"]["waiting"] == (policy == "keep")


def test_a_stop_delivers_what_is_there_and_waits_for_its_answers(opened: Open) -> None:
    """The last words of incidents are put just before."""
    agent, sink = opened()
    agent.put(100)
    agent.close()
    assert sink.taken == list(range(1, 101))
    assert agent.counts["waiting"] == 0


@pytest.mark.parametrize("silent", [True, False])
def test_a_stop_does_not_wait_for_long(opened: Open, silent: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """For a sink that takes nothing, or takes it and never answers: what is left waits for the next start."""
    monkeypatch.setattr(courier, "LAST_WORDS_S", 0.3)
    agent, sink = opened()
    sink.open = not silent
    sink.answer = lambda _number, _camera: None
    agent.put(10)
    agent.close()  # raises after 5 s
    assert agent.counts["waiting"] == 10


def test_a_sink_without_bounds_is_not_handed_more_than_memory_should_hold(opened: Open) -> None:
    """The rest stays in the outbox."""
    agent, sink = opened()
    sink.answer = lambda _number, _camera: None
    agent.put(courier.MOST_UNDER_WAY + 500)
    sink.wait_for(lambda taken: len(taken) >= courier.MOST_UNDER_WAY)
    assert agent.courier.counts()["under_way"] == courier.MOST_UNDER_WAY
    with sink._changed:
        pending, sink.pending = sink.pending, []
        sink.answer = lambda _number, _camera: "acknowledged"
    for _, _, answered in pending:
        answered("acknowledged", None)
    agent.drained()


def test_events_of_no_camera_have_a_topic_of_the_agent(opened: Open) -> None:
    """`gap`, for one."""
    agent, sink = opened()
    topics: list[str] = []
    deliver = sink.deliver

    def noting(message: Message, answered: Answered) -> None:
        topics.append(message.topic)
        deliver(message, answered)

    sink.deliver = noting  # type: ignore[method-assign]
    agent.outbox.put(event(0))
    agent.outbox.put(event(1).model_copy(update={"camera": None}))
    agent.drained()
    assert topics == ["dock/events", "events"]
