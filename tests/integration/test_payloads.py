"""Whatever an agent says in a run is valid by the published schemas, on topics that are in the document."""

from __future__ import annotations

import json
import re
import threading
from collections.abc import Callable
from pathlib import Path
from typing import cast

from jsonschema import Draft202012Validator
from pydantic import BaseModel

from agent.remote.payloads import ReplyPayload
from agent.schema.json_schema import schemas
from agent.schema.topics import TOPICS, Topic
from agent.service import Service
from agent.sinks import Message, Request
from agent.sinks.memory import Kept, MemorySink
from tests.support.agents import fake_model, fake_store, settings_of
from tests.support.blobs import MODEL, USE, add_blobs
from tests.support.patience import PATIENCE_S

FILM = {"type": "synthetic", "pace": "live", "rate": 60, "frames": None}
"""A block goes from the left to the right, and again; slow enough for the zone's and the line's 300 ms."""
VALIDATORS = {name: Draft202012Validator(schema) for name, schema in schemas().items()}
PLACES = {
    "track": {"use": "blobs", "predict": True},
    "zones": {"gate": {"polygon": [[0.2, 0.3], [0.7, 0.3], [0.7, 1], [0.2, 1]], "leave_after": "100ms"}},
    "lines": {"door": {"points": [[0.5, 1], [0.5, 0]]}},
}
COMMANDS = (
    {"command": "set_threshold", "camera": "dock", "use": "blobs", "value": 0.6, "id": 1},
    {"command": "disable", "camera": "door"},
    {"command": "snapshot", "camera": "dock"},
    {"command": "dance"},
)

ELSEWHERE = {"events", "{camera}/snapshot", "reply", "{camera}/reply"}
"""Nothing is lost here that would be announced, no picture is wanted, and replies go to who asked."""


class Listening(MemorySink):
    """A sink over which commands come."""

    def listen(self, on_request: Callable[[Request], None]) -> None:
        self.ask = on_request


def topic_of(kept: Kept) -> Topic:
    """The one that a message was sent on."""
    fits = [t for t in TOPICS if re.fullmatch(re.sub(r"\{\w+\}", "[^/]+", t.address), kept.topic)]
    assert len(fits) == 1, kept.topic
    return fits[0]


def incident_is_over(kept: list[Kept]) -> bool:
    """Of the zone, and somebody has crossed the line."""
    return {"start", "end", "moment"} <= {k.data["phase"] for k in kept if k.topic == "dock/events"}


def test_every_message_of_a_run_is_valid_and_is_retained_as_the_document_says(tmp_path: Path) -> None:
    store = fake_store(tmp_path)
    add_blobs(tmp_path)
    settings = settings_of(
        models={"blobs": MODEL, "colours": fake_model("classes"), "shades": fake_model("classes")},
        cameras={
            "dock": {"source": FILM, "models": [USE, "colours", {"use": "shades", "on": "blobs"}], **PLACES},
            "door": {"source": {**FILM, "fail_after": 20}, "models": ["colours"]},
        },
        commands={"allow": ["set_threshold", "disable", "snapshot"]},
    )
    sink, replied = Listening(), threading.Event()
    replies: list[ReplyPayload] = []

    def answer(reply: BaseModel) -> None:
        replies.append(cast(ReplyPayload, reply))
        if len(replies) == len(COMMANDS):
            replied.set()

    service = Service(settings, store, [sink])
    service.start()
    try:
        assert sink.wait_for(incident_is_over, PATIENCE_S)
        for command in COMMANDS:
            sink.ask(Request("command", json.dumps(command).encode(), answer))
        assert replied.wait(PATIENCE_S)
    finally:
        service.stop()
    said = {topic_of(kept).address: kept for kept in sink.messages}
    assert set(said) == {topic.address for topic in TOPICS if not topic.asked} - ELSEWHERE
    for kept in sink.messages:
        topic = topic_of(kept)
        VALIDATORS[topic.payload].validate(kept.data)
        assert kept.retain == topic.retain
    assert [reply.ok for reply in replies] == [True, True, False, False]
    for reply in replies:
        VALIDATORS["reply"].validate(json.loads(Message("reply", reply).encode(0)))
