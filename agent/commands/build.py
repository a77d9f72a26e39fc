"""`sightwire build`: TensorRT plans made now, for the GPU here or one elsewhere, not when an agent first wants them."""

from __future__ import annotations

import re
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from agent.commands import fail
from agent.exits import EX_CONFIG, EX_INTERRUPTED

if TYPE_CHECKING:
    from engines.backends.tensorrt import Config
    from engines.card import Card, Precision
    from engines.store import ModelStore
    from engines.trt.making import Place
    from engines.trt.order import Order
    from engines.trt.passport import Plan
    from engines.trt.progress import OnProgress
    from engines.trt.store import PlanStore

Target = tuple[int, int]
_MIB = 1 << 20


@dataclass(frozen=True)
class _Wanted:
    """One plan."""

    card: Card
    folder: Path
    precision: Precision
    config: Config
    strict: bool
    """This precision and no other."""

    def __str__(self) -> str:
        return f"{self.card.name}@{self.precision}"


def build(
    models: Annotated[
        list[str] | None, typer.Argument(metavar="MODEL...", help="Names of models that are here, or paths of cards.")
    ] = None,
    config: Annotated[
        Path | None, typer.Option("--all", metavar="CONFIG", help="Instead: every model of a configuration.")
    ] = None,
    target: Annotated[
        str | None,
        typer.Option(metavar="CAPABILITY", help="For GPUs of this compute capability, which need not be here."),
    ] = None,
    out: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Folder to keep them in, laid out like that of the models.")
    ] = None,
    precision: Annotated[
        Literal["int8", "fp32"] | None,
        typer.Option(help="Which of the model's files; else int8 where there is one, and fp32 where that cannot be."),
    ] = None,
    batch: Annotated[int | None, typer.Option(metavar="N", min=1, help="Pictures in one run, at most.")] = None,
    flavour: Annotated[
        Literal["tensorrt", "tensorrt_rtx"] | None,
        typer.Option(help="Default: what the agent takes; with --target, tensorrt_rtx."),
    ] = None,
    again: Annotated[bool, typer.Option("--again", help="Also what is there, and what failed before.")] = False,
) -> None:
    """Make TensorRT plans, check them against the CPU, and keep them where the agent looks for them.

    An agent makes what it misses by itself, in the background. A plan is for one kind of GPU and one version of
    TensorRT. With --target nothing can be checked here: the GPU that gets the plan checks it before it serves.

    Example: sightwire build person-ssdlite --target 8.6 --out plans/
    """
    from agent.errors import ConfigError
    from engines.errors import EngineError
    from engines.store import ModelStore, default_root

    store = ModelStore(default_root())
    try:
        capability = _capability(target)
        if config is not None:
            if models or precision or batch:
                fail("--all takes models, precisions and batches from the configuration: leave out what you gave", 2)
            wanted = _of_configuration(config, store)
        else:
            if not models:
                fail("say which models: names, paths of cards, or --all CONFIG", 2)
            wanted = [_of_model(name, store, precision, batch) for name in models]
        if flavour:
            wanted = [replace(one, config=one.config.model_copy(update={"flavour": flavour})) for one in wanted]
        failed = _build_all(wanted, capability, out, again=again)
    except ConfigError as error:
        fail(error, EX_CONFIG)
    except EngineError as error:
        fail(error)
    except KeyboardInterrupt:
        fail("interrupted", EX_INTERRUPTED)
    if failed:
        raise typer.Exit(1)


def _capability(text: str | None) -> Target | None:
    if text is None:
        return None
    if not (match := re.fullmatch(r"(\d{1,2})\.(\d)", text)):
        fail(f"--target {text}: expected a compute capability, as 8.6 or 12.0 (developer.nvidia.com/cuda-gpus)", 2)
    return int(match[1]), int(match[2])


def _of_model(name: str, store: ModelStore, precision: Precision | None, batch: int | None) -> _Wanted:
    """Raises CardError."""
    from engines.backends.tensorrt import Config
    from engines.errors import CardError

    card, folder = store.find(name)
    if precision is not None and precision not in card.files:
        raise CardError(f"{card.name}: has no {precision} file, only {', '.join(card.files)}")
    taken = precision or ("int8" if "int8" in card.files else "fp32")
    return _Wanted(card, folder, taken, Config(batch=batch) if batch else Config(), strict=precision is not None)


def _of_configuration(path: Path, store: ModelStore) -> list[_Wanted]:
    """Each model that may run on TensorRT, once for each of its settings. Raises ConfigError."""
    from agent.config import load
    from agent.errors import ConfigError
    from agent.models import find_cards
    from engines.backends import auto, tensorrt

    settings = load(path)
    cards = find_cards(settings, store)
    found = []
    for name, section in settings.models.items():
        backend = section.backend
        if isinstance(backend, auto.Config):
            backend = tensorrt.Config(standby=backend.standby)
        if isinstance(backend, tensorrt.Config):
            found.append(_Wanted(*cards[name], section.precision, backend, strict=False))
    if not found:
        raise ConfigError(f"{path}: none of its models has `backend: tensorrt` or auto")
    return found


