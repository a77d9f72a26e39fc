"""What every sink promises, whatever it writes to."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from paho.mqtt.enums import MQTTProtocolVersion

from agent.errors import Transient
from agent.messages import Blob, EventPayload, Payload
from agent.sinks import Message, Sink, SinkConfig, jsonl, memory, mqtt
from tests.support.answers import Answers
from tests.support.broker import Mosquitto, Subscriber
from tests.support.patience import PATIENCE_S
from tests.support.websocket_broker import WebsocketBroker, WebsocketBrokers

V311 = MQTTProtocolVersion.MQTTv311
FAREWELL = Message("status", Payload.model_validate({"state": "offline"}), retain=True)


class Counted(Payload):
    """A result as far as a sink is concerned."""

    n: int
    age_ms: float | None = None


def result(n: int, topic: str = "dock/people/detections", age_ns: int = 0, **fields: Any) -> Message:
    """A live result, good for a minute."""
    born_ns = time.monotonic_ns() - age_ns
    payload = Counted(n=n, age_ms=0.0)
    return Message(topic, payload, born_ns=born_ns, max_age_ns=60_000_000_000, **fields)


def state(n: int) -> Message:
    """What is retained, newest wins."""
    return Message("dock/status", Counted(n=n), retain=True)


@dataclass
class Case:
    """An open sink, and a way to read `(topic, data)` of everything that came out of it."""

    sink: Sink
    read: Callable[[int], list[tuple[str, dict[str, Any]]]]


def _lines(path: Path) -> list[tuple[str, dict[str, Any]]]:
    found = [json.loads(line) for line in path.read_text().splitlines()]
    return [(data.pop("topic"), data) for data in found]


@pytest.fixture(scope="module")
def websockets() -> Iterator[WebsocketBrokers]:
    with WebsocketBrokers() as brokers:
        yield brokers


def _broker(
    kind: str, folder: Path, websockets: WebsocketBrokers
) -> AbstractContextManager[Mosquitto | WebsocketBroker]:
    if kind == "mqtt-websocket":
        return websockets.broker()
    cannot = "retain_available false\nmax_qos 0\nmax_packet_size 5000\n" if kind == "mqtt-bare" else ""
    return Mosquitto(folder, extra=cannot)


@pytest.fixture(params=["mqtt", "mqtt-3.1.1", "mqtt-websocket", "mqtt-bare", "jsonl", "memory"])
def case(request: pytest.FixtureRequest, tmp_path: Path, websockets: WebsocketBrokers) -> Iterator[Case]:
    """Every kind of sink in turn."""
    if request.param == "jsonl":
        path = tmp_path / "out.jsonl"
        sink: Sink = jsonl.Config(path=path).open("gate", FAREWELL)
        yield Case(sink, lambda _count: _lines(path))
        sink.close(1)
    elif request.param == "memory":
        kept = memory.Config().open("gate", FAREWELL)
        yield Case(kept, lambda _count: [(f"sightwire/gate/{m.topic}", m.data) for m in kept.messages])
        kept.close(1)
    else:
        with (
            _broker(request.param, tmp_path, websockets) as broker,
            Subscriber(broker.observer_url, version=V311) as listener,
        ):
            settings = {"protocol": "3.1.1"} if "3.1.1" in request.param or "websocket" in request.param else {}
            sink = mqtt.Config.model_validate({"url": broker.url, **settings}).open("gate", FAREWELL)

            def read(count: int) -> list[tuple[str, dict[str, Any]]]:
                return [(m.topic, m.data) for m in listener.wait_for(lambda seen: len(seen) >= count)]

            yield Case(sink, read)
            sink.close(1)


def test_what_is_sent_comes_out_in_order_with_full_topics(case: Case) -> None:
    """Live messages and state arrive, each once, in order."""
    assert case.sink.ready(5)
    case.sink.send(state(0))
    for n in range(1, 20):
        assert case.sink.ready(5)
        case.sink.send(result(n))
    out = case.read(20)
    assert sorted(data["n"] for _, data in out) == list(range(20))
    live = [data["n"] for topic, data in out if topic == "sightwire/gate/dock/people/detections"]
    assert live == list(range(1, 20))
    assert ("sightwire/gate/dock/status", {"n": 0}) in out


def test_age_is_that_of_the_moment_of_sending(case: Case) -> None:
    """A result that waited says so."""
    assert case.sink.ready(5)
    case.sink.send(result(1, age_ns=250_000_000))
    ((_, data),) = case.read(1)
    assert 250 <= data["age_ms"] < 1000


def test_unicode_and_quotes_survive(case: Case) -> None:
    """Labels are people's words."""
    assert case.sink.ready(5)
    label = 'Café "Größe" ×3 🐕\n'
    case.sink.send(Message("dock/scene/classification", Payload.model_validate({"label": label})))
    ((_, data),) = case.read(1)
    assert data["label"] == label


