"""One model at one precision: built, compared with the CPU, and timed through `Model` beside a bare loop."""

from __future__ import annotations

import itertools
import time
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from pathlib import Path
from statistics import median
from typing import Any, cast

import numpy as np

from engines.base import Ticket
from engines.card import Card, Precision, model_file
from engines.cuda.driver import Driver
from engines.model import Model, task_config
from engines.pixels import Geometry, Picture
from engines.tasks import Options
from engines.trt import reference
from engines.trt.order import Order
from engines.trt.passport import Plan
from engines.trt.running import TensorRTEngine
from tests.prove.gpu_check.bare import BareLoop
from tests.prove.gpu_check.counting import TAKING, Counting
from tests.prove.gpu_check.pictures import ring
from tests.prove.gpu_check.plans import discard

PICTURES = 16
Say = Callable[[str], None]


def order_of(card: Card, folder: Path, precision: Precision, batches: Sequence[int]) -> Order:
    """The plan for these sizes of batch, in ascending order, as far as the model takes them. Raises EngineError."""
    most = min(card.max_batch, batches[-1])
    best = max(batch for batch in (1, *batches[:-1]) if batch <= most)
    size = (card.input.width, card.input.height)
    return Order(
        model_file(card, folder, precision), card.files[precision].sha256, precision, "f16", size, (1, best, most)
    )


def measure(
    trt: Any, open_driver: Callable[[], Driver], plan: Plan, card: Card, order: Order, *,
    batches: Sequence[int], seconds: float, rounds: int, counted: int, say: Say,
) -> dict[str, Any]:  # fmt: skip
    """All that is known of a plan afterwards. Raises EngineError."""
    driver = Counting(open_driver())
    engine = TensorRTEngine(trt, cast(Driver, driver), plan, card)  # which closes the driver
    model = Model(card, order.precision, engine, task_config(card).open(card.labels, Options()))
    with ExitStack() as taken:
        taken.callback(model.close)
        say("compared with the CPU")
        compared = _compared(model, order, card, plan)
        say("timed")
        sizes = [batch for batch in batches if batch <= model.engine.max_batch] or [model.engine.max_batch]
        return {
            "floats": plan.made.floats,
            "plan_mb": len(plan.data) / 1e6,
            "build_s": plan.made.seconds,
            "warnings": list(plan.made.warnings),
            **{name: model.engine.description[name] for name in ("backend", "prepare", "graphs", "batch")},
            **compared,
            **_latency(model, seconds),
            **_counted(model, driver, sizes[-1], counted),
            "rates": [_rates(trt, open_driver, model, plan, size, seconds, rounds) for size in sizes],
        }


def _compared(model: Model, order: Order, card: Card, plan: Plan) -> dict[str, Any]:
    pictures = reference.probe_pictures(order.size, order.batches[2])
    wanted = reference.expected(order.model, card, order.precision, pictures)
    far, wrong = reference.check(model.engine, pictures, wanted)
    if wrong:
        discard(order, plan, wrong)
    return {"distance": far, "distance_limit": wanted.limit, "wrong": wrong}


def _latency(model: Model, seconds: float) -> dict[str, float]:
    """One picture, waited for: from pixels to results."""
    took: list[float] = []
    until = time.perf_counter() + seconds
    for picture in itertools.cycle(ring(PICTURES)):
        began = time.perf_counter()
        model([picture])
        took.append(1e3 * (time.perf_counter() - began))
        if began > until and len(took) > 2 * PICTURES:
            break
    return {"latency_ms": median(took[PICTURES:]), "latency_p95_ms": float(np.percentile(took[PICTURES:], 95))}


class Stream:
    """Batches through a model, as many in flight as its engine takes: the agent's loop without its cameras."""

    def __init__(self, model: Model, batch: int) -> None:
        self._model, self.batch = model, batch
        pictures = ring(max(PICTURES, batch))
        self._pictures = [pictures[i : i + batch] for i in range(0, len(pictures) - batch + 1, batch)]
        self.spent = {"prepare": 0.0, "submit": 0.0, "wait": 0.0, "read": 0.0}
        """Seconds of this thread."""

    def run(self, more: Callable[[int], bool]) -> int:
        """Batches until `more` says no of how many have been started; returns how many were read."""
        flights: deque[tuple[Ticket, list[Geometry]]] = deque()
        started = 0
        while flights or more(started):
            if more(started) and len(flights) < self._model.engine.depth:
                flights.append(self._launch(self._pictures[started % len(self._pictures)]))
                started += 1
            else:
                self._land(*flights.popleft())
        return started

    def rate(self, seconds: float) -> float:
        """Pictures a second."""
        began = time.perf_counter()
        batches = self.run(lambda _: time.perf_counter() - began < seconds)
        return batches * self.batch / (time.perf_counter() - began)

    def _launch(self, pictures: list[Picture]) -> tuple[Ticket, list[Geometry]]:
        began = time.perf_counter()
        geometries = [self._model.geometry(p.image, p.region) for p in pictures]
        batch = self._model.engine.prepare(pictures, geometries)
        prepared = time.perf_counter()
        ticket = self._model.engine.submit(batch)
        self.spent["prepare"] += prepared - began
        self.spent["submit"] += time.perf_counter() - prepared
        return ticket, geometries

    def _land(self, ticket: Ticket, geometries: list[Geometry]) -> None:
        began = time.perf_counter()
        raw = ticket.result()
        waited = time.perf_counter()
        self._model.read(raw, geometries)
        ticket.release()
        self.spent["wait"] += waited - began
        self.spent["read"] += time.perf_counter() - waited


def _counted(model: Model, driver: Counting, batch: int, batches: int) -> dict[str, Any]:
    """What the driver is asked for a batch, once everything has been there before."""
    stream = Stream(model, batch)
    stream.run(lambda started: started < 2 * model.engine.depth)
    driver.calls.clear()
    stream.run(lambda started: started < batches)
    return {
        "counted_batches": batches,
        "allocations": sum(driver.calls[name] for name in TAKING),
        "waits_per_batch": driver.calls["synchronise"] / batches,
        "calls_per_batch": sum(driver.calls.values()) / batches,
    }


def _rates(
    trt: Any, open_driver: Callable[[], Driver], model: Model, plan: Plan, batch: int, seconds: float, rounds: int
) -> dict[str, Any]:
    """Pictures a second, through the model and bare, in turns: what a machine's moods do, they do to both."""
    stream = Stream(model, batch)
    stream.rate(seconds / 4)
    stream.spent = dict.fromkeys(stream.spent, 0.0)
    driver = open_driver()
    driver.make_current()
    try:
        bare = BareLoop(trt, driver, plan, batch)
        try:
            pairs = [(stream.rate(seconds), bare.rate(seconds)) for _ in range(rounds)]
        finally:
            bare.close()
    finally:
        driver.close()
    spent = sum(stream.spent.values())
    return {
        "batch": batch,
        "through_model": median(ours for ours, _ in pairs),
        "bare": median(bare for _, bare in pairs),
        "share": median(ours / bare for ours, bare in pairs),
        "thread": {name: part / spent for name, part in stream.spent.items()},
    }
