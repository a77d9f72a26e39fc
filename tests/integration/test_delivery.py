"""Events over MQTT: what a broker answers, what a lost connection costs, and who shares a name."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from agent.errors import Transient
from agent.sinks import Message, _link, mqtt
from agent.sinks.dialects import Dialect, Said
from tests.support.answers import Answers
from tests.support.asyncapi_specs import user_properties
from tests.support.broker import Mosquitto, Subscriber, free_port
from tests.support.eventful import EventAgent, Hearer
from tests.support.eventful import event as new_event
from tests.support.fake_broker import FakeBroker, Rules
from tests.support.patience import PATIENCE_S
from tests.support.publishing import STATUS, reached, result, status

Open = Callable[..., mqtt.MqttSink]
EVENTS = "sightwire/gate/dock/events"


def event(n: int, left_s: float = 60.0, size: int = 0) -> Message:
    """As a courier hands it over."""
    payload = new_event(n, "dock").model_copy(update={"boot_id": "b0", "event_seq": n})
    if size:
        payload = payload.model_copy(update={"data": {"x": "y" * size}})
    return Message("dock/events", payload, qos=1, born_ns=time.monotonic_ns(), max_age_ns=round(left_s * 1e9))


def delivered(sink: mqtt.MqttSink, message: Message, n: int, answers: Answers) -> None:
    """Come again while there is no room."""
    deadline = time.monotonic() + PATIENCE_S
    while True:
        try:
            return sink.deliver(message, answers.of(n))
        except Transient:
            assert time.monotonic() < deadline


def answer_of(sink: mqtt.MqttSink, message: Message) -> tuple[str, str | None]:
    """What becomes of one event."""
    answers = Answers()
    delivered(sink, message, 0, answers)
    answers.wait_for(bool)
    return answers.given[0][1:]


# -- what a broker answers


def test_an_event_says_in_its_properties_what_it_is(tmp_path: Path, opened: Open) -> None:
    """So that a reader knows a duplicate, and how long it is good for, without looking inside."""
    with Mosquitto(tmp_path) as broker, Subscriber(broker.observer_url) as listener:
        sink = opened(broker.url)
        assert answer_of(sink, event(7, left_s=30)) == ("acknowledged", None)
        got = listener.wait_for_topic(EVENTS)
        assert got.properties.ContentType == "application/json"
        assert got.properties.PayloadFormatIndicator == 1
        assert 25 <= got.properties.MessageExpiryInterval <= 30
        assert dict(got.properties.UserProperty) == {
            "schema": "sightwire.event/1",
            "agent": "gate",
            "boot_id": "b0",
            "event_seq": "7",
        }
        assert {name for name, _ in got.properties.UserProperty} == user_properties("event")
        assert got.data["event_seq"] == 7


def test_an_event_that_nobody_hears_is_told_in_protocol_5_only(tmp_path: Path, opened: Open) -> None:
    """And status says which of the two it is."""
    with Mosquitto(tmp_path) as broker:
        new, old = opened(broker.url), opened(broker.url, protocol="3.1.1", client_id="old")
        assert answer_of(new, event(1)) == ("no_subscriber", None)
        assert answer_of(old, event(1)) == ("acknowledged", None)
        assert new.state()["limits"] == []
        assert "whether anybody hears events is not told" in old.state()["limits"][0]


def test_an_event_that_the_access_list_forbids_is_refused_with_the_reason(tmp_path: Path, opened: Open) -> None:
    """The others pass."""
    with Mosquitto(tmp_path, acl="topic write sightwire/gate/status\n") as broker:
        sink = opened(broker.url)
        assert answer_of(sink, event(1)) == ("refused", f"publishing {EVENTS} refused: Not authorized")
        assert sink.state()["refused"] == 1
        assert sink.state()["connected"] is True


@pytest.mark.parametrize("code", [0x80, 0x87, 0x90, 0x97, 0x99])
def test_every_refusal_is_a_refusal(code: int, opened: Open) -> None:
    """Unspecified, not authorized, topic name, quota, payload format."""
    with FakeBroker(Rules(refuse={EVENTS: code})) as broker:
        answer, reason = answer_of(opened(broker.url), event(1))
        assert answer == "refused"
        assert reason is not None
        assert reason.startswith(f"publishing {EVENTS} refused: ")


def test_an_event_too_large_for_the_broker_is_refused_here(tmp_path: Path, opened: Open) -> None:
    """The broker would close the connection; up to the limit, properties and all, they pass."""
    with Mosquitto(tmp_path, extra="max_packet_size 2000\n") as broker, Subscriber(broker.observer_url) as listener:
        sink = opened(broker.url)
        assert sink.ready(5)
        answers = Answers()
        for size in range(1200, 2000, 20):
            delivered(sink, event(size, size=size), size, answers)
        answers.wait_for(lambda given: len(given) == 40)
        words = answers.words
        fit = [size for size, word in words.items() if word == "acknowledged"]
        assert 3 < len(fit) < 37
        assert {word for size, word in words.items() if size > max(fit)} == {"refused"}
        assert sink.state()["reconnects"] == 0
        listener.wait_for(lambda seen: len(seen) == len(fit))


def test_an_event_past_its_time_is_not_taken(tmp_path: Path, opened: Open) -> None:
    """The outbox has counted it by then."""
    with Mosquitto(tmp_path) as broker:
        sink, answers = opened(broker.url), Answers()
        assert sink.ready(5)
        with pytest.raises(Transient, match="older than its limit"):
            sink.deliver(event(1, left_s=-1), answers.of(1))
        assert answers.given == []


# -- dialects


class Twice(Dialect):
    """Says everything at two topics."""

    def say(self, message: Message, now_ns: int) -> list[Said]:
        """See Dialect."""
        payload = message.encode(now_ns)
        return [Said(f"one/{message.topic}", payload), Said(f"two/{message.topic}", payload)]


class Stumbling(Dialect):
    """Has a fault of its own."""

    def say(self, message: Message, now_ns: int) -> list[Said]:
        """See Dialect."""
        raise KeyError("label")


class Quiet(Dialect):
    """Has no word for anything."""

    def say(self, message: Message, now_ns: int) -> list[Said]:
        """See Dialect."""
        return []


def spoken(sink: mqtt.MqttSink, dialect: Dialect) -> mqtt.MqttSink:
    """The same sink in that dialect."""
    sink._voice._dialects = (dialect,)
    return sink


def test_an_event_of_several_messages_is_answered_when_all_of_them_are(opened: Open) -> None:
    """Refused if one is; unheard only if nobody hears any."""
    with FakeBroker() as broker:
        sink = spoken(opened(broker.url), Twice())
        for refusals, expected in (
            ({}, "acknowledged"),
            ({"two/dock/events": 0x10}, "acknowledged"),
            ({"one/dock/events": 0x10, "two/dock/events": 0x10}, "no_subscriber"),
            ({"one/dock/events": 0x97}, "refused"),
        ):
            broker.rules.refuse = refusals
            assert answer_of(sink, event(1))[0] == expected
        assert [m.topic for m in broker.published[-2:]] == ["one/dock/events", "two/dock/events"]


def test_a_dialect_without_a_word_for_an_event_settles_it_and_one_with_a_fault_refuses_it(opened: Open) -> None:
    """Neither stops the sink."""
    with FakeBroker() as broker:
        sink = spoken(opened(broker.url), Quiet())
        assert answer_of(sink, event(1)) == ("acknowledged", None)
        spoken(sink, Stumbling())
        assert answer_of(sink, event(1)) == ("refused", "dialect: cannot say dock/events: KeyError: 'label'")
        with pytest.raises(Transient, match="dialect"):
            sink.send(result(1))
        with pytest.raises(Transient, match="dialect"):
            sink.send(status(1))


def test_a_topic_that_mqtt_does_not_have_is_refused(opened: Open) -> None:
    """A wildcard, from a dialect that does not look."""

    class Wild(Dialect):
        def say(self, message: Message, now_ns: int) -> list[Said]:
            return [Said("a/+/b", message.encode(now_ns))]

    with FakeBroker() as broker:
        sink = spoken(opened(broker.url), Wild())
        answer, reason = answer_of(sink, event(1))
        assert (answer, str(reason)[:26]) == ("refused", "publishing 'a/+/b' refused")


def test_state_is_said_again_when_home_assistant_is_born(tmp_path: Path, opened: Open) -> None:
    """Not for an old birth message that the broker kept, and for nothing else that is said there."""
    with Mosquitto(tmp_path) as broker, Subscriber(broker.observer_url, STATUS) as listener:
        sink = opened(broker.url, home_assistant={"prefix": "ha"})
        sink.send(status(1))
        listener.wait_for_topic(STATUS)
        listener._client.publish("ha/status", "offline", qos=1)
        listener._client.publish("ha/status", "online", qos=1)
        listener.wait_for(lambda seen: len(seen) == 2)
        assert [m.data["n"] for m in listener.messages] == [1, 1]


# -- lost connections


def test_what_a_connection_takes_with_it_is_lost_once_each_and_said_before_anything_newer(opened: Open) -> None:
    """The next event is not taken before whoever delivers can have seen those answers."""
    with FakeBroker(Rules(acknowledge=False)) as broker:
        sink, answers = opened(broker.url), Answers()
        assert sink.ready(5)
        for n in range(5):
            delivered(sink, event(n), n, answers)
        broker.wait_for(lambda: len(broker.published) == 5)
        broker.rules.acknowledge = True
        broker.hang_up()
        answers.wait_for(lambda given: len(given) == 5)
        assert set(answers.words.values()) == {"lost"}
        assert sink.ready(10)
        with pytest.raises(Transient, match="connection lost"):
            sink.deliver(event(9), answers.of(9))
        assert len(answers.given) == 5
        delivered(sink, event(9), 9, answers)
        answers.wait_for(lambda given: given[-1] == (9, "acknowledged", None))


def test_closing_answers_what_is_under_way(opened: Open) -> None:
    """Nobody waits for ever."""
    with FakeBroker(Rules(acknowledge=False)) as broker:
        sink, answers = opened(broker.url), Answers()
        delivered(sink, event(1), 1, answers)
        broker.wait_for(lambda: broker.published)
        sink.close(0.2)
        assert answers.words == {1: "lost"}


def test_a_broker_that_never_acknowledges_an_event_is_left_and_asked_again(
    opened: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Though it answers everything else."""
    monkeypatch.setattr(mqtt, "UNHEARD_NS", 100_000_000)
    with FakeBroker(Rules(acknowledge=False)) as broker:
        sink, answers = opened(broker.url), Answers()
        delivered(sink, event(1), 1, answers)
        answers.wait_for(lambda given: given == [(1, "lost", "connection lost")])
        reached(sink, lambda: sink.state()["reason"] == "broker does not acknowledge events")


