"""The plan of an order: the one that is kept, or a new one, built here. This is a process of its own already."""

from __future__ import annotations

from collections.abc import Callable

from engines.cuda import nvrtc
from engines.cuda.driver import Facts
from engines.cuda.preparing import SOURCE
from engines.trt.building import build
from engines.trt.flavours import Flavour
from engines.trt.order import Order
from engines.trt.passport import Made, Passport, Plan
from engines.trt.store import PlanStore, now


def plan_of(flavour: Flavour, facts: Facts, order: Order, say: Callable[[str], None]) -> Plan:
    """Find or build it. Raises BuildError, ModelFileError, BackendError."""
    store = PlanStore(order.model)
    passport = Passport.of(order, flavour.name, flavour.version, facts)
    if plan := store.find(passport):
        return plan
    cubin = nvrtc.compile(SOURCE.read_text(encoding="utf-8"), facts.compute_capability)
    built = build(flavour, order, store.timing_cache(passport), lambda share, step: say(f"{share:.0%} {step}"))
    made = Made(
        plan_sha256="0" * 64,  # the store's to say
        floats=built.floats,
        driver=facts.driver,
        built_on=facts.name,
        built_at=now(),
        seconds=built.seconds,
        warnings=built.warnings,
    )
    store.keep_timing_cache(passport, built.timing_cache)
    return store.save(passport.model_copy(update={"made": made}), built.plan, cubin, None)


def discard(order: Order, plan: Plan, why: str) -> None:
    """It computes something else than the model: nobody is to use it."""
    PlanStore(order.model).discard(plan.passport, why)
