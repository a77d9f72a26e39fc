"""`sightwire models import`: a user's own ONNX file becomes a model."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from agent.commands import fail

if TYPE_CHECKING:
    from engines.importing import Result, Stage
    from engines.importing.facts import Given
    from engines.store import ModelStore

_SAYS = {
    "read": "reading",
    "convert": "converting",
    "compare": "comparing with the file",
    "prove": "checking batches of",
}
_HELP = "See docs/models.md, or --families for the list."


def import_model(
    file: Annotated[
        Path | None, typer.Argument(metavar="FILE", help="The ONNX file; its weights may lie beside it.")
    ] = None,
    family: Annotated[str | None, typer.Option(help=f"What kind of network it is. {_HELP}")] = None,
    labels: Annotated[
        str | None,
        typer.Option(
            help="A file with one a line, names with commas, coco, imagenet, or numbers to call them 0, 1, 2…"
        ),
    ] = None,
    size: Annotated[str | None, typer.Option(metavar="WxH", help="Input size, where the file leaves it free.")] = None,
    layout: Annotated[str | None, typer.Option(help="nchw or nhwc, where the shape does not tell.")] = None,
    channels: Annotated[str | None, typer.Option(help="rgb or bgr: the order that it was trained with.")] = None,
    mean: Annotated[
        str | None,
        typer.Option(
            help="One number or three in the order of --channels, for pixels of 0 to 255; or imagenet, unit (0 to 1), "
            "signed (-1 to 1), raw."
        ),
    ] = None,
    std: Annotated[str | None, typer.Option(help="As --mean, which names both where it is a word.")] = None,
    fit: Annotated[str | None, typer.Option(help="stretch, letterbox or crop.")] = None,
    fill: Annotated[int | None, typer.Option(min=0, max=255, help="letterbox: level of the bars.")] = None,
    align: Annotated[str | None, typer.Option(help="letterbox: centre or top-left.")] = None,
    crop: Annotated[float | None, typer.Option(help="crop: share of the picture that is kept.")] = None,
    resize: Annotated[str | None, typer.Option(help="area (antialiased) or linear.")] = None,
    task: Annotated[
        list[str] | None,
        typer.Option(metavar="KEY=VALUE", help="A number of the task's reading, instead of what was derived."),
    ] = None,
    name: Annotated[str | None, typer.Option(help="What to call the model; without it, after the file.")] = None,
    summary: Annotated[str | None, typer.Option(help="What it sees, in a line.")] = None,
    licence: Annotated[str | None, typer.Option(help="SPDX identifier of the weights' licence.")] = None,
    homepage: Annotated[str | None, typer.Option(help="Where it comes from.")] = None,
    max_batch: Annotated[int, typer.Option(min=1, max=64, help="Largest batch to try.")] = 8,
    unproven: Annotated[bool, typer.Option("--unproven", help="Take an INT8 file that nobody proved.")] = False,
    again: Annotated[bool, typer.Option("--again", help="Replace a model of that name.")] = False,
    families: Annotated[bool, typer.Option("--families", help="List the families and end.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Make a model of your own ONNX file, and say who said what of it.

    Example: sightwire models import best.onnx --family yolov8 --labels helmet,vest,person --name ppe
    """
    from engines.errors import EngineError
    from engines.importing.facts import Given
    from engines.store import ModelStore, default_root

    if families:
        _print_families(as_json=as_json)
        return
    if file is None:
        fail("name the ONNX file: sightwire models import FILE --family NAME")
    given = Given(
        family=family, labels=labels, size=_size(size), layout=_word("layout", layout, "nchw", "nhwc"),
        channels=_word("channels", channels, "rgb", "bgr"), mean=mean, std=std,
        fit=_word("fit", fit, "stretch", "letterbox", "crop"), fill=fill,
        align=_word("align", align, "centre", "top-left"), crop=crop, resize=_word("resize", resize, "area", "linear"),
        task=_task(task or []), name=name, summary=summary, licence=licence, homepage=homepage, max_batch=max_batch,
        unproven=unproven,
    )  # fmt: skip
    try:
        result = _with_bar(file, given, ModelStore(default_root()), again=again)
    except MemoryError:
        fail(f"{file}: the network needs more memory than there is")
    except EngineError as error:
        fail(error)
    if as_json:
        card = result.card.model_dump(mode="json", by_alias=True, exclude_none=True)
        typer.echo(json.dumps({"folder": str(result.folder), **card}, indent=2))
    else:
        _print(result)


