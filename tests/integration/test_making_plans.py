"""Plans made in a child process: by TensorRT-RTX itself for a GPU elsewhere, and on stand-ins for a GPU here."""

from __future__ import annotations

import errno
import os
import signal
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
import pytest

from engines.errors import BackendError, ModelFileError
from engines.store import ModelStore
from engines.trt import making
from engines.trt.errors import NotKept, NotNow
from engines.trt.making import candidates, make, obtain
from engines.trt.passport import Plan
from engines.trt.reference import probe_pictures
from engines.trt.store import PlanStore
from tests.support.patience import PATIENCE_S
from tests.support.plans import elsewhere, tiny_order, tiny_store


@pytest.fixture
def models(tmp_path: Path) -> ModelStore:
    return tiny_store(tmp_path / "models")


def made(models: ModelStore, on_progress: Any = None, stop: threading.Event | None = None, **fields: Any) -> Plan:
    order, card = tiny_order(models, **fields)
    store = PlanStore(order.model)
    return make(order, card, elsewhere(), store, on_progress or (lambda *_: None), stop or threading.Event())


def reason_noted(models: ModelStore) -> str | None:
    """Why the plan could not be made, as it will be said next time."""
    order, _ = tiny_order(models)
    return PlanStore(order.model).failed(elsewhere().passport(order))


def child() -> psutil.Process | None:
    """The process that makes a plan."""
    found = psutil.Process().children()
    return next((process for process in found if "engines.trt.child" in process.cmdline()), None)


class At:
    """`on_progress` that does something once, as soon as the child is under way."""

    def __init__(self, action: Callable[[psutil.Process], object]) -> None:
        self._action, self.done = action, False

    def __call__(self, share: float, what: str) -> None:
        process = child()
        if process is not None and not self.done:
            self.done = True
            self._action(process)


