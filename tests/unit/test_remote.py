"""Commands before they act: what is read, what is remembered, what makes a request of a message."""

from __future__ import annotations

import json
import threading
from types import SimpleNamespace
from typing import Any, cast

import pytest
from hypothesis import given
from hypothesis import strategies as st
from paho.mqtt.client import MQTTMessage
from pydantic import BaseModel

from agent.camera import Camera
from agent.errors import Transient
from agent.flow import Mailbox
from agent.frame import Frame
from agent.publishing import Outlets, Sender
from agent.remote.acts import Acts, Standing
from agent.remote.answers import Answers, what, who
from agent.remote.payloads import MOST_BYTES, ReplyPayload, read
from agent.remote.remote import MOST_WAITING, Remote
from agent.remote.settings import CommandsSection
from agent.sinks import Request
from agent.sinks._inbox import LONGEST_CORRELATION, LONGEST_TOPIC, Inbox
from agent.sinks.memory import MemorySink
from agent.uses import Use
from tests.support.patience import PATIENCE_S

BASE = "sightwire/gate"


def reply(number: int) -> ReplyPayload:
    return ReplyPayload.model_construct(id=number)


def request(payload: bytes = b"", correlation: bytes | None = None, reply_to: str = "me") -> Request:
    return Request("command", payload, lambda _: None, reply_to=reply_to, correlation=correlation)


@given(st.binary(max_size=200) | st.text(max_size=200).map(str.encode))
def test_any_bytes_are_read_or_have_a_fault(payload: bytes) -> None:
    asked = read(payload)
    assert (asked.command is None) == (asked.fault is not None)


@given(st.recursive(st.none() | st.booleans() | st.integers() | st.floats() | st.text(), st.lists, max_leaves=5))
def test_no_value_of_any_kind_is_taken_for_another(value: Any) -> None:
    """A threshold is a number between 0 and 1, not what could be made one."""
    asked = read(json.dumps({"command": "set_threshold", "use": "people", "value": value}).encode())
    assert (asked.command is not None) == (type(value) is float and 0 < value < 1)


def test_what_is_wrong_is_said_in_a_line_that_names_the_key() -> None:
    for payload, words in (
        (b'{"command": "enable", "camra": "dock"}', "camra: unknown key"),
        (b'{"command": "set_threshold", "use": "a", "value": "0.5"}', "value: input should be a valid number"),
        (b'{"command": "set_threshold", "value": 0.5}', "use: field required"),
        (b'{"command": "stop"}', "'stop' is none; known: snapshot, enable, disable, set_threshold, reload"),
        (b" " * (MOST_BYTES + 1), f"a command has at most {MOST_BYTES}"),
        (b'{"command": "enable", "expires_at": "2026-01-01T00:00:00"}', "timezone"),
    ):
        asked = read(payload)
        assert asked.fault
        assert words in asked.fault.message
        assert "\n" not in asked.fault.message


def test_an_answer_is_remembered_for_a_while_and_only_so_many() -> None:
    now = [0.0]
    answers = Answers(most=2, keep_s=10, clock=lambda: now[0])
    for number in range(3):
        answers.keep(bytes([number]), b"same", reply(number))
    assert [answers.given(bytes([n]), b"same") for n in range(3)] == [None, reply(1), reply(2)]
    with pytest.raises(ValueError, match="another request"):
        answers.given(b"\x02", b"other")
    now[0] = 11
    assert answers.given(b"\x02", b"other") is None
    assert len(answers) == 0


def test_requests_are_told_apart_by_where_they_are_answered_and_by_correlation_or_id() -> None:
    asked = {
        who(request(correlation=b"1"), None),
        who(request(correlation=b"2"), None),
        who(request(correlation=b"1", reply_to="you"), None),
        who(request(), 1),
        who(request(), "1"),
        who(request(reply_to="you"), 1),
    }
    assert len(asked) == 6
    assert who(request(correlation=b"1"), 5) in asked
    assert who(request(), None) is None
    assert what(request(b"a")) != what(request(b"b"))


