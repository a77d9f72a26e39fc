"""`sightwire doctor`: what is right with this machine, what is not, and how it is mended."""

from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import TYPE_CHECKING

import typer

if TYPE_CHECKING:
    from rich.console import Console
    from rich.text import Text

    from agent.doctor.findings import Finding

SCHEMA = "sightwire.doctor/1"
PIPE_COLUMNS = 120
"""Width where the output is no terminal: that of a line in a bug report."""
_MARKS = {"ok": ("✓", "green"), "note": ("·", "yellow"), "problem": ("✗", "bold red")}


def doctor(
    config: Path | None = typer.Argument(None, help="A configuration: its broker, cameras and models are tried."),
    as_json: bool = typer.Option(False, "--json", help="For programs: one JSON object."),
    discover: bool = typer.Option(False, "--discover", help="Search the network for ONVIF cameras too, by multicast."),
) -> None:
    """Examine this machine: what works, what does not, and the command that mends it.

    Sends nothing but to the broker and the cameras of CONFIG. Changes nothing.

    Exit status: 0, or 1 if there is a problem; a wrong configuration is one.

    Example: sightwire doctor site.yaml
    """
    from rich.console import Console

    from agent.doctor.checks import of_machine, of_site
    from agent.doctor.examine import examine

    # What goes wrong is said by the findings; the link's own warnings would say it twice.
    logging.getLogger("agent").addHandler(logging.NullHandler())
    with Console(stderr=True).status("examining …"):
        findings = examine([*of_machine(discover), *of_site(config)])
    problems = [finding for finding in findings if finding.state == "problem"]
    if as_json:
        typer.echo(_as_json(findings, len(problems)))
    else:
        console = Console()
        _print(console if console.is_terminal else Console(width=PIPE_COLUMNS), findings, problems)
    if problems:
        raise typer.Exit(1)


def _as_json(findings: list[Finding], problems: int) -> str:
    from dataclasses import asdict
    from datetime import datetime, timezone

    from agent import __version__

    return json.dumps(
        {
            "schema": SCHEMA,
            "sightwire": __version__,
            "examined_at": datetime.now(timezone.utc).isoformat(timespec="seconds").replace("+00:00", "Z"),
            "problems": problems,
            "findings": [asdict(finding) for finding in findings],
        },
        indent=2,
    )


def _print(console: Console, findings: list[Finding], problems: list[Finding]) -> None:
    from rich.text import Text

    # Checks of one topic need not be neighbours: topics come in the order in which they first come up.
    topics = list(dict.fromkeys(finding.topic for finding in findings))
    width = max(map(len, topics))
    for topic in topics:
        title = topic
        for finding in findings:
            if finding.topic == topic:
                _print_one(console, Text(f"{title:<{width}} ", style="bold"), finding)
                title = ""
    if not problems:
        console.print(Text("Nothing has to be mended.", style="green"))
        return
    count = len(problems)
    console.print(Text(f"\n{count} problem{'s' * (count != 1)} to mend", style="bold red"))
    for finding in problems:
        console.print(Text.assemble(_mark(finding), f" {finding.topic}: {_clean(finding.text)}"), soft_wrap=True)
        # Never wrapped: it is there to be copied.
        console.print(Text.assemble(("  → ", "dim"), (_clean(finding.mend or ""), "bold")), soft_wrap=True)


def _print_one(console: Console, title: Text, finding: Finding) -> None:
    """A finding with its topic before the first line; without spaces at the ends, as it will be pasted."""
    from rich.text import Text

    text = Text(_clean(finding.text), style="dim" if finding.state == "note" else "")
    if finding.state == "note" and finding.mend:
        text.append(f"\n→ {_clean(finding.mend)}")
    start = Text.assemble(title, _mark(finding), " ")
    for line in text.wrap(console, max(20, console.width - len(start))):
        line.rstrip()
        console.print(start + line, soft_wrap=True)
        start = Text(" " * len(start))


def _mark(finding: Finding) -> Text:
    from rich.text import Text

    return Text(*_MARKS[finding.state])


def _clean(text: str) -> str:
    """Safe for a terminal: names of devices come from strangers."""
    return "".join(c if c.isprintable() else "�" for c in text)
