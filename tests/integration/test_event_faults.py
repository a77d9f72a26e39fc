"""The faults of tests/prove/events.py, in short: nothing is lost, invented or out of order."""

from __future__ import annotations

from pathlib import Path

from tests.support import faults


def test_a_broker_that_is_away_for_a_while_costs_no_event(tmp_path: Path) -> None:
    """And what waited comes in order."""
    assert faults.broker_down(tmp_path, down_s=0.6, rate=100).wrong == []


def test_an_agent_that_is_killed_loses_nothing_that_was_committed(tmp_path: Path) -> None:
    """Four times, whatever it was doing."""
    assert faults.agent_killed(tmp_path, times=4, longest_s=0.4).wrong == []


def test_a_broker_that_is_killed_has_passed_on_what_it_acknowledged(tmp_path: Path) -> None:
    """Twice; what it did not acknowledge comes again."""
    assert faults.broker_killed(tmp_path, times=2, up_s=0.2).wrong == []


def test_what_is_dropped_at_the_limit_is_the_oldest_and_is_announced(tmp_path: Path) -> None:
    """As a gap of exactly so many."""
    assert faults.limit_reached(tmp_path, keep=200, offered=1000).wrong == []


def test_a_flood_is_counted_and_takes_no_more_memory_than_is_allowed(tmp_path: Path) -> None:
    """Ten thousand a second, for half a second."""
    assert faults.flood(tmp_path, seconds=0.5, max_mb=0.5).wrong == []
