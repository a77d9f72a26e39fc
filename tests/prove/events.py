"""`scripts/prove events [--short] [--only NAME ...] [--write]`: faults between an agent and its subscribers.

Real mosquitto processes are stopped, frozen and killed, and agents with them. The ten minutes without a broker come
last. Ends with 1 where something did not hold.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path

from rich.console import Console

from tests.prove.record import section, table
from tests.support import faults
from tests.support.faults import Outcome

Fault = Callable[[Path], Outcome]

LONGEST = "broker-down"
"""It has a section of its own, to be run alone."""

LONG: dict[str, Fault] = {
    "agent-killed": partial(faults.agent_killed, times=100),
    "broker-killed": partial(faults.broker_killed, times=20),
    "limit": partial(faults.limit_reached, keep=10_000, offered=30_000),
    "flood": partial(faults.flood, seconds=10),
    "drain": partial(faults.broker_down, down_s=20, rate=50, backlog=20_000),
    "frozen": faults.frozen_broker,
    "name": partial(faults.name_shared, seconds=120),
    "retained": faults.retained_restored,
    LONGEST: partial(faults.broker_down, down_s=600, rate=20),
}
SHORT: dict[str, Fault] = LONG | {
    "agent-killed": partial(faults.agent_killed, times=5),
    "broker-killed": partial(faults.broker_killed, times=2),
    "limit": partial(faults.limit_reached, keep=200, offered=1000),
    "flood": partial(faults.flood, seconds=1, max_mb=1),
    "drain": partial(faults.broker_down, down_s=2, rate=50, backlog=3000),
    "name": partial(faults.name_shared, seconds=20),
    LONGEST: partial(faults.broker_down, down_s=2, rate=20),
}


def main() -> int:
    """Print each fault, what was expected and what happened."""
    parser = argparse.ArgumentParser(prog="scripts/prove events", description=__doc__)
    parser.add_argument("--short", action="store_true", help="with the small numbers of the tests")
    parser.add_argument("--only", nargs="+", choices=LONG, default=list(LONG), metavar="NAME", help=", ".join(LONG))
    parser.add_argument("--write", action="store_true", help="into docs/measurements.md")
    asked = parser.parse_args()
    say = Console(width=160)
    outcomes: dict[str, Outcome] = {}
    for name, fault in (SHORT if asked.short else LONG).items():
        if name not in asked.only:
            continue
        with tempfile.TemporaryDirectory() as folder:
            outcome = fault(Path(folder))
        outcomes[name] = outcome
        say.print(f"[bold]{outcome.fault}[/]\n  expected: {outcome.expected}\n  happened: {outcome.happened}")
        for wrong in outcome.wrong:
            say.print(f"  [red]wrong: {wrong}[/]")
    if asked.write:
        _write("events", "Events under faults", [outcome for name, outcome in outcomes.items() if name != LONGEST])
        _write("events-outage", "Events of a long outage", [outcomes[LONGEST]] if LONGEST in outcomes else [])
    return int(any(outcome.wrong for outcome in outcomes.values()))


def _write(name: str, title: str, outcomes: list[Outcome]) -> None:
    """A section of docs/measurements.md, if there is something to say."""
    rows: list[tuple[object, ...]] = [
        (outcome.fault, outcome.expected, outcome.happened, "; ".join(outcome.wrong) or "held") for outcome in outcomes
    ]
    if rows:
        body = table(("fault", "must hold", "what happened", ""), rows)
        section(name, title, " ".join(["scripts/prove events", *sys.argv[1:]]), body)


if __name__ == "__main__":
    sys.exit(main())
