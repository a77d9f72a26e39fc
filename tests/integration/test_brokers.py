"""The MQTT sink with the brokers people have: what one cannot do is said and kept to, however it is reached."""

from __future__ import annotations

import contextlib
import json
import logging
import socket
import ssl
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from paho.mqtt.enums import MQTTProtocolVersion

from agent.commands._show import show
from agent.errors import Transient
from agent.messages import Payload
from agent.service import Service
from agent.sinks import Message, _gate, mqtt
from agent.sinks._client import BrokerClient
from tests.support.agents import fake_model, fake_store, settings_of
from tests.support.broker import Certificates, Mosquitto, Subscriber, free_port
from tests.support.fake_broker import FakeBroker, Publish, Rules
from tests.support.patience import PATIENCE_S
from tests.support.proxy import Proxy
from tests.support.publishing import FAREWELL, RESULTS, STATUS, reached, result, status
from tests.support.websocket_broker import WebsocketBrokers

Open = Callable[..., mqtt.MqttSink]


def limits(sink: mqtt.MqttSink) -> str:
    """What status says that this broker cannot do."""
    return "; ".join(sink.state()["limits"])


def sized(size: int) -> Message:
    """A live result of that size and a few bytes more."""
    payload = Payload.model_validate({"x": "y" * size})
    return Message("dock/people/detections", payload, born_ns=time.monotonic_ns(), max_age_ns=10**10)


# -- what brokers announce


def test_a_capable_broker_has_no_limits(tmp_path: Path, opened: Open) -> None:
    """Nothing is said where there is nothing to say."""
    with Mosquitto(tmp_path) as broker:
        sink = opened(broker.url)
        assert sink.ready(5)
        said = sink.state()
        assert (said["transport"], said["protocol"], said["limits"]) == ("tcp", "5", [])


