"""Plans that are found or made, in a process of their own: what is ordered first, and if that cannot be, what then."""

from __future__ import annotations

import json
import logging
import os
import selectors
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path, PurePath
from typing import IO, TypeVar

from engines.card import Card, sha256_of
from engines.cuda.driver import Facts
from engines.cuda.errors import CudaError
from engines.errors import BackendError, EngineError, EngineLost, ModelFileError
from engines.trt.child import Job
from engines.trt.errors import NotKept, NotNow
from engines.trt.flavours import Flavour, check_builds
from engines.trt.kernel import compiled
from engines.trt.memory import check_room
from engines.trt.order import Order
from engines.trt.passport import Passport, Plan
from engines.trt.progress import OnProgress
from engines.trt.store import PlanStore

_POLL_S = 0.1
_GRACE_S = 2.0
"""After SIGTERM; then SIGKILL."""
_SAID = 300
"""Characters of the child's stderr that an error repeats."""
_ROOT = str(Path(__file__).parents[2])
_ASKED_TO_END = {signal.SIGTERM, signal.SIGINT, signal.SIGHUP}
_ONE_AT_A_TIME = threading.Lock()
"""Building takes much memory, and times kernels: two at once need twice of it, and time each other."""
Result = TypeVar("Result")
log = logging.getLogger(__name__)
_NO_FAULT = (NotNow, NotKept, CudaError, EngineLost)
"""Errors that say nothing about the plan, and that another one would meet as well."""


@dataclass(frozen=True)
class Place:
    """What makes plans, and on which GPU they are tried."""

    flavour: Flavour
    facts: Facts | None
    """Of the GPU here; None: there is none, and plans are made for others."""
    device: int = 0

    def passport(self, order: Order) -> Passport:
        """Of the plan that is wanted. Raises BackendError without a GPU for an order that names none."""
        return Passport.of(order, self.flavour.name, self.flavour.version, self.facts)

    @property
    def driver(self) -> str:
        """The CUDA version of its driver; empty without a GPU."""
        return self.facts.driver if self.facts else ""

    def tries(self, order: Order) -> bool:
        """Whether the plan can be run here: it is for the GPU that is here, or for all."""
        return self.facts is not None and order.target in (None, self.facts.compute_capability)


def candidates(order: Order, card: Card) -> tuple[Order, ...]:
    """What is ordered, and after it what serves as well: for INT8 that a device cannot build, the fp32 file."""
    if order.precision != "int8" or "fp32" not in card.files:
        return (order,)
    folder = order.model.parents[len(PurePath(card.files["int8"].path).parts) - 1]
    floats = card.files["fp32"]
    return order, replace(order, model=folder / floats.path, sha256=floats.sha256, precision="fp32")


def obtain(
    orders: Sequence[Order],
    card: Card,
    place: Place,
    accept: Callable[[Plan], Result],
    on_progress: OnProgress,
    stop: threading.Event,
    store_of: Callable[[Path], PlanStore] = PlanStore,
) -> Result:
    """The first of the orders whose plan is there or can be made, and that `accept` takes; what `accept` made of it.

    `accept` loads and checks a plan: by a BackendError it says that it is no good. An old plan that is no good is made
    anew once, a new one is noted as failed. Whatever failed is not tried again while its key is the same.
    `made.instead_of` of the plan says which orders failed, and why. Raises the first order's BackendError if none will
    do; at once what is no plan's fault: NotNow where it may work later, NotKept, CudaError, EngineLost.
    """
    failures: list[EngineError] = []
    for order in orders:
        store = store_of(order.model)
        instead_of = _said(orders[0], failures[0]) if failures else None
        try:
            return _obtain(order, card, place, store, accept, on_progress, stop, instead_of)
        except _NO_FAULT:
            raise
        except (BackendError, ModelFileError) as error:
            failures.append(error)
    raise failures[0]


def _said(order: Order, error: EngineError) -> str:
    """`int8: its plan ...`: which precision, and why it is not that."""
    return f"{order.precision}: {error}"


