"""`scripts/prove fuzz [--only KIND ...] [--first N] [--count N] [--model FOLDER] [--write]`: hostile input.

10,000 configurations, 10,000 pictures and streams, and models cut at every kilobyte, each to the part that reads it, in
child processes. What goes wrong is kept with what was said; its number makes the same input again. Ends with 1 then.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import time
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from tests.prove.record import section, table
from tests.support.hostile.feeding import Fed, feed

COUNTS = {"configs": 10_000, "pictures": 10_000, "models": 5_000}


def main() -> int:
    """Feed, print, and with `--write` record in docs/measurements.md."""
    parser = argparse.ArgumentParser(prog="scripts/prove fuzz", description=__doc__)
    parser.add_argument("--only", nargs="+", choices=COUNTS, default=list(COUNTS), metavar="KIND")
    parser.add_argument("--first", type=int, default=0, help="number of the first input")
    parser.add_argument("--count", type=int, help=f"inputs of each kind; default {COUNTS}")
    parser.add_argument("--model", type=Path, help="folder of a model whose FP32 file is cut at every kilobyte as well")
    parser.add_argument("--keep", type=Path, default=Path("fuzz-findings"), help="where failing inputs are written")
    parser.add_argument("--write", action="store_true", help="into docs/measurements.md")
    asked = parser.parse_args()
    if asked.model:
        os.environ["SIGHTWIRE_FUZZ_MODEL"] = str(asked.model.absolute())
        from tests.support.hostile.models import CUT, fp32_of  # reads that variable

        COUNTS["models"] += fp32_of(asked.model).stat().st_size // CUT + 1
    say, rows, wrong = Console(width=160), [], 0
    for kind in asked.only:
        began_s, count = time.monotonic(), asked.count or COUNTS[kind]
        fed = _fed(kind, asked.first, count, asked.keep, say)
        outcomes = ", ".join(f"{number} {what}" for what, number in fed.outcomes.most_common())
        row = (
            kind,
            f"{asked.first} to {asked.first + count - 1}",
            outcomes,
            f"{fed.longest[0]:.1f} s (input {fed.longest[1]})",
            f"{fed.largest[0]:.0f} MB (input {fed.largest[1]})",
            f"{time.monotonic() - began_s:.0f} s",
            len(fed.wrong),
        )
        rows.append(row)
        wrong += len(fed.wrong)
        say.print(*row, sep="; ")
        for number, what in fed.wrong.items():
            say.print(f"[red]{kind} {number}:[/] ", what, markup=False)
    if wrong:
        say.print(f"{wrong} went wrong: the inputs are in {asked.keep}")
    if asked.write:
        header = ("kind", "inputs", "outcomes", "longest", "most memory", "took", "wrong")
        command = (
            "scripts/prove fuzz" + f" --first {asked.first}" * bool(asked.first) + " --model FOLDER" * bool(asked.model)
        )
        section("fuzz", "Hostile input", command, table(header, rows))
    return int(wrong > 0)


def _fed(kind: str, first: int, count: int, keep: Path, say: Console) -> Fed:
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with tempfile.TemporaryDirectory(prefix="fuzz-") as folder, Progress(*columns, console=say) as progress:
        task = progress.add_task(kind, total=count)

        def note(fed: Fed) -> None:
            progress.update(task, completed=fed.count, description=f"{kind}, {len(fed.wrong)} wrong")

        return feed(kind, Path(folder) / kind, first, count, keep=keep, progress=note)


if __name__ == "__main__":
    sys.exit(main())
