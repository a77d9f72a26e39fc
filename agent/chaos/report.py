"""The table of what was expected and what happened, for people and for programs."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict

from rich.box import SIMPLE_HEAD
from rich.markup import escape
from rich.table import Table

from agent.chaos.faults import Outcome

COLOURS = {"held": "green", "not held": "bold red", "not possible": "dim"}


def table(outcomes: Sequence[Outcome]) -> Table:
    """A row for each fault: what must be, and below it what was."""
    drawn = Table(box=SIMPLE_HEAD, pad_edge=False, leading=1)
    drawn.add_column("fault", no_wrap=True)
    drawn.add_column("what must be; [cyan]what was[/]", overflow="fold")
    for head in ("found", "back"):
        drawn.add_column(head, justify="right", no_wrap=True)
    drawn.add_column("", no_wrap=True)
    for outcome in outcomes:
        drawn.add_row(
            f"[bold]{outcome.fault}[/]\n{outcome.where}",
            f"{escape(outcome.expected)}\n[cyan]{escape(outcome.happened)}[/]",
            _seconds(outcome.found_s),
            _seconds(outcome.back_s),
            f"[{COLOURS[outcome.result]}]{outcome.result}[/]",
        )
    return drawn


def as_json(outcomes: Sequence[Outcome]) -> str:
    """One object: `held`, and `faults`, a list of the rows."""
    said = {
        "schema": "sightwire.chaos/1",
        "held": held(outcomes),
        "faults": [asdict(outcome) for outcome in outcomes],
    }
    return json.dumps(said, indent=2, ensure_ascii=False)


def held(outcomes: Sequence[Outcome]) -> bool:
    """Whether everything that was tried went as it must, and something was."""
    tried = [outcome for outcome in outcomes if outcome.result != "not possible"]
    return bool(tried) and all(outcome.result == "held" for outcome in tried)


def summary(outcomes: Sequence[Outcome]) -> str:
    """One line."""
    counts = {result: sum(outcome.result == result for outcome in outcomes) for result in COLOURS}
    return ", ".join(f"{count} {result}" for result, count in counts.items() if count) or "nothing was tried"


def _seconds(value: float | None) -> str:
    return "" if value is None else f"{value:.1f} s"
