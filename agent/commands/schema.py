"""`sightwire schema`: what goes over the wire, for programs."""

from __future__ import annotations

import difflib
from pathlib import Path

import typer

from agent.commands import fail


def schema(
    name: str = typer.Argument(
        "", help="Which payload: detections, event, command, ...; without, says which there are."
    ),
    asyncapi: bool = typer.Option(False, "--asyncapi", help="All topics and payloads, as an AsyncAPI 3.0 document."),
    write: Path | None = typer.Option(
        None, metavar="FOLDER", help="Write all of them to files in this folder instead."
    ),
) -> None:
    """Print the JSON Schema of a payload, or the AsyncAPI document of all topics.

    Example: sightwire schema detections
    """
    from agent.schema.files import ASYNCAPI, files
    from agent.schema.topics import PAYLOADS, TOPICS

    if write is not None:
        try:
            write.mkdir(parents=True, exist_ok=True)
            for file, text in files().items():
                (write / file).write_text(text, encoding="utf-8")
        except OSError as error:
            fail(f"{write}: cannot be written: {error.strerror}")
        typer.echo(f"{write}: {', '.join(files())}")
    elif asyncapi:
        typer.echo(files()[ASYNCAPI], nl=False)
    elif not name:
        for topic in TOPICS:
            typer.echo(f"{topic.payload or '(JPEG)':15} {topic.address}")
    elif name in PAYLOADS:
        typer.echo(files()[f"{name}.json"], nl=False)
    else:
        near = difflib.get_close_matches(name, PAYLOADS, n=1)
        fail(f"no payload {name!r}: " + (f"did you mean {near[0]!r}?" if near else ", ".join(PAYLOADS)), 2)
