"""How TensorRT serves: strictly, or an agent, which sees from its first frame on, by the CPU if need be."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import TYPE_CHECKING

from engines.base import Engine
from engines.card import Card, Precision
from engines.cuda.errors import OutOfDeviceMemory
from engines.errors import BackendError
from engines.handover import HandoverEngine, Report
from engines.trt import flavours, late
from engines.trt.errors import NotNow
from engines.trt.flavours import Flavour
from engines.trt.here import device, lacking
from engines.trt.passport import Plan
from engines.trt.store import PlanStore

if TYPE_CHECKING:
    from engines.backends.tensorrt import Config

WANTED = "tensorrt"
"""What status calls it while it does not serve."""
_PATIENCE_S = 3.0
"""How long the start waits for a plan that is there. TensorRT-RTX compiles kernels for a device that it has not seen
before: then the CPU begins."""


def serve(config: Config, card: Card, model: Path, precision: Precision) -> Engine:
    """An engine for an agent. Raises BackendError where the CPU cannot run the model either."""

    def standby() -> Engine:
        return config.standby.build(card, model, precision)

    def following(report: Report, stop: threading.Event) -> Engine:
        return make_ready(config, card, model, precision, report, stop)

    if why := lacking(config.device, config.flavour):
        return stand_by(config, card, model, precision, {"instead_of": WANTED, "because": why})
    kept = any(PlanStore(model).folder.glob("*.plan"))
    return HandoverEngine(
        WANTED, standby, following, patience_s=_PATIENCE_S if kept else 0.0, passing=(NotNow, OutOfDeviceMemory)
    )


def stand_by(config: Config, card: Card, model: Path, precision: Precision, said: dict[str, str]) -> Engine:
    """The CPU, until a GPU comes, if TensorRT is here and one may; `said`: why, for status. Raises BackendError."""

    def standby() -> Engine:
        engine = config.standby.build(card, model, precision)
        engine.description = {**engine.description, **said}
        return engine

    def following(report: Report, stop: threading.Event) -> Engine:
        late.wait_for(config.device, config.flavour, stop)
        report("starting")
        return make_ready(config, card, model, precision, report, stop)

    if not late.may_come(config.device, config.flavour):
        return standby()
    return HandoverEngine(WANTED, standby, following, passing=(NotNow, OutOfDeviceMemory), quiet=True)


def make_ready(
    config: Config, card: Card, model: Path, precision: Precision, report: Report, stop: threading.Event
) -> Engine:
    """Find the plan or have it made, load it and check it. Raises BackendError; NotNow where it may work later."""
    from engines.trt.making import Place, candidates, obtain

    facts = device(config.device)
    flavour = flavours.load(config.flavour)
    place = Place(flavour, facts, config.device)
    orders = candidates(config.order(card, model, precision), card)
    said = ""

    def on_progress(_share: float, what: str) -> None:
        nonlocal said
        word = "waiting for another plan" if what.startswith("waiting") else "building"
        if word != said:
            said = word
            report(word)

    return obtain(orders, card, place, lambda plan: _checked(config, card, flavour, plan), on_progress, stop)


def _checked(config: Config, card: Card, flavour: Flavour, plan: Plan) -> Engine:
    """The plan at work, if it computes what the CPU does. Raises BackendError that names it, CudaError."""
    from engines.cuda.binding import open_driver
    from engines.trt.reference import check, differs, outputs, probe_pictures
    from engines.trt.running import TensorRTEngine

    if plan.reference is None:
        raise BackendError(f"{plan.path}: what is expected of it is missing beside it")
    engine = TensorRTEngine(flavour.trt, open_driver(config.device), plan, card, prepare=config.prepare)
    try:
        pictures = probe_pictures(plan.passport.size, plan.passport.batches[2])
        if plan.made.unchecked:
            _, wrong = check(engine, pictures, plan.reference)
        else:  # it was right when it was made: is it still, with today's driver?
            wrong = differs(plan.reference, outputs(engine, pictures, engine.max_batch))
        if wrong:
            raise BackendError(f"{plan.path}: computes something else than the model: {wrong}")
    except BaseException:
        engine.close()
        raise
    return engine
