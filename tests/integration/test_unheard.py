"""The broker that a plan publishes to."""

from __future__ import annotations

import subprocess
import sys
import time
from typing import Literal

import pytest

from agent.messages import EventPayload, Payload
from agent.sinks import Message
from agent.sinks.mqtt import Config
from agent.unheard import Peer, unheard
from tests.support.answers import Answers
from tests.support.patience import PATIENCE_S

STATE = Payload.model_validate({"state": "offline"})
EVENT = EventPayload.model_validate(
    {"schema": "sightwire.event/1", "agent": "gate", "boot_id": "b0", "event_seq": 1, "id": "i", "kind": "line",
     "phase": "moment", "camera": "dock", "captured_at": "2026-11-22T08:00:00Z", "data": {}}
)  # fmt: skip


def message(payload: Payload, qos: int = 0, *, retain: bool = False) -> Message:
    age_ns = None if retain else 60_000_000_000
    return Message("dock/x", payload, qos=qos, retain=retain, born_ns=time.monotonic_ns(), max_age_ns=age_ns)


@pytest.mark.parametrize("protocol", ["5", "3.1.1"])
def test_it_takes_what_an_agent_says_and_acknowledges_events(protocol: Literal["5", "3.1.1"]) -> None:
    answers = Answers()
    with unheard() as url:
        sink = Config(url=url, protocol=protocol).open("gate", message(STATE, 1, retain=True))
        try:
            sink.send(message(STATE, 1, retain=True))
            for _ in range(20):
                assert sink.ready(PATIENCE_S), "it answers when it is asked whether it is there"
                sink.send(message(STATE))
            sink.deliver(message(EVENT, 1), answers.of(1))
            answers.wait_for(lambda given: given)
        finally:
            sink.close(PATIENCE_S)
    assert answers.words == {1: "acknowledged"}


def test_packets_that_come_in_pieces_are_answered_like_whole_ones() -> None:
    connect = b"\x10\x11\0\4MQTT\5\2\0\x0a\0\0\4gate"
    publish = b"\x32\xc9\1\0\1a\0\7\0" + bytes(195)  # its length takes two bytes
    said: list[bytes] = []

    class Wire:
        def write(self, data: bytes) -> None:
            said.append(data)

    for size in (1, 3, 1000):
        peer, stream = Peer(), connect + publish + b"\xc0\0"
        peer.connection_made(Wire())  # type: ignore[arg-type]
        for start in range(0, len(stream), size):
            peer.data_received(stream[start : start + size])
        assert said == [b"\x20\3\0\0\0", b"\x40\2\0\7", b"\xd0\0"]
        said.clear()


def test_it_ends_when_whoever_started_it_is_gone() -> None:
    child = subprocess.Popen([sys.executable, "-m", "agent.unheard"], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    with child:
        assert child.stdin is not None
        assert child.stdout is not None
        assert child.stdout.readline().startswith(b"READY mqtt://127.0.0.1:")
        child.stdin.close()
        assert child.wait(PATIENCE_S) == 0