def test_a_blob_travels_as_it_is_or_not_at_all(case: Case) -> None:
    """Where JSON is written there is no place for a picture's bytes, only for what there is to say of it."""
    assert case.sink.ready(5)
    picture = Blob(data=b'{"n": "\\u00ff"}', facts={"id": "0123abcd-dock-1"})
    case.sink.send(Message("dock/snapshot", picture))
    ((topic, data),) = case.read(1)
    assert topic == "sightwire/gate/dock/snapshot"
    told = {"id": "0123abcd-dock-1", "content_type": "image/jpeg", "bytes": len(picture.data)}
    assert data in ({"n": "\u00ff"}, told)
    assert (data == told) is (case.sink.name == "jsonl")


def test_state_counts_what_was_sent(case: Case) -> None:
    """`state()` is JSON and has the counters that status shows."""
    assert case.sink.ready(5)
    case.sink.send(result(1))
    said = json.loads(json.dumps(case.sink.state()))
    assert said["type"] == case.sink.name
    assert said["connected"] is True
    assert said["reason"] is None
    assert said["sent"] == 1
    assert said["bytes"] > 0


def test_close_twice_is_harmless(case: Case) -> None:
    """Whoever stops the agent may stop it again."""
    case.sink.close(1)
    case.sink.close(1)


@pytest.mark.parametrize("name", ["mqtt", "jsonl"])
def test_an_absent_target_is_a_state_and_not_an_error(name: str, tmp_path: Path) -> None:
    """Opening returns at once, state is reported, live results raise Transient."""
    configs: dict[str, SinkConfig] = {
        "mqtt": mqtt.Config(url="mqtt://127.0.0.1:1"),
        "jsonl": jsonl.Config(path=tmp_path / "missing" / "out.jsonl"),
    }
    began = time.monotonic()
    sink = configs[name].open("gate", FAREWELL)
    assert time.monotonic() - began < 1
    with pytest.raises(Transient):
        sink.send(result(1))
    deadline = time.monotonic() + PATIENCE_S
    while sink.state()["reason"] is None and time.monotonic() < deadline:
        sink.ready(0.01)
    assert sink.state()["connected"] is False
    assert sink.state()["reason"]
    sink.close(1)


def test_a_full_disk_is_counted_and_leaves_no_half_line(tmp_path: Path) -> None:
    """Nothing of the line that did not fit stays, and the next one that fits is whole."""
    resource = pytest.importorskip("resource")
    import signal

    path = tmp_path / "out.jsonl"
    sink = jsonl.Config(path=path).open("gate", FAREWELL)
    sink.send(result(1))
    size = path.stat().st_size
    old = resource.getrlimit(resource.RLIMIT_FSIZE)
    ignored = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (size + 20, old[1]))  # stands in for the end of the disk
        with pytest.raises(Transient, match="file too large"):
            sink.send(result(2))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, old)
        signal.signal(signal.SIGXFSZ, ignored)
    assert sink.state()["failed"] == 1
    sink.send(result(3))
    assert [data["n"] for _, data in _lines(path)] == [1, 3]
    assert sink.state()["reason"] is None
    sink.close(1)