@pytest.fixture
def instead(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """Another program in the child's place: what TensorRT may do to it."""

    def program(text: str) -> None:
        path = tmp_path / "python"
        path.write_text(f"#!/bin/sh\ncat > /dev/null\n{text}\n")
        path.chmod(0o755)
        monkeypatch.setattr(making.sys, "executable", str(path))

    return program


# TensorRT-RTX itself


def test_a_plan_is_made_for_a_gpu_that_is_elsewhere_and_found_again(models: ModelStore) -> None:
    said: list[tuple[float, str]] = []
    plan = made(models, lambda share, what: said.append((share, what)))
    shares = [share for share, _ in said]
    assert shares == sorted(shares)
    assert (shares[0], shares[-1] >= 0.9, len(shares) > 3) == (0, True, True)
    order, _ = tiny_order(models)
    found = PlanStore(order.model).find(elsewhere().passport(order))
    assert found is not None
    assert found.data == plan.data
    assert found.made.unchecked == "built for a GPU that is not here"
    assert (found.made.agreement, found.made.latency_ms, found.made.floats) == (None, None, "f16")
    assert found.reference is not None
    assert found.reference.outputs["logits"].shape == (len(probe_pictures(order.size, 4)), 5)
    # Without NVRTC there is no kernel, which is said.
    assert (found.cubin is None) == any("no kernel" in warning for warning in found.made.warnings)
    assert found.cubin is None or b"sm_86" in found.cubin, "the kernel is for the plan's GPU"


def test_the_child_goes_last_at_work_and_first_when_memory_runs_out(models: ModelStore) -> None:
    seen: dict[str, Any] = {}
    stop = threading.Event()

    def look(process: psutil.Process) -> None:
        seen["nice"] = process.nice() - psutil.Process().nice()
        seen["oom"] = Path(f"/proc/{process.pid}/oom_score_adj").read_text().strip()
        seen["session"] = os.getsid(process.pid) == process.pid
        stop.set()

    with pytest.raises(NotNow):
        made(models, At(look), stop)
    assert seen == {"nice": 10, "oom": "1000", "session": True}


def test_a_child_that_is_killed_counts_as_failed_and_is_not_tried_again(models: ModelStore) -> None:
    with pytest.raises(BackendError, match=r"int8\.onnx: .* ended by SIGKILL, most likely because memory ran out"):
        made(models, At(lambda process: process.kill()))
    said: list[str] = []
    with pytest.raises(BackendError, match=r"SIGKILL.*not again until"):
        made(models, lambda _, what: said.append(what))
    assert said == [], "it was not tried"


def test_a_child_that_is_asked_to_end_is_no_failure(models: ModelStore) -> None:
    """As systemd does, which asks all processes of a service."""
    with pytest.raises(NotNow, match="asked to end"):
        made(models, At(lambda process: process.terminate()))
    assert reason_noted(models) is None


def test_stopping_ends_the_child_at_once_and_is_no_failure(models: ModelStore) -> None:
    stop, processes = threading.Event(), []

    def halt(process: psutil.Process) -> None:
        processes.append(process)
        stop.set()

    with pytest.raises(NotNow, match="stopped"):
        made(models, At(halt), stop)
    assert not processes[0].is_running()
    assert not list(PlanStore(tiny_order(models)[0].model).folder.glob("*.json"))


def test_a_child_that_does_not_listen_is_killed(models: ModelStore, instead, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(making, "_GRACE_S", 0.2)
    instead('trap \'\' TERM\necho \'{"share": 0.1, "what": "busy"}\'\nwhile :; do sleep 1; done')
    stop = threading.Event()
    with pytest.raises(NotNow, match="stopped"):
        made(models, lambda *_: stop.set(), stop)


def test_an_exception_of_ours_leaves_no_child_behind(models: ModelStore) -> None:
    def ctrl_c(_: psutil.Process) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        made(models, At(ctrl_c))
    assert child() is None


def test_who_makes_plans_dies_with_who_wanted_them(models: ModelStore) -> None:
    """Even when that is killed."""
    elsewhere()  # or skip: not in the fork
    order, card = tiny_order(models)
    reading, writing = os.pipe()
    parent = os.fork()
    if parent == 0:
        os.close(reading)
        try:
            say = At(lambda process: os.write(writing, f"{process.pid}\n".encode()))
            make(order, card, elsewhere(), PlanStore(order.model), say, threading.Event())
        finally:
            os._exit(1)
    os.close(writing)
    with os.fdopen(reading) as lines:
        orphan = psutil.Process(int(lines.readline()))
    os.kill(parent, signal.SIGKILL)
    os.waitpid(parent, 0)
    orphan.wait(PATIENCE_S)


def test_who_waits_for_another_plan_in_this_process_can_be_stopped(models: ModelStore) -> None:
    stop, said = threading.Event(), []

    def waiting(_share: float, what: str) -> None:
        said.append(what)
        stop.set()

    with making._ONE_AT_A_TIME, pytest.raises(NotNow, match="stopped while another plan was made"):
        made(models, waiting, stop)
    assert said == ["waiting for another plan"]


# What may go wrong in a child


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("kill -SEGV $$", "ended by SIGSEGV: a crash in TensorRT or the driver|ended by SIGSEGV, a crash in TensorRT"),
        ("echo 'terminate called: bad_alloc' >&2; kill -ABRT $$", "ended by SIGABRT: terminate called: bad_alloc"),
        ("echo 'ImportError: half an installation' >&2; exit 1", "failed: ImportError: half an installation"),
        ("exit 3", "failed: exit status 3"),
        ('echo \'{"failed": "no operator Foo", "kind": "plan"}\'', "no operator Foo"),
    ],
)
def test_whatever_ends_a_child_is_a_line_and_noted(models: ModelStore, instead, text: str, why: str) -> None:
    instead(text)
    with pytest.raises(BackendError, match=why) as caught:
        made(models)
    assert "\n" not in str(caught.value)
    assert reason_noted(models)


@pytest.mark.parametrize(("kind", "error"), [("now", NotNow), ("place", NotKept)])
def test_what_may_work_later_is_not_noted(models: ModelStore, instead, kind: str, error: type[Exception]) -> None:
    instead(f'echo \'{{"failed": "no room", "kind": "{kind}"}}\'')
    with pytest.raises(error, match="no room"):
        made(models)
    assert reason_noted(models) is None


def test_where_plans_cannot_be_kept_the_float_file_is_not_tried_either(
    models: ModelStore, instead, tmp_path: Path
) -> None:
    instead(f'echo started >> {tmp_path}/log; echo \'{{"failed": "disk full", "kind": "place"}}\'')
    with pytest.raises(NotKept, match="disk full"):
        obtained(models)
    assert (tmp_path / "log").read_text() == "started\n"