# -- what comes in over MQTT


class Mail:
    """An inbox, what it made of messages, and what it published."""

    def __init__(self, online: bool = True) -> None:
        self.requests: list[Request] = []
        self.published: list[tuple[str, bytes, bytes | None]] = []
        self.online = online
        self.inbox = Inbox(BASE, self.requests.append, self.publish, lambda topic: topic.startswith("frigate/"))

    def publish(self, topic: str, payload: bytes, correlation: bytes | None) -> None:
        if not self.online:
            raise Transient("not connected")
        self.published.append((topic, payload, correlation))

    def comes(self, topic: str = "command", *, mid: int = 1, dup: bool = False, **properties: Any) -> list[Request]:
        message = MQTTMessage(mid, f"{BASE}/{topic}".encode())
        message.payload, message.qos, message.dup = b"{}", 1, dup
        message.properties = SimpleNamespace(**properties)
        self.inbox.heard(message)
        return self.requests


class Said(BaseModel):
    ok: bool = True


def test_a_packet_that_the_broker_sends_again_is_one_request() -> None:
    """As long as the connection lasts; packet numbers begin anew with the next one."""
    mail = Mail()
    mail.comes(mid=7)
    mail.comes(mid=7, dup=True)
    assert len(mail.requests) == 1
    assert len(mail.comes(mid=7)) == 2, "another message that got the number of one that is done"
    assert len(mail.comes(mid=8, dup=True)) == 3, "the first that we see of it"
    mail.inbox.connected()
    assert len(mail.comes(mid=7, dup=True)) == 4
    assert mail.inbox.counts()["redelivered"] == 1


@pytest.mark.parametrize(
    ("topic", "answers"), [("command", "reply"), ("dock/command", "dock/reply"), ("a b/command", "reply")]
)
def test_who_gives_no_response_topic_is_answered_beside_the_command(topic: str, answers: str) -> None:
    mail = Mail()
    mail.comes(topic)[0].reply(Said(ok=True))
    assert mail.published == [(f"{BASE}/{answers}", b'{"ok":true}', None)]


@given(st.text(max_size=40) | st.text("+#$/ a\x00", max_size=9) | st.sampled_from(["x" * LONGEST_TOPIC, "é" * 200]))
def test_no_response_topic_makes_us_speak_where_we_must_not(topic: str) -> None:
    mail = Mail()
    mail.comes("dock/command", ResponseTopic=topic)[0].reply(Said())
    assert mail.published[0][0] == (f"{BASE}/dock/reply" if mail.requests[0].fault else topic)
    if not mail.requests[0].fault:
        assert 0 < len(topic.encode()) <= LONGEST_TOPIC
        assert not set(topic) & set("+#\x00")
        assert not topic.startswith(("$", f"{BASE}/"))


@pytest.mark.parametrize(
    "below", ["", "/", "/x", "/dock", "/status", "/reply/", "/dock//reply", "/events/reply", "/a/b/reply"]
)
def test_topics_of_ours_are_no_response_topics(below: str) -> None:
    assert Mail().comes(ResponseTopic=BASE + below)[0].fault


@pytest.mark.parametrize("topic", [f"{BASE}/reply", f"{BASE}/dock/reply", "clients/7", "sightwire/replies/a"])
def test_topics_of_clients_and_those_for_replies_are(topic: str) -> None:
    assert Mail().comes(ResponseTopic=topic)[0].fault is None


@pytest.mark.parametrize("topic", ["sightwire/other/command", "frigate/events", "command"])
def test_topics_where_others_would_obey_us_are_none(topic: str) -> None:
    assert Mail().comes(ResponseTopic=topic)[0].fault


def test_correlation_data_comes_back_unless_it_is_too_long() -> None:
    mail = Mail()
    mail.comes(CorrelationData=b"\x00\xff")
    mail.comes(CorrelationData=b"x" * (LONGEST_CORRELATION + 1))
    for each in mail.requests:
        each.reply(Said())
    assert [correlation for _, _, correlation in mail.published] == [b"\x00\xff", None]
    assert "too many" in (mail.requests[1].fault or "")