def _obtain(
    order: Order,
    card: Card,
    place: Place,
    store: PlanStore,
    accept: Callable[[Plan], Result],
    on_progress: OnProgress,
    stop: threading.Event,
    instead_of: str | None,
) -> Result:
    passport = place.passport(order)
    plan = store.find(passport)
    if plan is not None:
        try:
            return accept(_told(_with_kernel(plan, order, place, store), instead_of))
        except _NO_FAULT:
            raise
        except BackendError as error:
            store.discard(passport, str(error))
    check_builds(place.flavour)
    plan = make(order, card, place, store, on_progress, stop, instead_of)
    try:
        return accept(_told(plan, instead_of))
    except _NO_FAULT:
        raise
    except BackendError as error:
        store.discard(passport, str(error))
        store.fail(passport, str(error), place.driver)
        raise


def _with_kernel(plan: Plan, order: Order, place: Place, store: PlanStore) -> Plan:
    """Compile the kernel now if there is none: it is another one since an update of ours, or there was no compiler.

    That takes a second, and a plan up to half an hour.
    """
    if plan.cubin is not None or place.facts is None or not place.tries(order):
        return plan
    cubin, why = compiled(place.facts.compute_capability)
    if cubin is None:
        log.info("%s: %s", plan.path, why)
        return plan
    return store.keep_kernel(plan, cubin)


def _told(plan: Plan, instead_of: str | None) -> Plan:
    """The same plan, knowing what it stands for today."""
    made = plan.made.model_copy(update={"instead_of": instead_of})
    return replace(plan, passport=plan.passport.model_copy(update={"made": made}))


def make(
    order: Order,
    card: Card,
    place: Place,
    store: PlanStore,
    on_progress: OnProgress,
    stop: threading.Event,
    instead_of: str | None = None,
) -> Plan:
    """Make a plan in a child process and keep it; one at a time, whoever asks. Returns soon after `stop` is set.

    Raises BackendError where it cannot be made, now or the last time, which is noted; NotKept where it cannot be kept;
    NotNow where there is too little memory, or it was stopped; ModelFileError for a file that is not the one ordered.
    """
    passport = place.passport(order)
    if reason := store.failed(passport, place.driver):
        raise BackendError(reason)

    def waiting() -> None:
        on_progress(0.0, "waiting for another plan")

    with _turn(stop, waiting), store.making(stop.is_set, waiting) as ours:
        if not ours:
            raise NotNow(f"{order.model}: stopped before its plan was made")
        if plan := store.find(passport):  # made meanwhile by whom we waited for
            return plan
        if reason := store.failed(passport, place.driver):  # or not
            raise BackendError(reason)
        _check_file(order)
        check_room(order, integrated=place.facts is not None and place.facts.integrated)
        job = Job(
            order=replace(order, model=order.model.absolute()),
            card=card,
            flavour=place.flavour.name,
            passport=passport,
            folder=store.folder.absolute(),
            device=place.device if place.tries(order) else None,
            capability=order.target or (place.facts.compute_capability if place.facts else None),
            driver=place.driver,
            built_on=place.facts.name if place.facts else "",
            instead_of=instead_of,
            parent=os.getpid(),
        )
        try:
            _run(job, on_progress, stop)
        except _Impossible as error:
            store.fail(passport, str(error), place.driver)
            raise BackendError(str(error)) from None
        plan = store.find(passport)
    if plan is None:
        raise NotKept(f"{store.path(passport)}: was made, and is not there: is the disk full or failing?")
    return plan


def _check_file(order: Order) -> None:
    try:
        found = sha256_of(order.model)
    except OSError as error:
        raise ModelFileError(f"{order.model}: cannot be read ({error.strerror}); pull the model again") from None
    if found != order.sha256:
        raise ModelFileError(f"{order.model}: is cut short or altered (sha256); pull the model again")


class _Impossible(Exception):
    """The child says, or shows, that this plan cannot be made."""


@contextmanager
def _turn(stop: threading.Event, waiting: Callable[[], None]) -> Iterator[None]:
    """Raises NotNow where `stop` came first."""
    if not _ONE_AT_A_TIME.acquire(blocking=False):
        waiting()
        while not _ONE_AT_A_TIME.acquire(timeout=_POLL_S):
            if stop.is_set():
                raise NotNow("stopped while another plan was made")
    try:
        yield
    finally:
        _ONE_AT_A_TIME.release()