def test_without_room_for_the_child_s_words_it_is_for_later(models: ModelStore, monkeypatch) -> None:
    def no_room() -> None:
        raise FileNotFoundError(errno.ENOENT, "No usable temporary directory found")

    monkeypatch.setattr("engines.trt.making.tempfile.TemporaryFile", no_room)
    with pytest.raises(NotNow, match="No usable temporary directory"):
        made(models)


def test_what_tensorrt_cannot_build_is_noted_with_its_reason(models: ModelStore) -> None:
    """Turing multiplies no matrices in float32 there."""
    with pytest.raises(BackendError, match=r"compute capability 7\.5 need float_precision: f16"):
        made(models, target=(7, 5), floats="f32")
    with pytest.raises(BackendError, match=r"float_precision: f16.*not again until"):
        made(models, target=(7, 5), floats="f32")


def test_too_little_memory_starts_nothing_and_is_not_noted(models: ModelStore, monkeypatch) -> None:
    monkeypatch.setattr("engines.trt.memory.available", lambda: 300 << 20)
    with pytest.raises(NotNow, match="MB are missing"):
        made(models)
    assert reason_noted(models) is None


def test_a_model_file_that_was_altered_is_not_built(models: ModelStore) -> None:
    order, card = tiny_order(models)
    order.model.write_bytes(order.model.read_bytes()[:-1])
    with pytest.raises(ModelFileError, match="cut short or altered"):
        make(order, card, elsewhere(), PlanStore(order.model), lambda *_: None, threading.Event())


def test_a_plan_that_another_process_makes_is_waited_for_and_not_made_twice(models: ModelStore) -> None:
    order, card = tiny_order(models)
    store, said, results = PlanStore(order.model), [], []
    with store.making(lambda: False, lambda: None):
        waiting = threading.Event()

        def tell(share: float, what: str) -> None:
            said.append(what)
            waiting.set()

        asker = threading.Thread(
            target=lambda: results.append(make(order, card, elsewhere(), store, tell, threading.Event()))
        )
        asker.start()
        assert waiting.wait(PATIENCE_S)
        plan = make_beside(models)
    asker.join(PATIENCE_S)
    assert said == ["waiting for another plan"]
    assert results[0].data == plan.data


def make_beside(models: ModelStore) -> Plan:
    """As the process that has the turn would: without asking for it."""
    from tests.support.plans import with_made

    order, _ = tiny_order(models)
    return PlanStore(order.model).save(with_made(elsewhere().passport(order)), b"theirs", None, None)


# Orders, one after the other


def obtained(models: ModelStore, accept: Callable[[Plan], Any] = lambda plan: plan, **fields: Any) -> Any:
    order, card = tiny_order(models, **fields)
    return obtain(candidates(order, card), card, elsewhere(), accept, lambda *_: None, threading.Event())


def refusing(*reasons: str | None) -> Callable[[Plan], Plan]:
    """Take no plan for which there is a reason, in turn."""
    left = list(reasons)

    def accept(plan: Plan) -> Plan:
        if reason := left.pop(0):
            raise BackendError(reason)
        return plan

    return accept


def test_int8_that_is_no_good_is_replaced_by_the_float_file_which_says_so(models: ModelStore) -> None:
    plan = obtained(models, refusing("computes something else", None))
    assert plan.passport.precision == "fp32"
    assert plan.made.instead_of == "int8: computes something else"
    again = obtained(models)
    assert again.path == plan.path
    assert again.made.instead_of.startswith("int8: computes something else (tried ")


def test_an_old_plan_that_is_no_good_is_made_anew_once(models: ModelStore) -> None:
    first = obtained(models)
    second = obtained(models, refusing("does not load", None))
    assert (second.passport.precision, second.path, second.made.instead_of) == ("int8", first.path, None)


def test_the_first_reason_is_told_where_nothing_will_do(models: ModelStore) -> None:
    with pytest.raises(BackendError, match=r"^one"):
        obtained(models, refusing("one", "two"))


def test_what_the_device_cannot_do_now_is_not_held_against_a_plan(models: ModelStore) -> None:
    from engines.cuda.errors import OutOfDeviceMemory

    def no_room(plan: Plan) -> None:
        raise OutOfDeviceMemory("no room")

    with pytest.raises(OutOfDeviceMemory):
        obtained(models, no_room)
    assert obtained(models).passport.precision == "int8"
