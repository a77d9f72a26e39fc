"""The plan of an order, as an agent gets it: the one that is kept, or one that is made in a child process.

And before any of them: does this TensorRT take this GPU at all?
"""

from __future__ import annotations

import tempfile
import threading
from collections.abc import Callable
from pathlib import Path

from engines.card import Card, sha256_of
from engines.cuda.driver import Driver, Facts
from engines.trt.building import build
from engines.trt.flavours import Flavour
from engines.trt.making import Place, make
from engines.trt.order import Order
from engines.trt.passport import Plan
from engines.trt.store import PlanStore
from tests.prove.gpu_check.bare import BareLoop
from tests.support.means import means_model


def plan_of(flavour: Flavour, facts: Facts, device: int, card: Card, order: Order, say: Callable[[str], None]) -> Plan:
    """Find or make it; what failed once is tried again. Raises BackendError, ModelFileError."""
    store, place = PlanStore(order.model), Place(flavour, facts, device)
    passport = place.passport(order)
    if plan := store.find(passport):
        return plan
    store.forget(passport)
    return make(order, card, place, store, lambda share, what: say(f"{share:.0%} {what}"), threading.Event())


def probe(flavour: Flavour, facts: Facts, open_driver: Callable[[], Driver]) -> None:
    """Build the smallest of networks and run it: whether this TensorRT takes this GPU. Raises EngineError."""
    with tempfile.TemporaryDirectory() as folder:
        model = means_model(Path(folder) / "probe.onnx")
        order = Order(model, sha256_of(model), "fp32", "f16", (32, 32), (1, 1, 1))
        built = build(flavour, order)
        driver = open_driver()
        try:
            plan = Plan(model, built.plan, Place(flavour, facts).passport(order), None)
            bare = BareLoop(flavour.trt, driver, plan, 1)
            try:
                bare.rate(0.01)
            finally:
                bare.close()
        finally:
            driver.close()


def discard(order: Order, plan: Plan, why: str) -> None:
    """It computes something else than the model: nobody is to use it."""
    PlanStore(order.model).discard(plan.passport, why)