def test_a_closed_pipe_is_transient(tmp_path: Path) -> None:
    """`sightwire run ... | head` costs results, not a traceback."""
    import os

    fifo = tmp_path / "pipe"
    os.mkfifo(fifo)
    reader = os.open(fifo, os.O_RDONLY | os.O_NONBLOCK)
    sink = jsonl.Config(path=fifo).open("gate", FAREWELL)
    sink.send(result(1))
    os.close(reader)
    with pytest.raises(Transient, match="broken pipe"):
        sink.send(result(2))
    assert sink.state()["failed"] == 1
    sink.close(1)


def event(n: int, camera: str = "dock", left_ns: int = 60_000_000_000, **data: Any) -> Message:
    """An event, good for a minute."""
    said = {"schema": "sightwire.event/1", "agent": "gate", "boot_id": "b0", "event_seq": n, "id": f"i-{n}",
            "kind": "line", "phase": "moment", "camera": camera, "captured_at": "2026-11-22T08:00:00Z",
            "data": data}  # fmt: skip
    payload = EventPayload.model_validate(said)
    return Message(f"{camera}/events", payload, qos=1, born_ns=time.monotonic_ns(), max_age_ns=left_ns)


def deliver(sink: Sink, message: Message, answers: Answers, n: int) -> None:
    """Hand it over as a courier does, who comes again where there is no room yet."""
    deadline = time.monotonic() + PATIENCE_S
    while True:
        try:
            return sink.deliver(message, answers.of(n))
        except Transient:
            assert time.monotonic() < deadline
            assert n not in answers.words


def test_events_are_delivered_in_order_and_each_is_answered_once(case: Case) -> None:
    """Between live results, which still come out."""
    assert case.sink.ready(5)
    answers = Answers()
    for n in range(50):
        deliver(case.sink, event(n), answers, n)
        if n % 10 == 0 and case.sink.ready(5):
            case.sink.send(result(n))
    answers.wait_for(lambda given: len(given) == 50)
    assert answers.words == dict.fromkeys(range(50), "acknowledged")
    out = case.read(55)
    assert [data["event_seq"] for topic, data in out if topic == "sightwire/gate/dock/events"] == list(range(50))
    assert [data["n"] for topic, data in out if topic == "sightwire/gate/dock/people/detections"] == [0, 10, 20, 30, 40]


def test_an_event_s_content_comes_out_as_it_went_in(case: Case) -> None:
    """Whatever people call their zones."""
    answers = Answers()
    deliver(case.sink, event(1, label='Café "Größe" ×3 🐕\n'), answers, 1)
    ((topic, data),) = case.read(1)
    assert topic == "sightwire/gate/dock/events"
    assert data["data"]["label"] == 'Café "Größe" ×3 🐕\n'
    assert data["schema"] == "sightwire.event/1"
    answers.wait_for(lambda given: given == [(1, "acknowledged", None)])


def test_after_close_no_event_is_taken(case: Case) -> None:
    """So it stays where it is; and what had been taken was answered."""
    answers = Answers()
    deliver(case.sink, event(1), answers, 1)
    case.sink.close(2)
    assert answers.words == {1: "acknowledged"}
    if case.sink.name == "mqtt":
        with pytest.raises(Transient):
            case.sink.deliver(event(2), answers.of(2))
        assert answers.words == {1: "acknowledged"}


@pytest.mark.parametrize("name", ["mqtt", "jsonl"])
def test_an_absent_target_takes_no_event_and_gives_no_answer(name: str, tmp_path: Path) -> None:
    """Transient says that the event is still whoever's it was."""
    configs: dict[str, SinkConfig] = {
        "mqtt": mqtt.Config(url="mqtt://127.0.0.1:1"),
        "jsonl": jsonl.Config(path=tmp_path / "missing" / "out.jsonl"),
    }
    sink, answers = configs[name].open("gate", FAREWELL), Answers()
    with pytest.raises(Transient):
        sink.deliver(event(1), answers.of(1))
    sink.close(1)
    assert answers.given == []
