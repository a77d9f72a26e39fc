"""Senders: newest of each topic, recordings whole, nothing late, everything counted."""

from __future__ import annotations

import threading
import time

import pytest

from agent.errors import Transient
from agent.messages import Payload
from agent.publishing import Outlets, Sender
from agent.sinks import Message, Sink
from tests.support.patience import PATIENCE_S


class Slow(Sink):
    """A sink that is ready when the test says so, and refuses what the test names."""

    name = "slow"

    def __init__(self, refused: tuple[str, ...] = ()) -> None:
        self.open = threading.Event()
        self.sent: list[Message] = []
        self._refused = refused

    def ready(self, timeout_s: float) -> bool:
        return self.open.wait(timeout_s)

    def send(self, message: Message) -> None:
        if message.topic in self._refused:
            raise Transient("not now")
        self.sent.append(message)

    def close(self, deadline_s: float) -> None:
        """Nothing to do."""


class Number(Payload):
    number: int


def message(topic: str, number: int, **more) -> Message:
    more = {"max_age_ns": 10**10, "born_ns": time.monotonic_ns()} | more
    return Message(topic, Number(number=number), **more)


def state(topic: str, number: int) -> Message:
    return Message(topic, Number(number=number), retain=True, qos=1)


def numbers(sink: Slow) -> list[tuple[str, int]]:
    return [(m.topic, m.payload.number) for m in sink.sent]


def run(sender: Sender, *messages: Message) -> Slow:
    """Put all, then open the sink, then wait for the end."""
    thread = threading.Thread(target=sender.run, args=(threading.Event(),))
    for one in messages:
        sender.put(one)
    thread.start()
    sender.sink.open.set()
    sender.close()
    thread.join(PATIENCE_S)
    assert not thread.is_alive()
    counts = sender.counts()
    assert counts["waiting"] == 0
    assert counts["made"] == sum(n for fate, n in counts.items() if fate != "made")
    return sender.sink


def test_the_newest_of_each_topic_is_sent_in_the_order_of_the_oldest() -> None:
    sender = Sender(Slow())
    sink = run(sender, message("a", 1), message("b", 2), message("a", 3), message("a", 4))
    assert numbers(sink) == [("a", 4), ("b", 2)]
    assert sender.counts()["replaced"] == 2


def test_recordings_are_sent_whole_and_in_order() -> None:
    sink = run(Sender(Slow()), *(message("ab"[n % 2], n, lossless=True) for n in range(9)))
    assert [n for topic, n in numbers(sink) if topic == "a"] == [0, 2, 4, 6, 8]
    assert [n for topic, n in numbers(sink) if topic == "b"] == [1, 3, 5, 7]


def test_state_goes_before_measurements_and_does_not_wait_for_the_sink_to_be_ready() -> None:
    sink = Slow()
    sender = Sender(sink)
    thread = threading.Thread(target=sender.run, args=(threading.Event(),))
    sender.put(message("result", 1))
    sender.put(state("status", 2))
    thread.start()
    deadline = time.monotonic() + PATIENCE_S
    while not sink.sent and time.monotonic() < deadline:
        threading.Event().wait(0.005)
    assert numbers(sink) == [("status", 2)]
    sink.open.set()
    sender.close()
    thread.join(PATIENCE_S)
    assert numbers(sink) == [("status", 2), ("result", 1)]


def test_what_is_too_old_is_dropped_and_counted_even_while_the_sink_is_not_ready() -> None:
    sender = Sender(Slow())
    thread = threading.Thread(target=sender.run, args=(threading.Event(),))
    thread.start()
    sender.put(message("a", 1, max_age_ns=10**6))
    deadline = time.monotonic() + PATIENCE_S
    while not sender.counts()["stale"] and time.monotonic() < deadline:
        threading.Event().wait(0.005)
    assert sender.counts()["stale"] == 1
    sender.close()
    thread.join(PATIENCE_S)
    assert sender.sink.sent == []


def test_a_refused_message_is_counted_as_failed_and_said_once(caplog: pytest.LogCaptureFixture) -> None:
    sender = Sender(Slow(refused=("a",)))
    sink = run(sender, *(message("a", n, lossless=True) for n in range(3)), message("b", 3))
    assert numbers(sink) == [("b", 3)]
    assert sender.counts()["failed"] == 3
    assert len([r for r in caplog.records if "not now" in r.message]) == 1


def test_a_message_is_settled_once_by_the_last_of_several_sinks() -> None:
    senders = [Sender(Slow()), Sender(Slow(refused=("a",)))]
    outlets, settled = Outlets(senders), []
    outlets.publish(message("a", 1), lambda: settled.append(1))
    run(senders[0])
    assert settled == []
    run(senders[1])
    assert settled == [1]
    outlets.publish(message("a", 2))


def test_without_sinks_a_message_is_settled_at_once() -> None:
    settled = []
    Outlets([]).publish(message("a", 1), lambda: settled.append(1))
    assert settled == [1]


def test_a_sink_that_comes_later_is_told_all_state_and_one_that_goes_nothing_more() -> None:
    first, late = Sender(Slow()), Sender(Slow())
    outlets = Outlets([first])
    for number in (1, 2):
        outlets.publish(state("status", number))
    outlets.publish(state("dock/status", 3))
    outlets.publish(message("dock/people/detections", 4))
    outlets.add(late)
    outlets.remove(first)
    outlets.publish(state("yard/status", 5))
    assert numbers(run(first)) == [("status", 2), ("dock/status", 3), ("dock/people/detections", 4)]
    assert numbers(run(late)) == [("status", 2), ("dock/status", 3), ("yard/status", 5)]


def test_what_brokers_keep_of_a_camera_is_cleared_and_nothing_else() -> None:
    sender = Sender(Slow())
    outlets = Outlets([sender])
    outlets.publish(state("dock/status", 1))
    outlets.publish(state("dock-2/status", 2))
    outlets.publish(message("dock/people/detections", 3, retain=True))
    outlets.publish(message("dock/people/classification", 4))
    outlets.clear("dock")
    late = Sender(Slow())
    outlets.add(late)
    assert numbers(run(late)) == [("dock-2/status", 2)]
    said = {m.topic: m for m in run(sender).sent}
    for topic in ("dock/status", "dock/people/detections"):
        assert (said[topic].encode(0), said[topic].retain) == (b"", True)
    assert said["dock/people/classification"].payload.number == 4


def test_what_comes_after_the_end_or_was_never_taken_has_failed() -> None:
    """So that nobody waits for it."""
    settled: list[str] = []
    sender = Sender(Slow())
    sender.put(message("a", 1, lossless=True, settled=lambda: settled.append("a")))
    sender.close()
    sender.put(message("b", 2, settled=lambda: settled.append("b")))
    sender.give_up()
    assert settled == ["b", "a"]
    assert sender.counts()["failed"] == 2
    assert sender.counts()["waiting"] == 0
