"""How TensorRT serves: strictly, or an agent, which sees from its first frame on, by the CPU if need be."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from engines.base import Engine
from engines.card import Card, Precision
from engines.cuda.errors import CudaError
from engines.errors import BackendError
from engines.handover import HandoverEngine, Report
from engines.trt import flavours
from engines.trt.errors import NotNow
from engines.trt.flavours import Flavour
from engines.trt.here import device, lacking
from engines.trt.order import Order
from engines.trt.passport import Passport, Plan
from engines.trt.store import PlanStore

if TYPE_CHECKING:
    from engines.backends.tensorrt import Config

WANTED = "tensorrt"
"""What status calls it while it does not serve."""
_PATIENCE_S = 3.0
"""How long the start waits for a plan that is there. TensorRT-RTX compiles kernels for a device that it has not seen
before: then the CPU begins."""
_NOT_NOW_S = 600.0
"""How long until what had no room is tried again."""
_BUILDING = threading.Lock()
_POLL_S = 0.1


def serve(config: Config, card: Card, model: Path, precision: Precision) -> Engine:
    """An engine for an agent. Raises BackendError where the CPU cannot run the model either."""

    def standby() -> Engine:
        return config.standby.build(card, model, precision)

    def following(report: Report, stop: threading.Event) -> Engine:
        while True:
            try:
                return make_ready(config, card, model, precision, report, stop)
            except NotNow as error:
                if stop.is_set():
                    raise
                report(f"tried again every {_NOT_NOW_S / 60:.0f} minutes, {error};")
                stop.wait(_NOT_NOW_S)

    if why := lacking(config.device, config.flavour):
        engine = standby()
        engine.description = {**engine.description, "instead_of": WANTED, "because": why}
        return engine
    kept = any(PlanStore(model).folder.glob("*.plan"))
    return HandoverEngine(WANTED, standby, following, patience_s=_PATIENCE_S if kept else 0.0)


def make_ready(
    config: Config, card: Card, model: Path, precision: Precision, report: Report, stop: threading.Event
) -> Engine:
    """Find the plan or have it made, load it and check it. Raises BackendError; NotNow where it may work later.

    A plan that does not load, or computes something else than the model, is never used, and is made anew once.
    """
    from engines.cuda.binding import open_driver

    facts = device(config.device)
    flavour = flavours.load(config.flavour)
    order = config.order(card, model, precision)
    store = PlanStore(model)
    passport = Passport.of(order, flavour.name, flavour.version, facts)
    plan = store.find(passport)
    if plan is not None:
        try:
            return _checked(config, card, order, flavour, plan)
        except CudaError:  # the device has no room, or is lost: the plan is as good as it was
            raise
        except BackendError as error:
            store.discard(passport, str(error))
    if said := store.failed(passport, facts.driver):
        raise BackendError(said)
    if not hasattr(flavour.trt, "Builder"):
        raise BackendError(
            f"{flavour} runs plans and builds none (a lean or dispatch runtime): install the whole of TensorRT, or "
            "build the plan on a machine like this one (sightwire build)"
        )
    open_driver(config.device).close()  # what would fail after half an hour of building fails now
    from engines.trt.making import make

    with _one_at_a_time(report, stop):
        report("building")
        plan = make(order, flavour.name, store, lambda *_: None, stop)
    try:
        return _checked(config, card, order, flavour, plan)
    except CudaError:
        raise
    except BackendError as error:
        store.discard(passport, str(error))
        store.fail(passport, str(error), facts.driver)
        raise


@contextlib.contextmanager
def _one_at_a_time(report: Report, stop: threading.Event) -> Iterator[None]:
    """Building takes much memory, and all of a GPU: so one model after the other."""
    if not _BUILDING.acquire(blocking=False):
        report("waiting for the other models' plans")
        while not _BUILDING.acquire(timeout=_POLL_S):
            if stop.is_set():
                raise NotNow("stopped")
    try:
        yield
    finally:
        _BUILDING.release()


def _checked(config: Config, card: Card, order: Order, flavour: Flavour, plan: Plan) -> Engine:
    """The plan at work, if it computes what the CPU does. Raises BackendError that names it, CudaError."""
    from engines.cuda.binding import open_driver
    from engines.trt.reference import check, expected, probe_pictures, ranks
    from engines.trt.running import TensorRTEngine

    engine = TensorRTEngine(flavour.trt, open_driver(config.device), plan, card, prepare=config.prepare)
    try:
        pictures = probe_pictures(order)
        wanted = plan.reference or expected(order.model, card, order.precision, pictures)
        _, wrong = check(engine, pictures, wanted)
        if wrong and ranks(order.model):
            _, wrong = check(engine, pictures, wanted, ranked=True)
        if wrong:
            raise BackendError(f"{plan.path}: computes something else than the model: {wrong}")
    except BaseException:
        engine.close()
        raise
    return engine
