"""What survives SIGKILL; a hundred of them with other numbers: `scripts/prove outbox`."""

from __future__ import annotations

from pathlib import Path

from tests.support.outbox_kills import kill_at_random


def test_nothing_that_was_committed_is_lost_when_the_agent_is_killed(tmp_path: Path):
    found = kill_at_random(tmp_path / "events.db", kills=4, rate=500, seed=7)
    assert found.committed > 25
    assert (found.lost, found.changed, found.missing, found.damaged) == ([], [], [], 0)
