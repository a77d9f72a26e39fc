"""`python -m engines.trt.child`: makes one plan, as a process of its own. `engines.trt.making` starts it.

Building takes gigabytes for minutes and may crash: here it takes nobody along. The job is JSON on stdin; what happens
is said in JSON lines on stdout: `{"share": 0.3, "what": "..."}`, and last `{"done": true}` or `{"failed": "...",
"kind": "plan" | "now" | "place"}` (the plan cannot be made; not at the moment; it cannot be kept).
"""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import signal
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict

from engines.card import Card
from engines.cuda.errors import NoDevice, OutOfDeviceMemory
from engines.errors import BackendError, EngineError
from engines.trt import flavours
from engines.trt.building import Built, build
from engines.trt.errors import NotKept, NotNow
from engines.trt.kernel import compiled, source_version
from engines.trt.order import Order
from engines.trt.passport import Made, Passport, Plan
from engines.trt.reference import Reference, check, expected, outputs, probe_pictures
from engines.trt.store import PlanStore, now

_NICE = 10
_FIRST_TO_GO = "1000"
_PR_SET_PDEATHSIG = 1
_TIMED = 10
"""Runs of the largest batch."""
_EXPECTED, _BUILT, _COMPILED = 0.05, 0.9, 0.93
"""Shares of the work, by and large."""
Say = Callable[[float, str], None]


class Job(BaseModel):
    """What the parent wants."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    order: Order
    card: Card
    flavour: flavours.Name
    passport: Passport
    """Of the plan, without `made`."""
    folder: Path
    """Where it is kept."""
    device: int | None
    """The GPU to check it on; None: it is for one that is not here."""
    capability: tuple[int, int] | None
    """Compute capability of the GPU that the kernel is for; None: none is here or named."""
    driver: str
    built_on: str
    instead_of: str | None
    parent: int
    """Process that dies with us, or rather we with it."""


def main() -> None:
    """Run the job on stdin. Exit status 0: it was said what became of it."""
    said = _our_own_stdout()
    job = Job.model_validate_json(sys.stdin.buffer.read())
    _step_aside(job.parent)

    def tell(**line: Any) -> None:
        said.write(json.dumps(line) + "\n")
        said.flush()

    try:
        run(job, lambda share, what: tell(share=share, what=what))
    except (NotNow, NoDevice, OutOfDeviceMemory) as error:
        tell(failed=str(error), kind="now")
    except NotKept as error:
        tell(failed=str(error), kind="place")
    except EngineError as error:
        tell(failed=str(error), kind="plan")
    except MemoryError:
        tell(failed=f"{job.order.model}: memory ran out while its plan was made", kind="now")
    else:
        tell(done=True)
    sys.stdout.flush()
    os._exit(0)  # what is loaded may crash while it is taken down, and everything was said and written


def run(job: Job, say: Say) -> None:
    """Build, compile the kernel, check, and keep the plan. Raises EngineError."""
    order = job.order
    say(0.0, "asking the CPU what is expected")
    pictures = probe_pictures(order.size, order.batches[2])
    try:
        flavour = _installed(job)
        reference = expected(order.model, job.card, order.precision, pictures)
    except BackendError as error:  # of this machine, not of the plan
        raise NotNow(str(error)) from None
    store = PlanStore(order.model, job.folder)
    built = build(
        flavour,
        order,
        store.timing_cache(job.passport),
        lambda share, what: say(_EXPECTED + share * (_BUILT - _EXPECTED), what),
    )
    if built.timing_cache:
        store.keep_timing_cache(job.passport, built.timing_cache)
    say(_BUILT, "compiling the kernel")
    cubin, no_kernel = compiled(job.capability)
    made = _made(job, built, no_kernel)
    plan = Plan(store.path(job.passport), built.plan, _with(job.passport, made), cubin, reference)
    if job.device is not None:
        say(_COMPILED, "comparing it with the CPU")
        made = _checked(job, flavour, plan, pictures, reference, made)
    store.save(_with(job.passport, made), built.plan, cubin, reference)


def _installed(job: Job) -> flavours.Flavour:
    """TensorRT, after a look at everything that would only fail after half an hour. Raises BackendError."""
    from engines.cuda.binding import open_driver

    flavour = flavours.load(job.flavour)
    if not job.order.version_compatible and flavour.version != job.passport.version:
        raise NotNow(f"TensorRT is now {flavour.version}, and was {job.passport.version}: start again")
    if job.device is not None:
        open_driver(job.device).close()
    return flavour


def _with(passport: Passport, made: Made) -> Passport:
    return passport.model_copy(update={"made": made})


def _made(job: Job, built: Built, no_kernel: str | None) -> Made:
    return Made(
        plan_sha256="0" * 64,  # the store writes it
        kernel=None if no_kernel else source_version(),
        floats=built.floats,
        driver=job.driver,
        built_on=job.built_on,
        built_at=now(),
        seconds=round(built.seconds, 1),
        warnings=(*built.warnings, *([no_kernel] if no_kernel else [])),
        unchecked=None if job.device is not None else "built for a GPU that is not here",
        instead_of=job.instead_of,
    )


def _checked(
    job: Job, flavour: flavours.Flavour, plan: Plan, pictures: NDArray[np.uint8], reference: Reference, made: Made
) -> Made:
    """Load and run it. Raises BackendError where it does not load, or computes something else."""
    from engines.cuda.binding import open_driver
    from engines.trt.running import TensorRTEngine

    assert job.device is not None  # noqa: S101  # or there would be nothing to check on
    engine = TensorRTEngine(flavour.trt, open_driver(job.device), plan, job.card)
    try:
        distance, wrong = check(engine, pictures, reference)
        if wrong is not None:
            raise BackendError(f"{job.order.model}: its plan computes something else than the model: {wrong}")
        times = []
        for _ in range(_TIMED):
            started = time.perf_counter()
            outputs(engine, pictures[: engine.max_batch], engine.max_batch)
            times.append((time.perf_counter() - started) * 1e3)
    finally:
        engine.close()
    return made.model_copy(
        update={
            "agreement": round(distance / reference.limit, 3),
            "latency_ms": round(statistics.median(times), 3),
        }
    )


def _our_own_stdout() -> IO[str]:
    """Where lines are said; whatever else in this process prints goes to stderr."""
    said = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    return said


def _step_aside(parent: int) -> None:
    """Let everybody else go first, and be the first to go: when memory runs out, and when the parent has gone."""
    os.nice(_NICE)
    with contextlib.suppress(OSError):  # /proc may be read-only in a container
        Path("/proc/self/oom_score_adj").write_text(_FIRST_TO_GO, encoding="ascii")
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, int(signal.SIGKILL), 0, 0, 0)
    if os.getppid() != parent:  # it went before it could be asked for
        os._exit(1)


if __name__ == "__main__":
    main()