def test_no_more_events_are_on_their_way_than_the_broker_takes(opened: Open) -> None:
    """And than the way to it: what one has no room for is told so."""
    with FakeBroker(Rules(receive_maximum=2)) as broker:
        sink, answers = opened(broker.url), Answers()
        for n in range(20):
            delivered(sink, event(n), n, answers)
        answers.wait_for(lambda given: len(given) == 20)
        assert broker.broken == []
        broker.rules.acknowledge = False
        delivered(sink, event(20), 20, answers)
        delivered(sink, event(21), 21, answers)
        with pytest.raises(Transient, match="not acknowledged yet"):
            sink.deliver(event(22), answers.of(22))


def test_a_frozen_broker_gets_a_few_events_and_no_pile(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """They arrive after the thaw, once each and in order, with nothing lost."""
    monkeypatch.setattr(mqtt, "HEARTBEAT_NS", 200_000_000)
    with Mosquitto(tmp_path) as broker, Hearer(broker.observer_url) as hearer:
        with EventAgent(broker.url, None) as agent:
            agent.put(10)
            agent.drained()
            broker.freeze()
            try:
                agent.put(500)
                agent.wait_for(lambda counts: counts["made"] == 510)
                reached(agent.sink, lambda: agent.sink.state()["reason"] == "broker does not answer")  # type: ignore[arg-type]
                assert agent.courier.counts()["under_way"] <= 20
            finally:
                broker.thaw()
            agent.drained()
        account = hearer.wait_until(lambda account: account.arrived >= 510)
        assert (account.missing, account.duplicates, account.faults) == (0, 0, [])


def test_events_reach_a_broker_that_asks_for_certificates(tmp_path: Path) -> None:
    """TLS with one of our own, before and after the broker was killed."""
    with Mosquitto(tmp_path, client_certs=True) as broker, Hearer(broker.observer_url) as hearer:
        files = broker.certificates
        assert files
        config = mqtt.Config(url=broker.url, ca=files.ca, cert=files.client, key=files.client_key)
        with EventAgent("", None, config.open("gate", status(0))) as agent:
            agent.put(10)
            hearer.wait_until(lambda account: account.arrived == 10)
            broker.kill()
            agent.put(10)
            broker.restart()
            assert agent.drained()["acknowledged"] == 20
        assert hearer.account.faults == []


def test_pauses_between_tries_grow_and_are_never_the_same() -> None:
    """A hundred agents must not come back in the same moment."""
    for failures, most_s in ((0, 0.5), (1, 1.0), (3, 4.0), (6, 30.0), (50, 30.0)):
        pauses = [_link.pause_s(failures) for _ in range(100)]
        assert most_s / 2 <= min(pauses) < max(pauses) <= most_s
        assert len(set(pauses)) > 90
    assert 1 <= _link.pause_s(0, _link.NOT_AUTHORIZED) <= 2


# -- one name, two agents


def test_a_broker_that_says_who_took_our_name_is_left_alone_for_long(opened: Open) -> None:
    """MQTT 5 has a reason for it; the agent says it and does not take its name back at once."""
    with FakeBroker(Rules(tells_takeover=True)) as broker:
        first = opened(broker.url)
        assert first.ready(5)
        second = opened(broker.url)
        reached(first, lambda: first.state()["state"] == "refused")
        assert first.state()["reason"] == "another client uses our client_id"
        assert second.ready(5)
        assert _link.pause_s(0, _link.TAKEN_OVER) >= 30


def test_two_agents_of_one_name_do_not_throw_each_other_out_each_second(tmp_path: Path, opened: Open) -> None:
    """Mosquitto 2.0.11 does not say why; the newcomer yields after a few tries, and both say what may be wrong."""
    with Mosquitto(tmp_path) as broker:
        sinks = [opened(broker.url), opened(broker.url)]
        reached(sinks[0], lambda: any("another client use" in (s.state()["reason"] or "") for s in sinks), 30)
        before = sum(sink.state()["reconnects"] for sink in sinks)
        quiet, last, changed_s = threading.Event(), before, time.monotonic()
        end_s = changed_s + 30
        while time.monotonic() < end_s and time.monotonic() - changed_s < 2:
            quiet.wait(0.05)
            now = sum(sink.state()["reconnects"] for sink in sinks)
            if now != last:
                last, changed_s = now, time.monotonic()
        assert time.monotonic() - changed_s >= 2, "no two seconds of peace"
        assert last <= 10


def test_a_port_where_nobody_listens_takes_no_events_and_loses_none(tmp_path: Path) -> None:
    """They wait on the disk, and are delivered by the next start."""
    path, made = tmp_path / "events.db", 30
    with EventAgent(f"mqtt://127.0.0.1:{free_port()}", path) as agent:
        agent.put(made)
        assert agent.counts["waiting"] == made
    with Mosquitto(tmp_path) as broker, Hearer(broker.observer_url) as hearer:
        with EventAgent(broker.url, path) as agent:
            counts: dict[str, Any] = agent.drained()
        assert counts["made"] == made
        account = hearer.wait_until(lambda account: account.arrived == made)
        assert (account.missing, account.duplicates, account.faults) == (0, 0, [])