def test_a_broker_without_retain_hears_the_state_again_and_again(
    tmp_path: Path, opened: Open, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """It refuses a retained will too; who comes late hears the state a little later."""
    monkeypatch.setattr(mqtt, "REPEAT_S", 0.3)
    with Mosquitto(tmp_path, extra="retain_available false\n") as broker:
        sink = opened(broker.url)
        sink.send(status(1))
        sink.send(status(2, "dock/status"))
        assert sink.ready(5), sink.state()
        with Subscriber(broker.observer_url) as late:
            assert late.wait_for_topic(STATUS).data["n"] == 1
            assert late.wait_for_topic("sightwire/gate/dock/status").data["n"] == 2
            assert not any(m.retain for m in late.messages)
            assert sink.ready(1)
            sink.send(result(3, retain=True))
            assert late.wait_for_topic(RESULTS).data["n"] == 3
        assert "no retain: state is repeated" in limits(sink)
        assert sink.state()["reconnects"] == 0
        assert "no retain" in caplog.text


def test_a_broker_without_qos_1_gets_qos_0(tmp_path: Path, opened: Open) -> None:
    """The will as well."""
    with Mosquitto(tmp_path, extra="max_qos 0\n") as broker, Subscriber(broker.observer_url, STATUS) as listener:
        sink = opened(broker.url)
        sink.send(status(1))
        listener.wait_for_topic(STATUS)
        answers: list[str] = []
        sink.deliver(
            Message("dock/events", Payload.model_validate({"n": 2}), qos=1), lambda answer, _why: answers.append(answer)
        )
        reached(sink, lambda: answers == ["acknowledged"])
        assert sink.ready(5)
        assert "no QoS 1" in limits(sink)
        assert sink.state()["reconnects"] == 0


def test_a_message_too_large_for_the_broker_is_refused_here(tmp_path: Path, opened: Open) -> None:
    """The broker would close the connection. Both kinds of messages are counted; small ones pass."""
    with Mosquitto(tmp_path, extra="max_packet_size 1000\n") as broker, Subscriber(broker.observer_url) as listener:
        sink = opened(broker.url)
        assert sink.ready(5)
        with pytest.raises(Transient, match="1010 bytes are too much"):
            sink.send(sized(1002))
        sink.send(Message("dock/status", Payload.model_validate({"x": "y" * 1002}), retain=True))
        sink.send(status(1))
        listener.wait_for_topic(STATUS)
        assert sink.ready(5)
        sink.send(result(1))
        listener.wait_for_topic(RESULTS)
        said = sink.state()
        assert said["refused"] == 2
        assert said["reconnects"] == 0
        assert "1000 bytes" in limits(sink)


def test_the_largest_message_that_is_sent_is_one_the_broker_takes(opened: Open) -> None:
    """Byte by byte up to the limit: what passes our check never breaks the broker's."""
    with FakeBroker(Rules(max_packet=400)) as broker:
        sink = opened(broker.url)
        sent = 0
        for size in range(280, 400):
            assert sink.ready(5)
            try:
                sink.send(sized(size))
                sent += 1
            except Transient:
                break
        broker.wait_for(lambda: len(broker.published) == sent)
        assert sent > 10
        assert broker.broken == []


def test_the_broker_s_keepalive_is_obeyed_and_said(opened: Open) -> None:
    """MQTT 5: the broker has the last word."""
    with FakeBroker(Rules(keepalive_s=77)) as broker:
        sink = opened(broker.url)
        assert sink.ready(5)
        assert limits(sink) == "keepalive 77 s by the broker's wish, instead of 10"


def test_no_more_is_on_its_way_than_the_broker_takes(opened: Open) -> None:
    """Thirty cameras, and a broker that takes two messages at a time."""
    with FakeBroker(Rules(receive_maximum=2)) as broker:
        sink = opened(broker.url)
        for n in range(30):
            sink.send(status(n, f"cam-{n}/status"))
        broker.wait_for(lambda: len(broker.published) >= 30)
        assert broker.broken == []


# -- what is set, where nothing is announced


def test_settings_keep_to_what_a_3_1_1_broker_can_do(opened: Open, monkeypatch: pytest.MonkeyPatch) -> None:
    """No retain, no QoS 1, no will, a largest message: all said in status."""
    monkeypatch.setattr(mqtt, "REPEAT_S", 0.1)
    rules = Rules(versions=(4,), retain=False, max_qos=0, will=False, max_packet=500)
    with FakeBroker(rules) as broker:
        sink = opened(broker.url, protocol="3.1.1", retain=False, max_qos=0, will=False, max_packet_bytes=500)
        sink.send(status(1))
        broker.wait_for(lambda: len(broker.published) >= 3)
        with pytest.raises(Transient, match="too much"):
            sink.send(sized(600))
        assert broker.broken == []
        assert not broker.connects[-1].will
        for words in ("no will", "no retain", "no QoS 1", "500 bytes", "MQTT 3.1.1"):
            assert words in limits(sink)


def test_without_a_will_state_expires(opened: Open, monkeypatch: pytest.MonkeyPatch) -> None:
    """So that the status of an agent that vanished does not stand for ever; while it lives it is repeated."""
    monkeypatch.setattr(mqtt, "REPEAT_S", 0.1)
    with FakeBroker() as broker:
        sink = opened(broker.url, will=False)
        sink.send(status(1))
        broker.wait_for(lambda: len(broker.published) >= 3)
        assert all(m.retain and m.expiry_s == 30 for m in broker.published)
        assert "no will" in limits(sink)


def test_a_broker_that_takes_no_will_is_a_state_with_advice(opened: Open) -> None:
    """MQTT 3.1.1 brokers just close: the reason names the settings that may help."""
    with FakeBroker(Rules(versions=(4,), will=False)) as broker:
        sink = opened(broker.url, protocol="3.1.1")
        reached(sink, lambda: sink.state()["reason"])
        assert "client_id, will or retain" in sink.state()["reason"]


@pytest.mark.parametrize("version", ["5", "3.1.1"])
def test_a_client_name_that_is_refused_is_named(opened: Open, version: str) -> None:
    """Some brokers take 23 letters and digits, or names of a pattern."""
    with FakeBroker(Rules(code=0x85 if version == "5" else 2)) as broker:
        sink = opened(broker.url, protocol=version)
        reached(sink, lambda: sink.state()["state"] == "refused")
        assert "the client name is 'sightwire-gate': set another client_id" in sink.state()["reason"]


def test_a_name_with_the_wrong_beginning_is_refused_by_mosquitto(tmp_path: Path, opened: Open) -> None:
    """It says no more than `Not authorized`; we say what to look at."""
    with Mosquitto(tmp_path, extra="clientid_prefixes cam-\n") as broker:
        sink = opened(broker.url)
        reached(sink, lambda: sink.state()["state"] == "refused")
        assert "check username, password and client_id" in sink.state()["reason"]
        assert opened(broker.url, client_id="cam-1").ready(5)


@pytest.mark.parametrize("version", ["5", "3.1.1"])
def test_an_empty_name_lets_the_broker_choose(tmp_path: Path, opened: Open, version: str) -> None:
    """Two agents without a name do not throw each other out."""
    with Mosquitto(tmp_path) as broker:
        first, second = (opened(broker.url, client_id="", protocol=version) for _ in range(2))
        assert first.ready(5)
        assert second.ready(5)
        assert first.state()["connected"]
        assert second.state()["connected"]


def test_a_broker_of_3_1_1_that_hangs_up_on_protocol_5_is_found_out(opened: Open) -> None:
    """At once, and for good."""
    with FakeBroker(Rules(versions=(4,))) as broker:
        sink = opened(broker.url)
        assert sink.ready(5)
        assert sink.state()["protocol"] == "3.1.1"
        assert limits(sink).startswith("MQTT 3.1.1: ")


def test_what_is_not_understood_is_a_state_and_tried_again(opened: Open, monkeypatch: pytest.MonkeyPatch) -> None:
    """Paho raises for some packets; the link lives on."""
    with FakeBroker() as broker, monkeypatch.context() as patch:

        def stumble(_client: object) -> None:
            raise IndexError("bytearray index out of range")

        patch.setattr(BrokerClient, "_handle_connack", stumble)
        sink = opened(broker.url, protocol="5")
        reached(sink, lambda: sink.state()["reason"])
        assert sink.state()["reason"] == "what the broker says is not understood (IndexError)"
        patch.undo()
        assert sink.ready(5)


# -- questions


@pytest.mark.parametrize("how", ["close", "ignore"])
def test_a_broker_that_answers_no_unsubscribe_is_asked_by_ping(
    opened: Open, monkeypatch: pytest.MonkeyPatch, how: Any
) -> None:
    """Whether it closes the connection for it or keeps quiet: results flow."""
    monkeypatch.setattr(_gate, "IGNORED_NS", 200_000_000)
    with FakeBroker(Rules(unsubscribe=how)) as broker:
        sink = opened(broker.url)
        sink.send(status(1))
        reached(sink, lambda: "PINGREQ" in limits(sink))
        assert sink.ready(5)
        for n in range(20):
            assert sink.ready(1)
            sink.send(result(n))
        broker.wait_for(lambda: sum(m.topic == RESULTS for m in broker.published) == 20)
        reached(sink, lambda: sink.state()["round_trip_ms"] is not None)
        assert broker.questions.count("unsubscribe") <= 2


def test_a_ping_that_is_overdue_stops_the_results(opened: Open) -> None:
    """The same gate, whatever the question."""
    with FakeBroker() as broker:
        sink = opened(broker.url, probe="ping")
        assert sink.ready(5)
        broker.rules.ping = "ignore"
        taken = 0
        while sink.ready(0.3):
            with contextlib.suppress(Transient):  # overdue since: a busy machine took longer than `ready` promises
                sink.send(result(taken))
            taken += 1
        assert "unsubscribe" not in broker.questions
        assert limits(sink) == ""


# -- ways to the broker


def tls_server(files: Certificates, alpn: list[str]) -> ssl.SSLContext:
    """A server's context that chooses from these names."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(files.server, files.server_key)
    context.set_alpn_protocols(alpn)
    return context


@pytest.mark.parametrize(
    ("alpn", "chosen"), [("x-amzn-mqtt-ca", "x-amzn-mqtt-ca"), (["a", "mqtt"], "mqtt"), ([], None)]
)
def test_tls_announces_the_protocol_that_is_set(tmp_path: Path, opened: Open, alpn: Any, chosen: str | None) -> None:
    """How a cloud tells MQTT from HTTPS on port 443."""
    files = Certificates.make(tmp_path)
    with FakeBroker(Rules(tls=tls_server(files, ["x-amzn-mqtt-ca", "mqtt"]))) as broker:
        sink = opened(broker.url, ca=files.ca, alpn=alpn)
        assert sink.ready(5), sink.state()
        assert broker.connects[-1].alpn == chosen
        assert sink.state()["transport"] == "tls"


@pytest.mark.parametrize("encrypted", [False, True])
def test_a_websocket_carries_the_same(tmp_path: Path, opened: Open, encrypted: bool) -> None:
    """Found to speak 3.1.1 through it as well; `watch` takes the same address."""
    files = Certificates.make(tmp_path)
    certificate = (files.server, files.server_key) if encrypted else None
    with WebsocketBrokers(certificate) as brokers, brokers.broker() as broker:
        trust = {"ca": files.ca} if encrypted else {}
        with Subscriber(broker.observer_url, version=MQTTProtocolVersion.MQTTv311) as listener:
            sink = opened(broker.url, **trust)
            sink.send(status(1))
            assert sink.ready(10), sink.state()
            sink.send(result(2))
            assert listener.wait_for_topic(RESULTS).data["n"] == 2
            assert listener.wait_for_topic(STATUS).data["n"] == 1
            assert sink.state()["transport"] == ("wss" if encrypted else "ws")
        seen = show(broker.url, stop=threading.Event(), seconds=0.5, protocol="3.1.1", **trust)
        assert seen.connected, seen.reason


def test_what_is_no_websocket_is_said_and_headers_are_secrets(opened: Open, caplog: pytest.LogCaptureFixture) -> None:
    """A web server that knows no such path; it did get our header."""
    heard: list[bytes] = []

    def refuse() -> None:
        peer, _ = server.accept()
        with peer:
            heard.append(peer.recv(4096))
            peer.sendall(b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n")

    with caplog.at_level(logging.DEBUG), socket.create_server(("127.0.0.1", 0)) as server:
        thread = threading.Thread(target=refuse)
        thread.start()
        sink = opened(f"ws://127.0.0.1:{server.getsockname()[1]}/cloud", headers={"X-Token": "hush"})
        reached(sink, lambda: sink.state()["reason"])
        assert sink.state()["reason"] == "no MQTT over WebSocket there: check port, path and headers"
        thread.join(PATIENCE_S)
    assert heard[0].startswith(b"GET /cloud HTTP/1.1\r\n")
    assert b"X-Token: hush\r\n" in heard[0]
    assert "hush" not in caplog.text + str(sink.state()) + repr(vars(sink))


def test_a_header_of_two_lines_is_not_sent(tmp_path: Path, opened: Open, monkeypatch: pytest.MonkeyPatch) -> None:
    """It would be a header of its own."""
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(tmp_path))
    (tmp_path / "token").write_text("Bearer hush\nX-Other: 1\n")
    sink = opened(f"ws://127.0.0.1:{free_port()}", headers={"Authorization": "credential:token"})
    reached(sink, lambda: sink.state()["reason"])
    assert sink.state()["reason"] == "headers: Authorization: a value is one line, without control characters"


@pytest.mark.parametrize("scheme", ["http", "socks5"])
@pytest.mark.parametrize("login", [None, ("me", "hush:übel")])
def test_a_proxy_leads_to_the_broker(
    tmp_path: Path, opened: Open, scheme: str, login: tuple[str, str] | None, caplog: pytest.LogCaptureFixture
) -> None:
    """With TLS to the broker itself, whose name only the proxy resolves; and a password that nobody sees."""
    with caplog.at_level(logging.DEBUG), Mosquitto(tmp_path, tls=True) as broker, Proxy(login) as proxy:
        assert broker.certificates
        way: dict[str, Any] = {"url": f"{scheme}://127.0.0.1:{proxy.port}"}
        if login:
            (tmp_path / "secret").write_text(login[1])
            way |= {"username": login[0], "password_file": tmp_path / "secret"}
        url = f"mqtts://localhost:{broker.port}"
        with Subscriber(broker.observer_url) as listener:
            sink = opened(url, ca=broker.certificates.ca, proxy=way)
            assert sink.ready(5), sink.state()
            sink.send(result(1))
            listener.wait_for_topic(RESULTS)
        assert proxy.asked == [("localhost", broker.port)]
        assert "hush" not in caplog.text + str(sink.state()) + repr(vars(sink))
        sink.close(1)


@pytest.mark.parametrize("scheme", ["http", "socks5"])
def test_a_proxy_that_does_not_let_us_through_says_why(opened: Open, scheme: str) -> None:
    """Wrong password, no broker behind it, no proxy at all, something else."""
    good: dict[str, Any] = {"username": "me", "password": "hush"}
    with Proxy(("me", "hush")) as proxy, Proxy(answers=b"SSH-2.0-OpenSSH_9.2\r\n\r\n") as ssh:
        for port, login, words in (
            (proxy.port, {}, "proxy: wants a username and password, or other ones"),
            (proxy.port, {**good, "password": "hush-hush"}, "proxy: wants a username and password, or other ones"),
            (proxy.port, good, "proxy: refuses the connection: "),
            (free_port(), good, "proxy: connection refused"),
            (ssh.port, good, "proxy: does not speak "),
        ):
            way = {"url": f"{scheme}://127.0.0.1:{port}", **login}
            sink = opened(f"mqtt://127.0.0.1:{free_port()}", proxy=way)
            reached(sink, lambda sink=sink: sink.state()["reason"])
            assert sink.state()["reason"].startswith(words)
            sink.close(0)


# -- the end


@pytest.mark.parametrize("rules", [Rules(connack=False), Rules(quiet_tls=True), Rules(acknowledge=False)])
def test_close_keeps_its_deadline_with_a_broker_that_does_not_answer(rules: Rules) -> None:
    """Not to the connection, not to the handshake, not to a message."""
    with FakeBroker(rules) as broker:
        sink = mqtt.Config(url=broker.url).open("gate", FAREWELL)
        sink.send(status(1))
        if rules.connack and not rules.quiet_tls:
            broker.wait_for(lambda: broker.published)
        began_s = time.monotonic()
        sink.close(1)
        assert time.monotonic() - began_s < 2
        assert not sink._link._thread.is_alive()


def test_published_is_what_was_meant(opened: Open) -> None:
    """The broker that checks the others' tests is one itself: state QoS 1 retained, results QoS 0."""
    with FakeBroker() as broker:
        sink = opened(broker.url)
        sink.send(status(1))
        assert sink.ready(5)
        sink.send(result(2))
        broker.wait_for(lambda: len(broker.published) == 2)
        said = {m.topic: m for m in broker.published}
        assert isinstance(said[STATUS], Publish)
        assert (said[STATUS].qos, said[STATUS].retain, said[STATUS].expiry_s) == (1, True, None)
        assert (said[RESULTS].qos, said[RESULTS].retain, said[RESULTS].expiry_s) == (0, False, 2)


def test_the_agent_s_status_says_what_its_broker_cannot_do(tmp_path: Path) -> None:
    """To whoever reads it: over that broker, where else."""
    camera = {"source": {"type": "synthetic", "rate": 30}, "models": ["colours"]}
    with FakeBroker(Rules(retain=False)) as broker:
        settings = settings_of(
            mqtt={"url": broker.url}, models={"colours": fake_model("classes")}, cameras={"a": camera}
        )
        stop = threading.Event()
        agent = threading.Thread(target=Service(settings, fake_store(tmp_path)).run, args=(stop,))
        agent.start()

        def said() -> list[str]:
            found = [m.payload for m in broker.published if m.topic == f"sightwire/{settings.agent.name}/status"]
            return [line for payload in found for line in json.loads(payload)["sinks"]["mqtt"]["limits"]]

        try:
            broker.wait_for(said)
        finally:
            stop.set()
            agent.join(PATIENCE_S)
        assert said()[0].startswith("no retain: state is repeated")
        assert broker.broken == []
