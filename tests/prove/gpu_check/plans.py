"""The plan of an order, as an agent gets it: the one that is kept, or one that is made in a child process."""

from __future__ import annotations

import threading
from collections.abc import Callable

from engines.card import Card
from engines.cuda.driver import Facts
from engines.trt.flavours import Flavour
from engines.trt.making import Place, make
from engines.trt.order import Order
from engines.trt.passport import Plan
from engines.trt.store import PlanStore


def plan_of(flavour: Flavour, facts: Facts, device: int, card: Card, order: Order, say: Callable[[str], None]) -> Plan:
    """Find or make it; what failed once is tried again. Raises BackendError, ModelFileError."""
    store, place = PlanStore(order.model), Place(flavour, facts, device)
    passport = place.passport(order)
    if plan := store.find(passport):
        return plan
    store.forget(passport)
    return make(order, card, place, store, lambda share, what: say(f"{share:.0%} {what}"), threading.Event())


def discard(order: Order, plan: Plan, why: str) -> None:
    """It computes something else than the model: nobody is to use it."""
    PlanStore(order.model).discard(plan.passport, why)
