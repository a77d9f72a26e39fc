"""`sightwire models try`: what a model sees in a picture, as a table and as a picture."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from agent.commands import fail

if TYPE_CHECKING:
    from engines.model import Model

_PICTURES = (".bmp", ".jpeg", ".jpg", ".png", ".webp")


def try_model(
    model: Annotated[str, typer.Argument(metavar="CARD", help="Name of a model that is here, or path of its card.")],
    pictures: Annotated[list[Path], typer.Argument(metavar="IMAGE...", help="Pictures, folders of them, or a video.")],
    out: Annotated[
        Path | None, typer.Option(help="Where to draw: a file for one picture, a folder for several.")
    ] = None,
    precision: Annotated[str | None, typer.Option(help="fp32 or int8; without it int8 where the model has it.")] = None,
    threshold: Annotated[float | None, typer.Option(min=0, max=1, help="Least score; without it the card's.")] = None,
    top: Annotated[int | None, typer.Option(min=1, help="At most so many objects or classes.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Run a model on pictures, print what it sees and draw it.

    Example: sightwire models try person-ssdlite street.jpg --out seen.png
    """
    from engines.errors import EngineError
    from engines.store import ModelStore, default_root

    paths = list(_files(pictures))
    if not paths:
        fail(f"{', '.join(map(str, pictures))}: no pictures ({', '.join(_PICTURES)})")
    targets = _targets(paths, out, model)
    try:
        card, folder = ModelStore(default_root()).find(model)
        chosen = _precision(precision, list(card.files))
        opened = _open(card, folder, chosen, threshold, top)
    except EngineError as error:
        fail(error)
    try:
        seen = [_one(opened, path, target) for path, target in zip(paths, targets, strict=True)]
    except EngineError as error:
        fail(error)
    finally:
        opened.close()
    if as_json:
        typer.echo(json.dumps({"model": opened.name, "pictures": seen}, indent=2))
    else:
        _print(opened.name, seen)


def _files(given: list[Path]) -> Iterator[Path]:
    for path in given:
        if path.is_dir():
            yield from sorted(file for file in path.iterdir() if file.suffix.lower() in _PICTURES)
        elif path.is_file():
            yield path
        else:
            fail(f"{path}: no such picture")


def _targets(paths: list[Path], out: Path | None, model: str) -> list[Path]:
    """One file for each picture: never a picture itself, never two in one."""
    name = Path(model).parent.name if Path(model).suffix else Path(model).name
    one_file = len(paths) == 1 and out is not None and not out.is_dir()
    folder = Path() if out is None or one_file else out
    targets = [out] if one_file and out else [folder / f"{path.stem}.{name}.png" for path in paths]
    if out is not None and not one_file:
        if out.exists() and not out.is_dir():
            fail(f"{out}: is a file; several pictures are drawn into a folder")
        try:
            out.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            fail(f"{out}: cannot be made ({error.strerror})")
    for index, target in enumerate(targets):
        if target.suffix.lower() not in _PICTURES:
            fail(f"{target}: not a kind of picture that can be written: {', '.join(_PICTURES)}")
        if any(target.exists() and target.samefile(path) for path in paths):
            fail(f"{target}: is the picture that is looked at; give another --out")
        if target in targets[:index]:
            targets[index] = target.with_name(f"{paths[index].stem}-{index}.{name}.png")
    return targets


def _precision(wanted: str | None, here: list[Any]) -> Literal["fp32", "int8"]:
    chosen = wanted or ("int8" if "int8" in here else "fp32")
    if chosen not in ("fp32", "int8"):
        fail(f"--precision {chosen}: fp32 or int8")
    return chosen  # type: ignore[return-value]  # one of the two


def _open(card: Any, folder: Path, precision: Any, threshold: float | None, top: int | None) -> Model:
    from engines.backends.openvino import Config
    from engines.model import open_model
    from engines.tasks import Options

    return open_model(card, folder, precision, Config(streams=1), Options(threshold=threshold, top=top))


def _one(model: Model, path: Path, target: Path) -> dict[str, Any]:
    """Look at one picture, draw it, and return what was seen."""
    import cv2

    from agent.drawing import draw, read_picture
    from agent.results import CONTENTS
    from engines.errors import PictureError
    from engines.pixels import Image, Picture

    pixels = read_picture(path)
    if pixels is None:
        raise PictureError(f"{path}: not a readable picture")
    height, width = pixels.shape[:2]
    (result,) = model([Picture(Image((pixels,), "bgr", "601", "full", (width, height)))])
    content = CONTENTS[type(result)]
    if not cv2.imwrite(str(target), draw(pixels, result, model.card.labels)):
        raise PictureError(f"{target}: cannot be written; is its folder there?")
    return {
        "file": str(path),
        "width": width,
        "height": height,
        content.field: content.of(result, model.card.labels),
        "drawn": str(target),
    }


def _print(name: str, seen: list[dict[str, Any]]) -> None:
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    console = Console()
    for picture in seen:
        rows = picture.get("detections", picture.get("classes", []))
        table = Table(box=None, pad_edge=False)
        boxes = "detections" in picture
        for heading in ("label", "score", "left, top, right, bottom")[: 2 + boxes]:
            table.add_column(heading, justify="right" if heading == "score" else "left")
        for row in rows:
            box = [", ".join(f"{edge:.0f}" for edge in row["box"])] if boxes else []
            table.add_row(escape(row["label"]), f"{row['score']:.3f}", *box)
        size = f"{picture['width']}x{picture['height']}"
        console.print(f"[bold]{escape(picture['file'])}[/] [dim]{size}, {escape(name)}[/]", soft_wrap=True)
        console.print(table if rows else "nothing")
        console.print(f"[dim]drawn in[/] {escape(picture['drawn'])}", highlight=False, soft_wrap=True)
