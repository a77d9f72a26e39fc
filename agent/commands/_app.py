"""All commands together."""

from __future__ import annotations

import typer

from agent import __version__
from agent.commands import (
    ask,
    bench,
    build,
    calibrate,
    chaos,
    check,
    compare,
    demo,
    doctor,
    evaluate,
    models,
    replay,
    run,
    schema,
    service,
    watch,
)

app = typer.Typer(
    name="sightwire",
    help="Cameras in, INT8 recognition, results out over MQTT.",
    epilog="Example: sightwire demo",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode="rich",
    pretty_exceptions_enable=False,
)
app.command("run")(run.run)
app.command("check")(check.check)
app.command("demo")(demo.demo)
app.command("doctor")(doctor.doctor)
app.command("replay")(replay.replay)
app.command("schema")(schema.schema)
app.command("watch")(watch.watch)
app.command("ask")(ask.ask)
app.command("bench")(bench.bench)
app.command("chaos")(chaos.chaos)
app.command("build")(build.build)
app.command("calibrate")(calibrate.calibrate)
app.command("compare")(compare.compare)
app.command("eval")(evaluate.evaluate)
app.add_typer(models.app, name="models")
app.add_typer(service.app, name="service")


def _version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"sightwire {__version__}")
        raise typer.Exit


@app.callback()
def root(
    version: bool = typer.Option(False, "--version", callback=_version, is_eager=True, help="Print the version."),
) -> None:
    """Cameras in, INT8 recognition, results out over MQTT."""