def _build_all(wanted: list[_Wanted], target: Target | None, out: Path | None, *, again: bool) -> int:
    """Print a line for each plan; return how many could not be made."""
    from engines.errors import EngineError

    failed, seen = 0, set()
    for one in wanted:
        try:
            place = _place(one.config, target)
            orders = _orders(one, target)
            key = (place.passport(orders[0]).key, one.strict)
            if key in seen:
                continue
            seen.add(key)
            with _bar(str(one)) as on_progress:
                plan, made_now = _build(one, orders, place, _stores(one, out), on_progress, again=again)
        except EngineError as error:
            failed += 1
            typer.echo(f"sightwire: {one}: {error}", err=True)
        else:
            _print(one, plan, made_now=made_now)
    return failed


def _place(config: Config, target: Target | None) -> Place:
    """TensorRT and the GPU here, if there is one or none is needed. Raises BackendError."""
    from engines.cuda.errors import NoDevice
    from engines.errors import BackendError
    from engines.trt import flavours
    from engines.trt.features import Features
    from engines.trt.here import device
    from engines.trt.making import Place

    flavour = flavours.load(config.flavour or ("tensorrt_rtx" if target else None))
    try:
        facts = device(config.device)
    except NoDevice as error:
        if target is None:
            raise BackendError(f"{error}; or say for which GPU elsewhere, as in --target 8.6") from None
        facts = None
    flavours.check_builds(flavour)
    known = Features.of(flavour.trt).targets
    if target is not None and target not in known:
        names = ", ".join(f"{major}.{minor}" for major, minor in known)
        what = f"only for {names}" if known else "only for the GPU that is here (tensorrt_rtx builds for others)"
        raise BackendError(f"{flavour} does not build for compute capability {target[0]}.{target[1]}, {what}")
    return Place(flavour, facts, config.device)


def _orders(one: _Wanted, target: Target | None) -> tuple[Order, ...]:
    """Raises CardError, ModelFileError."""
    from engines.card import model_file
    from engines.trt.making import candidates

    order = one.config.order(one.card, model_file(one.card, one.folder, one.precision), one.precision)
    order = replace(order, target=target)
    return (order,) if one.strict else candidates(order, one.card)


def _stores(one: _Wanted, out: Path | None) -> Callable[[Path], PlanStore]:
    from engines.trt.store import FOLDER, PlanStore

    folder = None if out is None else out / one.folder.absolute().name / FOLDER
    return lambda model: PlanStore(model, folder)


def _build(
    one: _Wanted,
    orders: tuple[Order, ...],
    place: Place,
    store_of: Callable[[Path], PlanStore],
    on_progress: OnProgress,
    *,
    again: bool,
) -> tuple[Plan, bool]:
    """The plan, and whether it was made now. Raises EngineError."""
    from engines.trt.making import obtain

    if again:
        for order in orders:
            store_of(order.model).forget(place.passport(order))
    there = {order.model for order in orders if store_of(order.model).path(place.passport(order)).is_file()}
    plan = obtain(orders, one.card, place, lambda plan: plan, on_progress, threading.Event(), store_of)
    return plan, not any(store_of(model).path(plan.passport) == plan.path for model in there)


def _print(one: _Wanted, plan: Plan, *, made_now: bool) -> None:
    made, passport = plan.made, plan.passport
    checked = (
        f"not checked: {made.unchecked}"
        if made.unchecked
        else f"checked: {made.agreement:.0%} of what is let pass from the CPU's results, {made.latency_ms:.2f} ms"
    )
    typer.echo(
        f"{one.card.name}@{passport.precision}, {made.floats} elsewhere, for {passport.gpu}, {passport.flavour} "
        f"{passport.version}: {plan.path}, {len(plan.data) / _MIB:.1f} MiB, "
        f"{f'{made.seconds:.0f} s' if made_now else 'was there'}, {checked}"
    )
    if made.instead_of:
        typer.echo(f"  instead of {made.instead_of}")
    for warning in made.warnings:
        typer.echo(f"  note: {warning}")


@contextmanager
def _bar(name: str) -> Iterator[OnProgress]:
    """A bar on standard error; nothing where that is no terminal."""
    from rich.console import Console
    from rich.progress import BarColumn, Progress, SpinnerColumn, TaskProgressColumn, TextColumn, TimeElapsedColumn

    text = TextColumn("{task.description}", markup=False)
    columns = (SpinnerColumn(), text, BarColumn(), TaskProgressColumn(), TimeElapsedColumn())
    console = Console(stderr=True)
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as bar:
        task = bar.add_task(name, total=1.0)
        yield lambda share, what: bar.update(task, description=f"{name}: {what}", completed=share)
