"""What systemd hears of an agent."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from agent.supervision.health import BEATS, Health
from tests.support.systemd import WATCHDOG_S, Systemd


@pytest.fixture(params=["file", "abstract"])
def systemd(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Systemd]:
    address = str(tmp_path / "notify") if request.param == "file" else f"\0sightwire-{os.getpid()}-{tmp_path.name}"
    listening = Systemd(address)
    yield listening
    listening.close()


def test_ready_and_stopping_are_said(systemd: Systemd) -> None:
    """What `systemctl status` shows, and what `Type=notify` waits for."""
    health = Health(systemd.environ)
    health.ready("2 cameras")
    health.stopping()
    health.beat("2 cameras")
    assert systemd.heard() == ["READY=1", "STATUS=2 cameras", "STOPPING=1", "STATUS=stopping"]


def test_the_watchdog_is_fed_a_few_times_in_its_patience(systemd: Systemd) -> None:
    """Not at each turn of the main thread: ten a second would be noise."""
    now = 0.0
    health = Health(systemd.environ, clock=lambda: now)
    for _ in range(100):
        health.beat("")
        now += WATCHDOG_S / 100
    assert systemd.heard().count("WATCHDOG=1") == BEATS


def test_what_is_stuck_is_named_and_the_watchdog_starves(systemd: Systemd) -> None:
    """A new process is what follows; the status line says why."""
    now = 0.0
    health = Health(systemd.environ, clock=lambda: now)
    health.beat("well", ["engine-people"])
    assert systemd.heard() == ["STATUS=stuck: engine-people"]
    now += 10
    health.beat("well", ["engine-people"])
    assert systemd.heard() == []
    health.beat("well")
    assert systemd.heard() == ["STATUS=well", "WATCHDOG=1"]


def test_a_status_is_said_when_it_changes(systemd: Systemd) -> None:
    """A line for people, once."""
    health = Health({"NOTIFY_SOCKET": systemd.environ["NOTIFY_SOCKET"]})
    for status in ("a", "a", "b"):
        health.beat(status)
    assert systemd.heard() == ["STATUS=a", "STATUS=b"]


def test_the_watchdog_of_another_process_is_not_ours(systemd: Systemd) -> None:
    """The environment is inherited; `WATCHDOG_PID` says whose it is."""
    Health({**systemd.environ, "WATCHDOG_PID": "1"}).beat("")
    assert systemd.heard() == []


def test_a_reload_is_said_with_its_time(systemd: Systemd) -> None:
    """As `Type=notify-reload` of newer systemd wants it."""
    Health(systemd.environ).reloading()
    state, at = systemd.heard()
    assert state == "RELOADING=1"
    assert at.removeprefix("MONOTONIC_USEC=").isdigit()


@pytest.mark.parametrize("address", ["", "/nowhere/at/all", "@nobody-listens-here"])
def test_nobody_listening_is_no_fault(address: str) -> None:
    """Outside of systemd, or after it has gone."""
    health = Health({"NOTIFY_SOCKET": address, "WATCHDOG_USEC": "1000"} if address else {})
    health.ready("")
    health.beat("x")


HANGS = """
import time
from agent.supervision import health as module
module.{limit} = 0.4
health = module.Health()
{before}
print("here", flush=True)
def in_the_driver():
    time.sleep(60)
in_the_driver()
"""


@pytest.mark.parametrize(
    ("limit", "before"),
    [("START_S", ""), ("UNCHANGED", "health.beat('')"), ("STOP_S", "health.beat(''); health.stopping()")],
    ids=["starting", "serving", "stopping"],
)
def test_without_systemd_a_process_that_hangs_ends_itself_and_says_where(limit: str, before: str) -> None:
    """As a container wants it: its engine starts what has ended, not what hangs."""
    patience = "0.4" if limit == "UNCHANGED" else "30"
    done = subprocess.run(
        [sys.executable, "-c", HANGS.format(limit=limit, before=before)],
        env={**os.environ, "SIGHTWIRE_WATCHDOG_S": patience},
        capture_output=True,
        text=True,
        timeout=10,
    )
    assert (done.stdout, done.returncode) == ("here\n", 1)
    assert "in in_the_driver" in done.stderr
