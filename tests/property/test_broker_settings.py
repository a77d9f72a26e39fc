"""Broker URLs, settings, a proxy's answers and a broker's terms: whatever is in them, the outcome is one of two."""

from __future__ import annotations

import contextlib
import socket
import threading
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties
from pydantic import ValidationError

from agent.sinks import mqtt
from agent.sinks._address import parse_url
from agent.sinks._proxy import Proxy, ProxyError
from agent.sinks._terms import Terms
from tests.support.patience import PATIENCE_S

schemes = st.sampled_from(["mqtt", "mqtts", "ws", "wss"])
hosts = st.from_regex(r"[a-z0-9]([a-z0-9-]{0,8}[a-z0-9])?(\.[a-z]{2,5})?", fullmatch=True) | st.sampled_from(
    ["10.0.0.7", "[fe80::1]", "[::1]", "bröker.example"]
)
paths = st.from_regex(r"(/[a-zA-Z0-9._~%-]{1,8}){0,3}", fullmatch=True)


@given(schemes, hosts, st.none() | st.integers(1, 65535), paths)
def test_a_good_url_is_taken_apart_and_nothing_is_lost(scheme: str, host: str, port: int | None, path: str) -> None:
    """Paths belong to WebSockets."""
    url = f"{scheme}://{host}" + (f":{port}" if port else "") + path
    try:
        address = parse_url(url)
    except ValueError:
        assert path
        assert scheme in ("mqtt", "mqtts")
        return
    assert address.scheme == scheme
    assert address.host == host.strip("[]")
    assert address.port == (port or {"mqtt": 1883, "mqtts": 8883, "ws": 80, "wss": 443}[scheme])
    assert address.path == ((path or "/mqtt") if scheme in ("ws", "wss") else "")
    assert address.tls == (scheme in ("mqtts", "wss"))


@given(st.text(max_size=40) | st.tuples(schemes, st.text(max_size=30)).map("://".join))
@example("ws://h/a\r\nX: y")
@example("ws://h\t/a")
@example("mqtt://h..x")
@example("mqtt://" + "a" * 64)
@example("mqtt://[::1")
@example("mqtt://h:0")
@example("mqtt://h:99999")
@example("ws://h/ü")
@example("mqtt://\xa0")
def test_any_text_is_an_address_or_a_mistake(url: str) -> None:
    """What passes can go into a request line: no space, no control character, ASCII."""
    try:
        address = parse_url(url)
    except ValueError:
        return
    sent = f"{address.host.encode('idna').decode()}{address.path}"
    assert sent.isascii()
    assert not any(c <= " " for c in sent)
    assert 1 <= address.port <= 65535


@given(st.text(st.characters(blacklist_characters="@"), max_size=10), schemes)
def test_a_password_in_a_url_is_never_repeated(junk: str, scheme: str) -> None:
    """In no error, whatever else is wrong with the URL."""
    for url in (f"{scheme}://me:hush{junk}@host", f"{scheme}:me:hush{junk}@host", f"{scheme}://host/hush{junk}?{junk}"):
        with pytest.raises(ValidationError) as caught:
            mqtt.Config.model_validate({"url": url, "proxy": url})
        assert "hush" not in str(caught.value)


NAMES = sorted(mqtt.Config.model_fields)
VALUES = st.one_of(
    st.none(), st.booleans(), st.integers(-5, 10**6), st.floats(), st.text(max_size=12),
    st.sampled_from(["mqtts://h", "ws://h", "5", "auto", "ping", "credential:x", "http://h:1"]),
    st.lists(st.text(max_size=5), max_size=2), st.dictionaries(st.text(max_size=5), st.text(max_size=5), max_size=2),
)  # fmt: skip


@given(st.dictionaries(st.sampled_from(NAMES), VALUES, max_size=6))
@settings(max_examples=150)
def test_any_settings_are_a_config_or_a_mistake(values: dict[str, Any]) -> None:
    """Nothing but ValidationError; and a config that passed can say where to connect, less its files."""
    try:
        config = mqtt.Config.model_validate({"url": "mqtt://h", **values})
    except ValidationError:
        return
    assert parse_url(config.url).port
    if not (config.ca or config.cert):
        assert config.endpoint().address == parse_url(config.url)


@given(st.sampled_from(["http", "socks5"]), st.binary(max_size=40), st.booleans())
@example("http", b"HTTP/1.1 200 OK\r\n\r\n", False)
@example("http", b"HTTP/1.1 \r\n\r\n", False)
@example("http", b"\r\n\r\n", False)
@example("http", b"HTTP/1.1 \xb2\xb2 x\r\n\r\n", False)
@example("socks5", b"\x05\x00\x05\x00\x00\x01" + bytes(6), False)
@example("socks5", b"\x05\x02\x01\x00\x05\x00\x00\x03\x00\x00\x00", True)
@settings(max_examples=60, deadline=None)
def test_whatever_a_proxy_answers_it_is_a_connection_or_a_line(scheme: str, answer: bytes, login: bool) -> None:
    """Never another exception, and never a wait: the proxy here says its piece and is done."""

    def serve() -> None:
        peer, _ = server.accept()
        with peer, contextlib.suppress(OSError):
            peer.sendall(answer)
            peer.shutdown(socket.SHUT_WR)
            while peer.recv(4096):
                pass

    with socket.create_server(("127.0.0.1", 0)) as server:
        thread = threading.Thread(target=serve)
        thread.start()
        way: dict[str, Any] = {"url": f"{scheme}://127.0.0.1:{server.getsockname()[1]}"}
        if login:
            way |= {"username": "me", "password": "hush"}
        said = "connected"
        try:
            Proxy.model_validate(way).connect("broker.example", 8883, 5.0).close()
        except ProxyError as error:
            said = str(error)
        finally:
            thread.join(PATIENCE_S)
        assert "\n" not in said
        assert "hush" not in said


limits = st.fixed_dictionaries(
    {},
    optional={
        "RetainAvailable": st.integers(0, 1),
        "MaximumQoS": st.integers(0, 1),
        "MaximumPacketSize": st.integers(1, 2**28 - 1),
        "ServerKeepAlive": st.integers(0, 65535),
        "ReceiveMaximum": st.integers(1, 65535),
    },
)


@given(st.booleans(), st.booleans(), st.integers(0, 1), st.none() | st.integers(256, 10**6), limits)
@settings(max_examples=50)
def test_a_broker_can_only_take_away(
    retain: bool, will: bool, max_qos: int, packet: int | None, said: dict[str, int]
) -> None:
    """What is set off stays off, and each limit is said in one sentence."""
    wanted = Terms(retain, will, max_qos, packet)
    properties = Properties(PacketTypes.CONNACK)
    for name, value in said.items():
        setattr(properties, name, value)
    terms = wanted.less("5", properties)
    assert terms.retain <= retain
    assert terms.will == will
    assert terms.max_qos <= max_qos
    assert packet is None or (terms.max_packet_bytes or 0) <= packet
    sentences = terms.limits(wanted)
    assert len(sentences) == sum(
        (not terms.retain, not will, terms.max_qos < 1, terms.max_packet_bytes is not None, terms.keepalive_s != 10)
    )
    assert all("\n" not in sentence for sentence in sentences)
