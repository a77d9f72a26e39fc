"""What status says of the machine: when an engine is overloaded, and what it can do."""

from __future__ import annotations

import pytest

from agent.camera import Camera
from agent.flow import Mailbox
from agent.load import Load
from agent.publishing import Outlets
from agent.uses import Use
from tests.support.sharing import Asker, Shared


class Site:
    """An engine of a fixed speed and its cameras, in simulated time, looked at each second."""

    def __init__(self, speed: float, **cameras: Asker) -> None:
        self.shared = Shared(list(cameras.values()), speed)
        self.accounts = {}
        self.cameras = {}
        for name, one in cameras.items():
            use = Use("people", ("x",), self.shared.mailbox)
            self.accounts[name] = use.account
            self.cameras[name] = Camera("agent", name, "made", [use], Outlets([]), lossless=one.lossless)
        self.told = 0
        self.load = Load(self.cameras, self._say, clock=lambda: self.shared.now_s)
        self._counted = {name: [0, 0] for name in cameras}

    def _say(self) -> None:
        self.told += 1

    def run(self, seconds: float) -> Site:
        end_s = self.shared.now_s + seconds
        while self.shared.now_s < end_s:
            self.shared.turn()
            self._account()
            self.load.look()
        return self

    def _account(self) -> None:
        for index, (name, account) in enumerate(self.accounts.items()):
            counted = self._counted[name]
            outcomes = (("inferred", self.shared.taken[index]), ("replaced", self.shared.lost[index]))
            for which, (outcome, now) in enumerate(outcomes):
                for _ in range(now - counted[which]):
                    account.offered()
                    account.ended(outcome)
                counted[which] = now

    @property
    def people(self) -> dict:
        return self.load.state()["people"]


def test_an_engine_that_keeps_up_is_not_overloaded_and_says_how_much_it_could_do() -> None:
    site = Site(50, dock=Asker(10), gate=Asker(5)).run(30)
    assert site.people["overloaded"] is False
    assert site.people["can"] == pytest.approx(50, rel=0.05)
    assert site.people["asked"] == pytest.approx(15, rel=0.05)
    assert site.people["busy"] == pytest.approx(0.3, abs=0.03)
    assert site.people["met"] == 1.0
    assert site.people["cameras"]["dock"] == {"asks": pytest.approx(10, abs=0.3), "gets": pytest.approx(10, abs=0.3)}


def test_an_overload_is_told_once_and_its_end_once(caplog) -> None:
    caplog.set_level("INFO")
    site = Site(20, dock=Asker(30, weight=3), gate=Asker(30)).run(40)
    assert site.people["overloaded"] is True
    assert site.people["can"] == pytest.approx(20, rel=0.05)
    assert site.people["met"] == pytest.approx(1 / 3, abs=0.05)
    assert site.people["cameras"]["dock"]["gets"] == pytest.approx(15, abs=0.5)
    assert [r.message for r in caplog.records] == [caplog.records[0].message]
    assert caplog.records[0].message.startswith("models.people: overloaded: ")
    assert "dock gets 15 of " in caplog.records[0].message
    for one in site.shared.cameras:
        one.rate = 2
    site.run(60)
    assert site.people["overloaded"] is False
    assert [r.levelname for r in caplog.records] == ["WARNING", "INFO"]
    assert "keeps up again" in caplog.records[1].message


def test_status_is_not_said_again_while_nothing_changes_but_figures() -> None:
    site = Site(20, dock=Asker(30), gate=Asker(30)).run(20)
    told = site.told
    site.run(200)
    assert site.told == told <= 2


def test_an_engine_at_its_limit_does_not_change_its_mind() -> None:
    site = Site(20, dock=Asker(10.3), gate=Asker(10.4)).run(200)
    assert site.told <= 2


def test_a_recording_makes_no_overload_however_busy_the_engine_is() -> None:
    site = Site(20, film=Asker(500, lossless=True), gate=Asker(5)).run(40)
    assert site.people["overloaded"] is False
    assert site.people["busy"] == 1.0
    assert site.people["can"] == pytest.approx(20, rel=0.05)


def test_metrics_have_what_is_now_and_status_what_was_told() -> None:
    site = Site(20, dock=Asker(10)).run(30)
    site.shared.cameras[0].rate = 16
    site.run(30)
    assert site.load.figures()["people"]["asked"] == pytest.approx(16, rel=0.05)
    assert site.people["asked"] == pytest.approx(10, rel=0.05)


def test_nothing_is_said_of_a_camera_that_is_gone() -> None:
    site = Site(20, dock=Asker(10), gate=Asker(10)).run(30)
    del site.cameras["gate"]
    site.run(2)
    assert set(site.load.figures()["people"]["cameras"]) == {"dock"}


def test_before_anything_is_known_there_are_no_figures() -> None:
    load = Load(
        {"dock": Camera("agent", "dock", "made", [Use("people", ("x",), Mailbox())], Outlets([]))}, lambda: None
    )
    load.look()
    assert load.state()["people"]["overloaded"] is False
    assert "can" not in load.state()["people"]
    assert load.figures() == {}