def _run(job: Job, on_progress: OnProgress, stop: threading.Event) -> None:
    """Start the child and listen to it until it ends. Raises _Impossible, NotKept, NotNow."""
    model = job.order.model
    with ExitStack() as opened:
        try:
            stdin, stderr = (opened.enter_context(tempfile.TemporaryFile()) for _ in range(2))
            stdin.write(job.model_dump_json(by_alias=True).encode())
            stdin.seek(0)
            # A session of its own: Ctrl-C is the parent's business, which ends the child. It dies with this thread
            # (PR_SET_PDEATHSIG means the thread), which waits for it.
            child = subprocess.Popen(
                [sys.executable, "-m", "engines.trt.child"],
                stdin=stdin,
                stdout=subprocess.PIPE,
                stderr=stderr,
                env=_environment(),
                cwd="/",
                start_new_session=True,
            )
        except OSError as error:
            raise NotNow(f"{model}: the process that makes its plan cannot be started: {error.strerror}") from None
        try:
            last = _listen(child, on_progress, stop)
        finally:
            _end(child)
        if stop.is_set() and "done" not in last:
            raise NotNow(f"{model}: stopped before its plan was made")
        if "done" in last:
            return
        if "failed" not in last:
            _explain(model, child.returncode, _tail(stderr))
        message = str(last["failed"])
        if last.get("kind") == "now":
            raise NotNow(message)
        raise NotKept(message) if last.get("kind") == "place" else _Impossible(message)


def _listen(child: subprocess.Popen[bytes], on_progress: OnProgress, stop: threading.Event) -> dict[str, object]:
    """The child's last word, when it has ended; empty if it had none, or `stop` came first."""
    assert child.stdout is not None  # noqa: S101
    last: dict[str, object] = {}
    rest = b""
    with selectors.DefaultSelector() as ready:
        ready.register(child.stdout, selectors.EVENT_READ)
        while not stop.is_set():
            if not ready.select(_POLL_S):
                continue
            if not (some := os.read(child.stdout.fileno(), 1 << 16)):
                child.wait()
                return last
            *lines, rest = (rest + some).split(b"\n")
            for line in lines:
                said = json.loads(line)
                if "share" in said:
                    on_progress(said["share"], said["what"])
                else:
                    last = said
    return last


def _end(child: subprocess.Popen[bytes]) -> None:
    """Leave no process behind, however we came here."""
    assert child.stdout is not None  # noqa: S101
    if child.poll() is None:
        child.terminate()
        with suppress(subprocess.TimeoutExpired):
            child.wait(_GRACE_S)
    if child.poll() is None:
        child.kill()
        child.wait()
    child.stdout.close()


def _explain(model: Path, status: int, said: str) -> None:
    """Raise what a child that ended without a word means."""
    if status >= 0:
        raise _Impossible(f"{model}: the process that made its plan failed: {said or f'exit status {status}'}")
    number = signal.Signals(-status)
    if number in _ASKED_TO_END:
        raise NotNow(f"{model}: the process that made its plan was asked to end ({number.name})")
    why = ", most likely because memory ran out (dmesg says): end other programs, or order smaller batches"
    raise _Impossible(
        f"{model}: the process that made its plan was ended by {number.name}"
        f"{why if number == signal.SIGKILL else f': {said}' if said else ', a crash in TensorRT or the driver'}"
    )


def _tail(file: IO[bytes]) -> str:
    """The last line that is not empty."""
    file.seek(max(0, file.seek(0, os.SEEK_END) - (1 << 14)))
    lines = [line.strip() for line in file.read().decode(errors="replace").splitlines() if line.strip()]
    return lines[-1][:_SAID] if lines else ""


def _environment() -> dict[str, str]:
    """Ours, and the child imports what we are."""
    paths = [_ROOT, *filter(None, [os.environ.get("PYTHONPATH")])]
    return {**os.environ, "PYTHONPATH": os.pathsep.join(paths), "PYTHONSAFEPATH": "1"}
