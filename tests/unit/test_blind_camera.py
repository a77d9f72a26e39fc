"""A camera that is blind: what its status and its events say, whatever else happens to it."""

from __future__ import annotations

from typing import Any

import pytest

from agent.camera import Camera
from agent.flow import Mailbox, Request
from agent.frame import Frame, Timestamp
from agent.messages import CameraStatus, EventPayload
from agent.publishing import Outlets
from agent.sight.sight import Blindness, Sight
from agent.sinks import Message
from agent.uses import Use
from agent.watching.incidents import Incidents
from agent.watching.watch import Watch
from engines.pixels import Image
from engines.results import Detections
from tests.support.watching import SIZE, grey, moment

BLACK, MOVED = Blindness("black", 100_000_000), Blindness("moved", 200_000_000)
SEES, ACCEPTED = Blindness("black", 100_000_000, "over"), Blindness("moved", 200_000_000, "accepted")


class Scripted(Sight):
    """Says what it is told to say of each frame."""

    def __init__(self, script: dict[int, list[Blindness]]) -> None:
        self._script, self.told = script, []

    def look(self, image: Image, captured: Timestamp) -> list[Blindness]:
        self.told.append("look")
        return self._script.get(round(captured.monotonic_ns / 1e8), [])

    def away(self) -> None:
        self.told.append("away")

    def begin_anew(self) -> None:
        self.told.append("anew")


class Published(Outlets):
    def __init__(self) -> None:
        super().__init__([])
        self.said: list[tuple[str, str | None, str]] = []

    def publish(self, message: Message, settled: Any = None) -> None:
        if isinstance(payload := message.payload, CameraStatus):
            self.said.append((payload.state, payload.reason, payload.since[17:19]))
        if settled:
            settled()


class Stage:
    """A camera, its status and its events; what an engine has to say waits until `answer`."""

    def __init__(self, script: dict[int, list[Blindness]], *, lossless: bool = False) -> None:
        self.sight, self.published = Scripted(script), Published()
        self.events: list[EventPayload] = []
        self.waiting: list[Request] = []
        use = Use("people", ("person",), Mailbox())
        use.mailbox.offer = self.waiting.append  # type: ignore[method-assign]
        incidents = Incidents("test", "dock", "0123456789", self.events.append)
        watch = Watch("dock", incidents, None, [])
        self.camera = Camera(
            "test", "dock", "film", [use], self.published, watch=watch, sight=self.sight, lossless=lossless
        )
        self.camera.say("streaming")
        self._seq = 0

    def film(self, count: int) -> None:
        for _ in range(count):
            self.camera.offer(Frame("dock", self._seq, moment(self._seq), grey(SIZE)))
            self._seq += 1

    def answer(self) -> None:
        while self.waiting:
            request = self.waiting.pop(0)
            request.results = [Detections.empty()]
            request.ended(request, "inferred")

    @property
    def states(self) -> list[str]:
        return [state if reason is None else f"{state}: {reason}" for state, reason, _ in self.published.said]

    @property
    def told(self) -> list[tuple[Any, ...]]:
        return [(e.phase, e.data.get("reason"), e.reason) for e in self.events]


def test_status_says_blind_with_the_reason_and_then_again_what_the_connection_says() -> None:
    stage = Stage({2: [BLACK], 5: [SEES]})
    stage.film(4)
    assert stage.camera.state == "blind"
    stage.film(4)
    stage.answer()
    assert stage.states == ["streaming", "blind: black", "streaming"]
    assert stage.camera.state == "streaming"
    assert stage.told == [("start", "black", None), ("end", "black", "over")]
    start, end = stage.events
    assert start.id == end.id
    assert (start.kind, start.rule, start.use, start.model, start.camera) == ("blind", None, None, None, "dock")
    assert (start.seq, start.first_seen, end.seq) == (2, "1970-01-01T00:00:00.100000Z", 5)
    assert not EventPayload.model_validate(start.model_dump(by_alias=True)).model_extra


def test_one_reason_after_the_other_is_two_incidents_and_one_word_in_status() -> None:
    stage = Stage({2: [BLACK], 5: [SEES, MOVED], 7: [ACCEPTED]})
    stage.film(9)
    stage.answer()
    assert stage.states == ["streaming", "blind: black", "blind: moved", "streaming"]
    assert [(phase, data, reason) for phase, data, reason in stage.told] == [
        ("start", "black", None),
        ("end", "black", "over"),
        ("start", "moved", None),
        ("end", "moved", "accepted"),
    ]
    assert len({e.id for e in stage.events}) == 2


@pytest.mark.parametrize(("happens", "reason"), [("lost", "camera_lost"), ("disabled", "camera_disabled")])
def test_a_blind_camera_that_is_lost_or_disabled_is_that_and_its_incident_ends_once(happens: str, reason: str) -> None:
    stage = Stage({2: [BLACK], 7: [SEES]})
    stage.film(4)
    stage.camera.switch(on=False) if happens == "disabled" else stage.camera.say("lost", "no route to host")
    stage.answer()
    assert stage.camera.state == happens
    assert stage.told == [("start", "black", None), ("end", None, reason)]
    assert stage.events[1].seq == 3, "of the newest frame"
    stage.camera.switch(on=True) if happens == "disabled" else stage.camera.say("streaming")
    assert stage.camera.state == "streaming"
    stage.film(1)
    assert stage.sight.told[-2:] == ["anew" if happens == "disabled" else "away", "look"]


def test_what_is_seen_when_the_connection_is_gone_already_is_not_told() -> None:
    """A reader that was given up may come back with a last picture."""
    stage = Stage({2: [BLACK]})
    stage.film(1)
    stage.camera.say("lost", "silent")
    stage.film(3)
    stage.answer()
    assert stage.states == ["streaming", "lost: silent"]
    assert stage.told == []


def test_blindness_comes_after_what_the_engines_make_of_earlier_frames() -> None:
    """So that the events of a recording have one order."""
    stage = Stage({2: [BLACK]}, lossless=True)
    stage.film(3)
    assert stage.told == []
    stage.answer()
    assert stage.told == [("start", "black", None)]
    stage.camera.close()
    assert stage.told[1:] == [("end", None, "agent_stopped")]


def test_a_disabled_camera_is_not_looked_at() -> None:
    stage = Stage({})
    stage.camera.switch(on=False)
    stage.film(3)
    assert stage.sight.told == []


def test_a_fault_of_ours_ends_the_judging_and_not_the_camera(caplog: pytest.LogCaptureFixture) -> None:
    stage = Stage({})

    def broken(_image: Image, _captured: Timestamp) -> list[Blindness]:
        raise ZeroDivisionError

    stage.sight.look = broken  # type: ignore[method-assign]
    stage.film(3)
    assert len(stage.waiting) == 3
    assert [record.getMessage() for record in caplog.records] == [
        "dock: a fault of the program; whether it sees is not judged any more"
    ]
