"""Readers that hang are given up and replaced, and do no harm when they come back."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Literal

import pytest
from pydantic import PrivateAttr

from agent.camera import Camera
from agent.clips.tap import PacketTap
from agent.frame import Frame, Timestamp
from agent.publishing import Outlets
from agent.sources import Intake, Pictures, SourceConfig, Times
from agent.sources.synthetic import picture
from agent.supervision.captures import MOST_HUNG, Captures
from tests.support.patience import PATIENCE_S
from tests.support.waiting import until

Where = Literal["open", "read", "close", "nowhere"]


class Hanging(SourceConfig):
    """Gives `good` pictures, then hangs where it is told to, as a decoder does that waits for a lock of its own."""

    hangs_in: Where = "read"
    good: int = 3
    step_s: float = 0.2
    picture_s: float = 60.0
    _free: threading.Event = PrivateAttr(default_factory=threading.Event)
    _where: list[Where] = PrivateAttr(default_factory=list)
    """Where each next connection hangs; the last one goes for all that follow."""
    _log: list[str] = PrivateAttr(default_factory=list)

    @property
    def label(self) -> str:
        return "hanging"

    @property
    def times(self) -> Times | None:
        return Times(self.step_s, self.step_s, self.picture_s)

    @contextmanager
    def open(self, stop: threading.Event, intake: Intake) -> Iterator[Pictures]:
        where = self._where.pop(0) if len(self._where) > 1 else self._where[0]
        self._hang(where, "open")
        self._log.append("opened")
        try:
            if intake.tap:
                intake.tap.opened(None)
            yield self._pictures(where, stop, intake)
        finally:
            self._hang(where, "close")
            self._log.append("closed")

    def _pictures(self, where: Where, stop: threading.Event, intake: Intake) -> Pictures:
        for number in range(self.good):
            yield _picture(number)
        if where == "close":
            raise OSError("to be closed")
        self._hang(where, "read")
        # A reader that comes back has a packet and a picture in its hands.
        intake.skip("damaged")
        while not stop.wait(0.01):
            if intake.tap:
                intake.tap.packet(None)
            yield _picture(0)
        yield _picture(0)

    def _hang(self, where: Where, here: Where) -> None:
        if where == here:
            self._log.append(f"hangs in {here}")
            self._free.wait()


def _picture(number: int) -> Any:
    now_ns = time.monotonic_ns()
    return Timestamp(time.time_ns(), now_ns, "receive", time.time_ns()), picture(number, 320, 48, "bgr")


class Watched(Camera):
    """Keeps what it is offered and told, and by which thread."""

    def __init__(self) -> None:
        super().__init__("test", "dock", "hanging", [], Outlets([]))
        self.seen: list[tuple[int, str]] = []
        self.said: list[tuple[str, str]] = []

    def offer(self, frame: Frame) -> None:
        super().offer(frame)
        self.seen.append((frame.seq, threading.current_thread().name))

    def say(self, state: Any, reason: str | None = None, facts: dict[str, str] | None = None) -> None:
        super().say(state, reason, facts)
        self.said.append((state, threading.current_thread().name))


class Tapped(PacketTap):
    """Keeps what it is told, and by which thread."""

    def __init__(self) -> None:
        super().__init__([])
        self.told: list[tuple[str, str]] = []

    def opened(self, stream: Any) -> None:
        self.told.append(("opened", threading.current_thread().name))

    def packet(self, packet: Any) -> None:
        self.told.append(("packet", threading.current_thread().name))

    def closed(self) -> None:
        self.told.append(("closed", threading.current_thread().name))


class Site:
    """One camera, looked after as the service does."""

    def __init__(self, *where: Where, **settings: Any) -> None:
        self.source = Hanging(**settings)
        self.source._where.extend(where)
        self.camera, self.tap, self.captures = Watched(), Tapped(), Captures()
        self.captures.add(self.source, [self.camera], self.tap)

    def __enter__(self) -> Site:
        self.captures.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.captures.stop({"dock": self.camera}, time.monotonic() + 5)
        self.source._free.set()

    def until(self, condition: Callable[[], bool], deadline_s: float = PATIENCE_S) -> None:
        """Look after it until that is so."""
        deadline = time.monotonic() + deadline_s
        while not condition():
            assert time.monotonic() < deadline, (self.camera.counts(), self.camera.said, self.source._log)
            self.captures.look()
            time.sleep(0.01)

    def hangs(self, count: int) -> bool:
        """Whether so many readers hang now."""
        return bool(self.camera.counts()["hung"] == count)

    def streams_again(self) -> bool:
        """Whether the second reader gives pictures."""
        return any(thread == "camera-dock-2" for _, thread in self.camera.seen)


@pytest.fixture(params=["open", "read", "close"])
def where(request: pytest.FixtureRequest) -> Where:
    at: Where = request.param
    return at


def test_a_reader_is_not_replaced_because_the_whole_process_stood_still() -> None:
    with Site("read", "nowhere") as site:
        (reader,) = site.captures._at_work.values()
        until(lambda: reader.worker.progress.overdue_s() > 0)
        site.captures._standstill._looked_s -= 2
        site.captures.look()
        assert site.hangs(0)
        site.captures._standstill._patient_until_s -= 2
        site.until(site.streams_again)


def test_a_reader_that_hangs_is_replaced_and_counted(where: Where) -> None:
    """Wherever it does; frames go on with the next number."""
    with Site(where, "nowhere") as site:
        site.until(site.streams_again)
        assert (site.camera.counts()["abandoned"], site.camera.counts()["hung"]) == (1, 1)
        assert [seq for seq, _ in site.camera.seen] == list(range(len(site.camera.seen)))
        assert site.captures.beyond_help() == []


def test_a_reader_that_comes_back_does_no_harm(where: Where) -> None:
    """It offers nothing, says nothing, leaves the tap alone, closes what it had opened, and ends."""
    with Site(where, "nowhere") as site:
        site.until(site.streams_again)
        mark = len(site.camera.seen), len(site.camera.said), len(site.tap.told), site.camera.unreadable_frames
        site.source._free.set()
        site.until(lambda: site.hangs(0))
        assert site.camera.counts()["abandoned"] == 1
        seen, said, told = site.camera.seen[mark[0] :], site.camera.said[mark[1] :], site.tap.told[mark[2] :]
    assert {thread for _, thread in [*seen, *said, *told]} <= {"camera-dock-2"}
    assert site.camera.unreadable_frames == mark[3]
    assert site.source._log.count("opened") == site.source._log.count("closed")


def test_a_tap_learns_that_a_connection_is_gone_before_the_next_is_open() -> None:
    with Site("read", "nowhere") as site:
        site.until(site.streams_again)
    told = [word for word, _ in site.tap.told if word != "packet"]
    assert told[:3] == ["opened", "closed", "opened"]


def test_no_more_than_so_many_hang_at_once(caplog: pytest.LogCaptureFixture) -> None:
    """Then it is said, once, and the camera stays lost; when one comes back there is another try."""
    with Site("read") as site:
        site.until(lambda: site.hangs(MOST_HUNG))
        before = threading.active_count()
        for _ in range(50):
            site.captures.look()
            time.sleep(0.01)
        assert threading.active_count() == before
        assert site.camera.counts()["abandoned"] == MOST_HUNG - 1
        assert site.camera.state == "lost"
        assert [worker.name for worker in site.captures.beyond_help()] == [f"camera-dock-{MOST_HUNG}"]
        assert sum("is not replaced" in record.getMessage() for record in caplog.records) == 1
        site.source._where[:] = ["nowhere"]
        site.source._free.set()
        site.until(lambda: site.hangs(0) and site.camera.state == "streaming")
        assert site.captures.beyond_help() == []


def test_stopping_does_not_wait_for_one_that_hangs() -> None:
    with Site("read", "nowhere") as site:
        site.until(site.streams_again)
        began = time.monotonic()
        site.captures.stop({"dock": site.camera}, began + 5)
        assert time.monotonic() - began < 1


def test_stopping_does_not_wait_for_one_that_hangs_and_is_not_replaced_yet() -> None:
    with Site("read") as site:
        site.until(lambda: "hangs in read" in site.source._log)
        began = time.monotonic()
        site.captures.stop({"dock": site.camera}, began + 5)
        assert time.monotonic() - began < 1


def test_no_picture_in_time_is_told_as_a_loss_while_the_reader_goes_on() -> None:
    """With the picture that comes after all, the camera streams again; nobody was replaced."""
    with Site("read", step_s=60, picture_s=0.2) as site:
        site.until(lambda: site.camera.state == "lost")
        site.source._free.set()
        site.until(lambda: site.camera.state == "streaming")
        assert site.camera.counts()["abandoned"] == 0
        assert site.camera.counts()["reconnects"] == 1
        assert [state for state, _ in site.camera.said] == ["connecting", "streaming", "lost", "streaming"]


def test_a_disabled_camera_misses_no_pictures() -> None:
    with Site("nowhere", step_s=60, picture_s=0.2) as site:
        site.until(lambda: site.camera.state == "streaming")
        site.camera.switch(on=False)
        site.until(lambda: "closed" in site.source._log)
        disabled = time.monotonic()
        site.until(lambda: time.monotonic() > disabled + 0.4)
        assert "lost" not in [state for state, _ in site.camera.said]
