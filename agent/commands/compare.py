"""`sightwire compare`: what one model or engine loses against another, on the same pictures."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from agent.commands import fail
from agent.commands._measuring import answered, bars, counted, pictures

if TYPE_CHECKING:
    from rich.table import Table

    from calibration.report import Compared
    from calibration.versus import Versus

_NAMED = 5
"""Worst pictures and classes that the terminal shows; JSON and page have more."""
_SYNTAX = "NAME, NAME@fp32, NAME@int8@openvino:GPU, a card or an ONNX file"


def compare(
    a: Annotated[str, typer.Argument(metavar="A", help=f"The better one, or the one in use: {_SYNTAX}.")],
    b: Annotated[str, typer.Argument(metavar="B", help="The one that may lose, written alike.")],
    images: Annotated[Path | None, typer.Option(metavar="DIR", help="Folder of pictures.")] = None,
    video: Annotated[Path | None, typer.Option(metavar="FILE", help="Or a video.")] = None,
    labels: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="What is in the pictures: COCO json, CSV, or a folder with one per class."),
    ] = None,
    samples: Annotated[int | None, typer.Option(metavar="N", min=1, help="At most so many pictures.")] = None,
    way: Annotated[
        Literal["bgr", "i420"],
        typer.Option("--as", help="Pixels that the models get; i420 is what cameras and videos deliver."),
    ] = "i420",
    budget: Annotated[
        float | None, typer.Option(metavar="X", min=0, help="Exit status 1 if B loses more points of 100.")
    ] = None,
    out: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Write a page (HTML) with the worst pictures.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Measure how much worse model or engine B is than A, and how fast both are.

    With --labels by top-1 or average precision; without by what A says of the same pictures.

    Example: sightwire compare person-ssdlite@fp32 person-ssdlite@int8 --images photos/ --out report.html
    """
    with answered():
        from agent.commands._engine import choose
        from calibration.report import write_comparison
        from calibration.versus import labels_of_both, versus
        from engines.store import ModelStore, default_root

        store = ModelStore(default_root())
        if out is not None and not out.parent.is_dir():
            fail(f"{out}: its folder is not there")  # said before the work is done
        choices = choose(a, store), choose(b, store)
        labels_of_both(*choices)  # said before pictures are read
        with bars() as stages, pictures(images, video, samples, way, stages) as found:
            source = str(images or video)
            seen = versus(*choices, found, source, truth=labels, most=samples, budget=budget, stages=stages)
            worst = [] if out is None else seen.side_by_side()
        compared = seen.compared
        if as_json:
            typer.echo(compared.model_dump_json(by_alias=True, indent=2))
        else:
            _print(seen)
        if out is not None:  # last: a page that cannot be written costs no figure
            write_comparison(compared, worst, out)
            typer.echo(f"page written to {out}", err=True)
    if compared.inside is False:
        fail(f"{b} loses {compared.loss:.2f} points of {compared.metric} against {a}, more than --budget {budget:g}")


def _print(seen: Versus) -> None:
    from rich.console import Console

    from calibration.report.verdict import Scores, verdict

    compared = seen.compared
    console = Console(highlight=False, markup=False)
    for letter, side in (("A", compared.a), ("B", compared.b)):
        console.print(f"{letter}  {side.name}: {side.engine}", soft_wrap=True)
    if seen.left_out:
        both, only = len(seen.labels), len(seen.left_out)
        console.print(
            f"   {both} labels that both have are looked at, {only} that only one has are not", soft_wrap=True
        )
    console.print(_figures(compared))
    said = verdict(Scores.of(compared))
    for line in (said.sentence, said.certainty):
        if line:
            console.print(line, soft_wrap=True)
    for worst in compared.worst[:_NAMED]:
        console.print(f"  {worst.picture}  A: {worst.fp32}  B: {worst.int8}", soft_wrap=True)


def _figures(compared: Compared) -> Table:
    """Metric, its details, worst classes, time."""
    from rich.table import Table

    table = Table(box=None, pad_edge=False)
    table.add_column("")
    for column in ("A", "B", "B loses"):
        table.add_column(column, justify="right")
    table.add_column("")
    interval = "95 %: {:.2f} to {:.2f}".format(*compared.interval)
    _row(table, compared.metric, compared.a_points, compared.b_points, interval)
    for name, value in compared.details.items():
        if isinstance(value, dict) and {"a", "b"} <= value.keys():
            _row(table, name, value["a"], value["b"])
        elif isinstance(value, int | float):
            table.add_row(name, "", f"{value:.2f}" if isinstance(value, float) else str(value))
    for row in compared.details.get("worst classes", ())[:_NAMED]:
        _row(table, f"  {row['label']}", row["a"], row["b"], counted(row))
    if compared.a.ms is not None and compared.b.ms is not None:
        faster = f"{compared.a.ms / compared.b.ms:.2f} times as fast, one thread, {compared.device}"
        table.add_row("ms a picture", f"{compared.a.ms:.2f}", f"{compared.b.ms:.2f}", "", faster)
    return table


def _row(table: Table, name: str, a: float, b: float, note: str = "") -> None:
    table.add_row(name, f"{a:.2f}", f"{b:.2f}", f"{a - b:.2f}", note)
