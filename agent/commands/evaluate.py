"""`sightwire eval`: how good a model is on labelled pictures."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from agent.commands._measuring import answered, bars, counted, pictures

if TYPE_CHECKING:
    from calibration.scoring import Scored

_NAMED = 5
"""Worst classes that the terminal shows; JSON has more."""


def evaluate(
    model: Annotated[
        str, typer.Argument(metavar="MODEL", help="NAME, NAME@fp32, NAME@int8@openvino:GPU, a card, an ONNX file.")
    ],
    dataset: Annotated[
        Path, typer.Option(metavar="DIR", help="Folder of pictures: one per class, or with labels inside.")
    ],
    labels: Annotated[
        Path | None, typer.Option(metavar="FILE", help="CSV or COCO json, where it is not the one inside.")
    ] = None,
    samples: Annotated[int | None, typer.Option(metavar="N", min=1, help="At most so many pictures.")] = None,
    way: Annotated[
        Literal["bgr", "i420"],
        typer.Option("--as", help="Pixels that the model gets; i420 is what cameras and videos deliver."),
    ] = "i420",
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Measure a model on labelled pictures: a folder per class, a CSV, or a COCO json.

    Example: sightwire eval person-ssdlite --dataset val2017/ --labels instances_val2017.json
    """
    with answered():
        from agent.commands._engine import choose
        from calibration.scoring import labels_inside, scored
        from engines.store import ModelStore, default_root

        choice = choose(model, ModelStore(default_root()))
        with bars() as stages, pictures(dataset, None, None, way, stages) as found:
            truth = labels or labels_inside(dataset, found)
            result = scored(choice, found, str(dataset), truth, samples, stages)
    if as_json:
        typer.echo(result.model_dump_json(by_alias=True, indent=2))
    else:
        _print(result)


def _print(result: Scored) -> None:
    from rich.console import Console
    from rich.table import Table

    from calibration.report.words import count

    console = Console(highlight=False, markup=False)
    console.print(f"{result.model}: {result.engine}", soft_wrap=True)
    console.print(f"{result.set_.pictures} pictures of {result.source}, labels of {result.labels}", soft_wrap=True)
    if result.unlabelled:
        console.print(f"{count(result.unlabelled, 'picture')} that it does not name are left out", soft_wrap=True)
    table = Table(box=None, pad_edge=False, show_header=False)
    table.add_column()
    table.add_column(justify="right")
    table.add_column()
    table.add_row(result.metric, f"{result.points:.2f}", "95 %: {:.2f} to {:.2f}".format(*result.interval))
    for name, points in result.details.items():
        table.add_row(name, f"{points:.2f}")
    for row in result.worst_classes[:_NAMED]:
        table.add_row(f"  {row['label']}", f"{row['points']:.2f}", counted(row))
    table.add_row("pictures a second", f"{result.per_second:.1f}", "from file to result, all threads")
    console.print(table)