def _with_bar(file: Path, given: Given, store: ModelStore, *, again: bool) -> Result:
    from rich.console import Console
    from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

    from engines.importing import import_model as make

    columns = (SpinnerColumn(), TextColumn("{task.description}"), TimeElapsedColumn())
    console = Console(stderr=True)
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as bar:
        task = bar.add_task(file.name, total=None)

        def show(stage: Stage) -> None:
            bar.update(task, description=f"{_SAYS[stage]} {file.name}")

        return make(file, given, store, show, again=again)


def _size(text: str | None) -> tuple[int, int] | None:
    if text is None:
        return None
    parts = text.lower().split("x")
    if len(parts) == 1:
        parts *= 2
    if len(parts) != 2 or not all(part.isdecimal() and int(part) > 0 for part in parts):
        fail(f"--size {text}: expected WIDTHxHEIGHT, as in 640x480")
    return int(parts[0]), int(parts[1])


def _word(flag: str, value: str | None, *known: str) -> str | None:
    if value is not None and value not in known:
        fail(f"--{flag} {value}: expected {' or '.join(known)}")
    return value


def _task(pairs: list[str]) -> dict[str, Any]:
    import yaml

    found: dict[str, Any] = {}
    for pair in pairs:
        key, equals, value = pair.partition("=")
        if not key or not equals:
            fail(f"--task {pair}: expected KEY=VALUE, as in activation=softmax")
        try:
            found[key] = yaml.safe_load(value)
        except yaml.YAMLError:
            fail(f"--task {pair}: {value!r} is no YAML value")
    return found


def _print_families(*, as_json: bool) -> None:
    from rich.console import Console
    from rich.table import Table

    from engines.importing.families import ALIASES, FAMILIES

    also = {name: [alias for alias, meant in ALIASES.items() if meant == name] for name in FAMILIES}
    if as_json:
        rows = [{"family": n, "what": f.what, "also": also[n]} for n, f in FAMILIES.items()]
        typer.echo(json.dumps(rows, indent=2))
        return
    table = Table(box=None, pad_edge=False)
    for heading in ("family", "what", "also called"):
        table.add_column(heading, no_wrap=heading == "family")
    for name, kind in FAMILIES.items():
        table.add_row(f"[bold]{name}[/]", kind.what, ", ".join(also[name]))
    Console().print(table)


def _print(result: Result) -> None:
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    console, card = Console(), result.card
    table = Table(box=None, pad_edge=False)
    for heading in ("fact", "value", "who says so"):
        table.add_column(heading, no_wrap=heading == "fact", overflow="fold")
    for fact in result.facts:
        table.add_row(fact.name, escape(_text(fact.value)), fact.source)
    console.print(table)
    if card.imported is not None:
        proof = card.imported
        console.print(
            f"[dim]compared with the file on {escape(proof.judge)}: largest difference {proof.difference:.1e}, "
            f"allowed {proof.tolerance:g}; batches up to {card.max_batch}[/]",
            highlight=False,
            soft_wrap=True,
        )
    console.print(f"[bold]{card.name}[/]: {', '.join(card.files)} in {escape(str(result.folder))}", soft_wrap=True)
    console.print(f"[dim]look at it:[/] sightwire models try {card.name} PICTURE", highlight=False, soft_wrap=True)


def _text(value: Any) -> str:
    if isinstance(value, tuple | list):
        parts = [f"{part:g}" if isinstance(part, float) else str(part) for part in value]
        return ", ".join(parts[:6]) + (f", … ({len(parts)})" if len(parts) > 6 else "")
    return str(value)