def test_an_answer_that_cannot_be_sent_is_counted() -> None:
    mail = Mail(online=False)
    mail.comes()[0].reply(Said())
    assert mail.inbox.counts()["unanswered"] == 1


# -- how many there may be


def test_more_than_may_wait_are_busy_and_what_waits_at_the_end_is_told_so() -> None:
    """Nothing is lost from the account."""
    acts = Acts({}, Standing(), snapshot=str)
    remote = Remote("gate", CommandsSection(allow=("reload",), per_second=1000), acts, Answers())
    replies: list[Any] = []
    for number in range(MOST_WAITING + 5):
        payload = json.dumps({"command": "reload", "id": number}).encode()
        remote.on_request(Request("command", payload, replies.append))
    assert [(r.id, r.error.code) for r in replies] == [(MOST_WAITING + n, "busy") for n in range(5)]
    remote.close(1)
    remote.start()
    remote._worker.join(PATIENCE_S)
    counts = remote.counts()
    assert counts == {
        "received": MOST_WAITING + 5, "obeyed": 0, "refused": 0, "repeated": 0, "busy": MOST_WAITING + 5, "dropped": 0,
        "waiting": 0,
    }  # fmt: skip


def test_a_command_that_meets_a_fault_of_ours_is_answered_and_the_next_one_is_heard(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    standing = Standing()
    acts = Acts({}, standing, snapshot=str, reload=lambda: None)
    remote = Remote("gate", CommandsSection(allow=("reload",)), acts, standing.answers)
    replies: list[Any] = []
    answered = threading.Event()

    def keep(said: Any) -> None:
        replies.append(said)
        if len(replies) == 2:
            answered.set()

    monkeypatch.setattr(acts, "_reload", lambda: 1 / 0)
    remote.start()
    remote.on_request(Request("command", b'{"command": "reload"}', keep))
    remote.on_request(Request("command", b'{"command": "reload"}', keep))
    assert answered.wait(PATIENCE_S)
    remote.close(5)
    assert [r.error.code for r in replies] == ["failed", "busy"]


# -- a camera that is switched off


class Noted:
    """Stands where a watch is."""

    def __init__(self) -> None:
        self.reasons: list[str] = []

    def lost(self, reason: str) -> None:
        self.reasons.append(reason)


def test_what_is_open_ends_when_a_camera_is_disabled_and_its_state_is_kept_for_later() -> None:
    """What its connection does meanwhile is not published, but is what status says once it is enabled again."""
    sink = MemorySink()
    sender = Sender(sink)
    watch = Noted()
    use = Use(name="people", labels=("person",), mailbox=Mailbox())
    camera = Camera("test", "dock", "a source", [use], Outlets([sender]), watch=cast(Any, watch))
    camera.say("streaming")
    assert camera.switch(on=False)
    assert not camera.switch(on=False)
    assert watch.reasons == ["camera_disabled"]
    assert camera.state == "disabled"
    camera.say("lost", "no answer")
    assert camera.state == "disabled"
    assert camera.switch(on=True)
    assert camera.state == "lost"
    assert watch.reasons == ["camera_disabled", "camera_lost"]
    sender.close()
    sender.run(threading.Event())
    assert [(m.data["state"], m.data["reason"]) for m in sink.messages] == [("lost", "no answer")]


def test_frames_of_a_disabled_camera_are_counted(one_frame: Frame) -> None:
    use = Use(name="people", labels=("person",), mailbox=Mailbox())
    camera = Camera("test", "dock", "a source", [use], Outlets([]))
    camera.switch(on=False)
    camera.offer(one_frame)
    counts = use.account.counts()
    assert (counts["offered"], counts["disabled"], counts["waiting"]) == (1, 1, 0)


@pytest.fixture
def one_frame() -> Frame:
    return Frame("dock", 0, cast(Any, None), cast(Any, None))
