"""`sightwire bench`: how fast is this machine with these cameras and models, and where does the time go?"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import typer

from agent.allocator import share_arenas
from agent.commands import fail
from agent.exits import EX_CONFIG

if TYPE_CHECKING:
    from rich.table import Table

    from agent.bench import Report
    from agent.config import Settings
    from agent.planning import Plan


def bench(
    config: Path | None = typer.Argument(None, help="A configuration; its cameras, models and broker are used."),
    model: str | None = typer.Option(None, help="Instead of a configuration: a model's name or card ..."),
    source: str | None = typer.Option(None, help="... and a source: a URL or a file."),
    cameras: int | None = typer.Option(
        None,
        min=1,
        max=256,
        help="With --source: so many cameras that all read it (1). With --plan: at most so many (64).",
    ),
    precision: str = typer.Option("int8", help="With --model: int8 or fp32."),
    threads: int | None = typer.Option(None, min=1, help="With --model: CPU threads of the engine."),
    broker: str | None = typer.Option(
        None,
        help="Measure up to a subscriber of this broker: mqtt|mqtts|ws|wss://HOST[:PORT]. "
        "Without it, --plan publishes where nobody hears it.",
    ),
    seconds: float = typer.Option(10.0, min=0.5, help="How long each stage is measured."),
    plan: bool = typer.Option(
        False, "--plan", help="How many of these cameras does this machine carry? Runs more and more of them."
    ),
    rate: float | None = typer.Option(None, min=0.1, max=240, help="With --plan: frames/s of each camera (its own)."),
    age: float | None = typer.Option(
        None, min=1, help="With --plan: 95 % of results must be younger, ms (max_age: 1000)."
    ),
    as_json: bool = typer.Option(False, "--json", help="Everything, for programs."),
) -> None:
    """Measure decode, preparation, engine and the whole: throughput, latency, CPU, memory.

    Example: sightwire bench --model person-ssdlite --source street.mp4 --plan --rate 15
    """
    # As `run` does, before the heavy imports: what is measured is what will run.
    share_arenas()
    from rich.console import Console

    from agent.bench import measure
    from agent.errors import AgentError, ConfigError
    from engines.errors import EngineError
    from engines.store import ModelStore, default_root

    console = Console(stderr=True)
    try:
        publish = broker or ("mqtt://127.0.0.1" if plan and config is None else None)
        settings = _settings(config, model, source, 1 if plan else cameras or 1, precision, threads, publish)
        if plan:
            # Nobody hears of cameras that do not exist, unless a broker is named for it: they get one of their own.
            _plan(settings, seconds, rate, age, cameras or 64, heard=broker is not None, as_json=as_json)
            return
        if rate or age:
            raise ConfigError("--rate and --age: only with --plan")
        with console.status("starting …") as status:
            report = measure(
                settings, ModelStore(default_root()), seconds, lambda what: status.update(f"measuring: {what} …")
            )
    except ConfigError as error:
        fail(error, EX_CONFIG)
    except (AgentError, EngineError, ValueError) as error:
        fail(error)
    if as_json:
        print(report.to_json())
        return
    for table in _tables(report):
        Console().print(table)


def _plan(
    settings: Settings,
    seconds: float,
    rate: float | None,
    age: float | None,
    most: int,
    *,
    heard: bool,
    as_json: bool,
) -> None:
    from rich.console import Console
    from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

    from agent.planning import plan
    from engines.store import ModelStore, default_root

    text = TextColumn("{task.description}", markup=False)
    with Progress(
        SpinnerColumn(), text, BarColumn(), TimeElapsedColumn(), console=Console(stderr=True), transient=True
    ) as bar:
        task = bar.add_task("starting", total=None)
        found = plan(
            settings,
            ModelStore(default_root()),
            seconds,
            rate=rate,
            age_ms=age,
            most=most,
            heard=heard,
            told=lambda what: bar.update(task, description=f"measuring: {what}"),
        )
    if as_json:
        print(found.to_json())
        return
    Console().print(_rows(found))
    Console().print(_notes(found), markup=False, highlight=False)
    Console().print(found.sentence, markup=False, soft_wrap=True)


def _rows(found: Plan) -> Table:
    from rich.table import Table

    table = Table(title=f"Runs of {found.seconds:g} s on {found.machine['cores']} cores", title_justify="left")
    for column in ("cameras", "frames/s", "results/s", "met", "age (p95) ms", "cores (decode)", "fits"):
        table.add_column(column, justify="right")
    for row in found.rows:
        table.add_row(
            str(row.cameras),
            f"{row.frames:g}",
            f"{row.results:g}",
            f"{row.met:.0%}",
            "-" if row.age_p50_ms is None else f"{row.age_p50_ms:.0f} ({row.age_p95_ms:.0f})",
            f"{row.cpu_cores:.2f} ({row.capture_cores:.2f})",
            "yes" if row.fits else "no",
        )
    return table


def _notes(found: Plan) -> str:
    cameras = "; ".join(
        f"{name} {c['size']} {c['codec']} at {c['rate']:g} frames/s, {c['stand_ins']}"
        for name, c in found.cameras.items()
    )
    return (
        f"Cameras: {cameras}. Per camera: frames and results a second (the slowest's), share of the results asked for "
        f"that came, age of the pixels at {found.until}; cores: of all, and of these decoding."
    )


def _settings(
    config: Path | None,
    model: str | None,
    source: str | None,
    cameras: int,
    precision: str,
    threads: int | None,
    broker: str | None,
) -> Settings:
    import yaml

    from agent.config import load, loads
    from agent.errors import ConfigError

    if config is not None:
        if model or source:
            raise ConfigError("give a configuration, or --model and --source, not both")
        settings = load(config)
        if broker is None:
            return settings
        document = yaml.safe_load(config.read_text(encoding="utf-8"))
        return loads(yaml.safe_dump(document | {"mqtt": {"url": broker}}), str(config))
    if not (model and source):
        raise ConfigError("give a configuration, or both --model and --source")
    backend = {"type": "openvino"} | ({"threads": threads} if threads else {})
    document = {
        "agent": {"name": "bench"},
        "models": {"model": {"model": model, "precision": precision, "backend": backend}},
        "cameras": {f"camera{i}": {"source": source, "models": ["model"]} for i in range(cameras)},
    }
    return loads(yaml.safe_dump(document | ({"mqtt": {"url": broker}} if broker else {})), "bench")


def _tables(report: Report) -> list[Table]:
    from rich.table import Table

    devices = sorted({str(network.description["device"]) for network in report.network.values()})
    where = f"{report.machine['cores']} cores, {', '.join(devices)}"
    stages = Table(title=f"Stages by themselves ({where})", title_justify="left")
    for column in ("stage", "what", "a second", "ms each", "notes"):
        stages.add_column(column, justify="right" if column in ("a second", "ms each") else "left")
    for name, decode in report.decode.items():
        size = f"{decode.size[0]}x{decode.size[1]}"
        stages.add_row("decode", name, f"{decode.per_second}", f"{decode.cpu_ms} CPU", f"{size} {decode.pixels}")
    for name, prepare in report.prepare.items():
        stages.add_row("prepare", name, f"{1000 / prepare.ms:.0f}", f"{prepare.ms}", "one thread")
    for name, network in report.network.items():
        notes = ", ".join(f"{key} {value}" for key, value in network.description.items() if key != "device")
        stages.add_row("engine", name, f"{network.per_second}", f"{network.latency_ms}", notes)
    whole = Table(title="Everything together", title_justify="left", show_header=False)
    if end := report.whole:
        whole.add_row("results a second", f"{end.per_second}")
        if end.latency:
            whole.add_row(
                f"pixels here → {end.until}",
                f"median {end.latency.p50} ms, p95 {end.latency.p95}, p99 {end.latency.p99}, most {end.latency.most}",
            )
        whole.add_row("CPU", f"{end.cpu_cores} cores, {end.cpu_cores_per_camera} a camera")
        whole.add_row("memory (RSS)", f"{end.rss_mb} MB")
        for camera, uses in end.accounts.items():
            for use, counts in uses.items():
                whole.add_row(f"{camera}/{use}", ", ".join(f"{k} {v}" for k, v in counts.items() if v))
    return [stages, whole]
