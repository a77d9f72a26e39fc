"""Kills an outbox at random moments and looks at what is left."""

from __future__ import annotations

import random
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path

from agent.outbox.outbox import Outbox
from agent.outbox.settings import EventsSection
from tests.support.broker import die_with_parent
from tests.support.outbox import committed, read

ROOT = Path(__file__).parents[2]


@dataclass
class Kills:
    """What became of events over many kills."""

    kills: int = 0
    committed: int = 0
    """Events that were handed out."""
    acknowledged: int = 0
    waiting: int = 0
    """At the end."""
    lost: list[int] = field(default_factory=list)
    """Numbers of events that were committed, never acknowledged, and are gone."""
    changed: list[int] = field(default_factory=list)
    """Numbers that stood for two different events."""
    missing: list[int] = field(default_factory=list)
    """Numbers that were left out."""
    damaged: int = 0
    """Files that were set aside."""


def kill_at_random(path: Path, kills: int, rate: float, seed: int, most_s: float = 0.4) -> Kills:
    """Let an outbox run `kills` times, each time for a moment of at most `most_s` after it has opened its file."""
    chance, found = random.Random(seed), Kills()
    said: dict[int, int] = {}
    acknowledged: set[int] = set()
    for number in range(kills):
        lines = _run_and_kill(path, rate, number + 1, chance.uniform(0.0, most_s))
        for words in lines:
            if words[0] == "a":
                acknowledged.add(int(words[1]))
            elif words[0] == "c" and said.setdefault(int(words[1]), int(words[2])) != int(words[2]):
                found.changed.append(int(words[1]))
        found.kills += 1
    outbox = Outbox(EventsSection(path=path, keep=1_000_000), "gatehouse", ["mqtt"])
    outbox.start()
    committed(outbox)
    left = {stored.seq: stored.event for stored in read(outbox)}
    outbox.close(10)
    for seq, event in left.items():
        if seq in said and round(event.score or 0) != said[seq]:
            found.changed.append(seq)
    found.committed, found.acknowledged, found.waiting = len(said), len(acknowledged), len(left)
    found.lost = sorted(said.keys() - acknowledged - left.keys())
    found.missing = sorted(set(range(1, max([*said, *left]) + 1)) - said.keys() - left.keys())
    found.damaged = len(list(path.parent.glob("*.damaged-*")))
    return found


def _run_and_kill(path: Path, rate: float, seed: int, after_s: float) -> list[list[str]]:
    command = [sys.executable, "-m", "tests.support.outbox_child", str(path), str(rate), str(seed)]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True, preexec_fn=die_with_parent) as child:
        if child.stdout is None or child.stdout.readline() != "r\n":
            child.kill()
            raise AssertionError("the outbox does not open")
        try:
            said, _ = child.communicate(timeout=after_s)
        except subprocess.TimeoutExpired:
            child.kill()
            said, _ = child.communicate()
    return [line.split() for line in said.splitlines(keepends=True) if line.endswith("\n")]
