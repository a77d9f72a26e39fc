"""In which order a camera's results are published and seen, whichever comes back first."""

from __future__ import annotations

import random
import threading
from typing import Any

import numpy as np
import pytest

from agent.camera import Camera
from agent.flow import Mailbox, Request
from agent.frame import Frame
from agent.publishing import Outlets
from agent.sinks import Message
from agent.tracking import Tracked
from agent.uses import Use
from agent.watching.watch import Watch
from engines.results import Classification, Result
from tests.support.watching import SIZE, grey, moment

USES = ("one", "two")


class Diary(Watch):
    """Writes down what it is told."""

    def __init__(self) -> None:
        self.said: list[Any] = []
        self.at_work = 0

    def see(self, request: Request, use: Use, result: Result, attributes: Any = ()) -> Tracked | None:
        self.at_work += 1
        assert self.at_work == 1, "one at a time"
        self.said.append((use.name, request.frame.seq))
        self.at_work -= 1
        return None

    def lost(self, reason: str = "camera_lost") -> None:
        self.said.append(reason)

    def close(self, reason: str = "agent_stopped") -> None:
        self.said.append(reason)


class Published(Outlets):
    def __init__(self) -> None:
        super().__init__([])
        self.said: list[tuple[str, int]] = []

    def publish(self, message: Message, settled: Any = None) -> None:
        if settled:
            payload: Any = message.payload
            self.said.append((payload.use, payload.seq))
            settled()


class Stage:
    """A camera whose engines are the test."""

    def __init__(self, *, lossless: bool) -> None:
        self.diary, self.published = Diary(), Published()
        self.waiting: dict[tuple[str, int], Request] = {}
        uses = [Use(name, ("x",), Mailbox()) for name in USES]
        for use in uses:
            use.mailbox.offer = self._offered  # type: ignore[method-assign]
        self.camera = Camera("test", "dock", "film", uses, self.published, watch=self.diary, lossless=lossless)

    def _offered(self, request: Request) -> None:
        self.waiting[request.key[1], request.frame.seq] = request

    def film(self, *seqs: int) -> None:
        for seq in seqs:
            self.camera.offer(Frame("dock", seq, moment(seq), grey(SIZE)))

    def answer(self, use: str, seq: int, *, fails: bool = False) -> None:
        request = self.waiting.pop((use, seq))
        request.results = [Classification(label=np.array([0], np.int32), score=np.array([1], np.float32))]
        request.ended(request, "failed" if fails else "inferred")


@pytest.mark.parametrize("seed", range(10))
def test_a_recording_is_seen_and_published_in_one_order_whichever_engine_is_faster(seed: int) -> None:
    stage = Stage(lossless=True)
    stage.film(0, 1, 2)
    stage.camera.say("ended")
    order = list(stage.waiting)
    random.Random(seed).shuffle(order)
    for use, seq in order:
        stage.answer(use, seq, fails=(use, seq) == ("one", 1))
    seen = [("one", 0), ("two", 0), ("two", 1), ("one", 2), ("two", 2)]
    assert stage.published.said == seen
    assert stage.diary.said == [*seen, "recording_ended"]
    assert stage.camera.wait_idle(0)


def test_a_slow_use_of_a_live_camera_does_not_keep_a_fast_one_back() -> None:
    stage = Stage(lossless=False)
    stage.film(0, 1)
    stage.answer("two", 1)
    stage.answer("two", 0)
    assert stage.published.said == [("two", 0), ("two", 1)]
    stage.answer("one", 0)
    stage.answer("one", 1)
    assert stage.published.said[2:] == [("one", 0), ("one", 1)]


def test_a_lost_camera_is_lost_after_what_it_showed_and_before_what_it_shows_again() -> None:
    stage = Stage(lossless=False)
    stage.film(0)
    stage.camera.say("lost", "gone")
    stage.film(1)
    stage.answer("one", 1)
    stage.answer("one", 0)
    assert stage.diary.said == [("one", 0)]
    assert not stage.camera.wait_idle(0)
    stage.answer("two", 0)
    assert stage.diary.said == [("one", 0), ("two", 0), "camera_lost", ("one", 1)]
    stage.answer("two", 1)
    assert stage.camera.wait_idle(0)


def test_results_from_many_threads_are_seen_one_at_a_time_and_none_is_left() -> None:
    stage = Stage(lossless=False)
    stage.film(*range(200))
    keys = list(stage.waiting)
    random.Random(1).shuffle(keys)

    def engine(share: list[tuple[str, int]]) -> None:
        for use, seq in share:
            stage.answer(use, seq)

    threads = [threading.Thread(target=engine, args=(keys[n::4],)) for n in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for use in USES:
        assert [seq for name, seq in stage.diary.said if name == use] == list(range(200))
    assert stage.camera.wait_idle(0)


def test_a_fault_while_a_result_is_looked_at_costs_that_result_only() -> None:
    stage = Stage(lossless=True)
    stage.film(0, 1)

    def broken(*_: Any) -> None:
        stage.diary.see = seeing  # type: ignore[method-assign]
        raise ZeroDivisionError

    seeing = stage.diary.see
    stage.diary.see = broken  # type: ignore[method-assign,assignment]
    with pytest.raises(ZeroDivisionError):
        stage.answer("one", 0)
    for use, seq in (("two", 0), ("one", 1), ("two", 1)):
        stage.answer(use, seq)
    assert stage.published.said == [("two", 0), ("one", 1), ("two", 1)]
    assert stage.camera.wait_idle(0)
