"""An engine that serves while another is made ready: the change, the way back, and all that can go wrong between."""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from agent.flow import Account, Mailbox, Request
from agent.frame import Frame, Timestamp
from agent.inference import Inference
from engines import handover as handover_module
from engines.base import Batch, Engine, Raw, TensorSpec, Ticket
from engines.card import Card, Input
from engines.errors import BackendError, EngineLost, PictureError
from engines.handover import HandoverEngine
from engines.model import Model, task_config
from engines.pixels import Geometry, Image, Picture, fit
from engines.tasks import Options
from tests.support import waiting
from tests.support.agents import fake_store
from tests.support.patience import PATIENCE_S

SIDE = 32
INTO = Input(width=SIDE, height=SIDE, fit="stretch")
until = partial(waiting.until, timeout_s=5.0)


class Scripted(Engine):
    """Answers with each picture's number, keeps the rules of `Engine` by force, and is lost when told so."""

    def __init__(self, name: str, batch: int = 1, depth: int = 2, delay_s: float = 0.0, rows: int = 1) -> None:
        self.inputs = (TensorSpec("images", (-1, 3, SIDE, SIDE), np.dtype(np.uint8)),)
        self.outputs = (TensorSpec("scores", (-1, rows), np.dtype(np.float32)),)
        self.max_batch, self.depth, self.delay_s = batch, depth, delay_s
        self.description = {"backend": name, "device": "none", "batch": batch}
        self.ran: list[int] = []
        self.under_way = 0
        self.lost_when: str | None = None
        self.lost = False
        self.closed_by: list[threading.Thread] = []
        self._prepared: dict[int, list[int]] = {}
        self._slot = 0

    def fails(self, when: str) -> None:
        if self.lost or self.lost_when == when:
            self.lost = True
            raise EngineLost(f"{self.description['backend']}: the device is gone")

    def prepare(self, pictures, geometries) -> Batch:
        assert not self.closed_by, "used after it was closed"
        self.fails("prepare")
        if not 0 < len(pictures) <= self.max_batch:
            raise PictureError(f"expected 1 to {self.max_batch} pictures, got {len(pictures)}")
        if self.under_way == self.depth:
            raise BackendError("all slots are in flight")
        self.under_way += 1
        self._slot += 1
        self._prepared[self._slot] = [number_of(picture.image) for picture in pictures]
        return Batch(self._slot, len(pictures))

    def submit(self, batch: Batch) -> Ticket:
        assert not self.closed_by
        numbers = self._prepared.pop(batch.slot)
        try:
            self.fails("submit")
        except EngineLost:
            self.under_way -= 1
            raise
        self.ran += numbers
        return _Scripted(self, numbers)

    def close(self) -> None:
        self.closed_by.append(threading.current_thread())


class _Scripted:
    def __init__(self, engine: Scripted, numbers: list[int]) -> None:
        self._engine, self._numbers = engine, numbers
        self._ready = time.monotonic() + engine.delay_s

    def done(self) -> bool:
        self._engine.fails("done")
        return time.monotonic() >= self._ready

    def result(self) -> Raw:
        self._engine.fails("result")
        threading.Event().wait(max(0.0, self._ready - time.monotonic()))
        return {"scores": np.array(self._numbers, np.float32)[:, None]}

    def release(self) -> None:
        assert not self._engine.closed_by, "closed before its last ticket was released"
        self._engine.under_way -= 1


def numbered(number: int) -> Image:
    """A picture that says its number in its first pixels."""
    plane = np.zeros((SIDE, SIDE, 3), np.uint8)
    plane[0, 0] = number >> 16, number >> 8 & 255, number & 255
    return Image((plane,), "bgr", "601", "full", (SIDE, SIDE))


def number_of(image: Image) -> int:
    high, middle, low = (int(level) for level in image.planes[0][0, 0])
    return high << 16 | middle << 8 | low


def asked(*numbers: int) -> tuple[list[Picture], list[Geometry]]:
    return [Picture(numbered(n)) for n in numbers], [fit((SIDE, SIDE), None, INTO) for _ in numbers]


class Making:
    """A `make_next` that waits for the test to say what comes of it."""

    def __init__(self) -> None:
        self._told = threading.Event()
        self._outcome: Engine | Exception | None = None
        self.calls = 0

    def __call__(self, report: Callable[[str], None], stop: threading.Event) -> Engine:
        self.calls += 1
        report("building")
        while not self._told.wait(0.001):
            if stop.is_set():
                raise BackendError("stopped")
        self._told.clear()
        if isinstance(self._outcome, Exception):
            raise self._outcome
        assert self._outcome is not None
        return self._outcome

    def gives(self, outcome: Engine | Exception) -> None:
        self._outcome = outcome
        self._told.set()


@contextmanager
def handover(first: Engine | Callable[[], Engine], making: Callable, **more) -> Iterator[HandoverEngine]:
    engine = HandoverEngine("tensorrt", (lambda: first) if isinstance(first, Engine) else first, making, **more)
    try:
        yield engine
    finally:
        engine.close()


def ready(engine: HandoverEngine) -> None:
    until(lambda: engine._ready is not None)


def run(engine: Engine, *numbers: int) -> list[int]:
    return engine(*asked(*numbers))["scores"][:, 0].tolist()


def test_the_first_engine_serves_until_the_next_is_ready_and_is_closed_when_that_takes_over() -> None:
    first, following, making = Scripted("cpu"), Scripted("gpu", batch=4, depth=3), Making()
    with handover(first, making) as engine:
        assert run(engine, 1) == [1]
        making.gives(following)
        ready(engine)
        assert run(engine, 2) == [2]
        assert (engine.max_batch, engine.depth) == (4, 3)
        assert run(engine, 3, 4, 5) == [3, 4, 5]
        assert (first.ran, following.ran) == ([1], [2, 3, 4, 5])
        assert first.closed_by == [threading.current_thread()]
    assert len(following.closed_by) == 1


def test_tickets_of_the_first_are_read_after_the_change_and_the_last_one_closes_it() -> None:
    first, following, making = Scripted("cpu"), Scripted("gpu"), Making()
    with handover(first, making) as engine:
        old = [engine.submit(engine.prepare(*asked(n))) for n in (1, 2)]
        making.gives(following)
        ready(engine)
        new = engine.submit(engine.prepare(*asked(3)))
        for number, ticket in zip((1, 2, 3), (*old, new), strict=True):
            assert ticket.done()
            assert ticket.result()["scores"].tolist() == [[number]]
            assert not first.closed_by
            ticket.release()
            if number == 2:
                assert first.closed_by
                break
        new.release()


def test_a_batch_that_is_too_large_for_the_next_engine_is_still_done_by_the_first() -> None:
    first, following, making = Scripted("cpu", batch=4), Scripted("gpu", batch=2), Making()
    with handover(first, making) as engine:
        making.gives(following)
        ready(engine)
        assert run(engine, 1, 2, 3) == [1, 2, 3]
        assert engine.max_batch == 2
        assert run(engine, 4, 5) == [4, 5]
    assert (first.ran, following.ran) == ([1, 2, 3], [4, 5])


def test_what_is_made_is_said_with_when_it_began() -> None:
    making = Making()
    with handover(Scripted("cpu"), making) as engine:
        until(lambda: "next" in engine.description)
        assert engine.description["backend"] == "cpu"
        assert str(engine.description["next"]).startswith("tensorrt: building since ")
        making.gives(Scripted("gpu"))
        ready(engine)
        run(engine, 1)
        assert engine.description == {"backend": "gpu", "device": "none", "batch": 1}


def test_an_engine_that_cannot_be_made_leaves_the_first_serving_and_its_reason_is_said() -> None:
    making, first = Making(), Scripted("cpu")
    with handover(first, making) as engine:
        making.gives(BackendError("no INT8 on this device"))
        until(lambda: "because" in engine.description)
        assert [run(engine, n) for n in range(3)] == [[0], [1], [2]]
        said = engine.description
        assert (said["backend"], said["instead_of"], said["because"]) == ("cpu", "tensorrt", "no INT8 on this device")
        assert "next" not in said
    assert making.calls == 1


def test_an_engine_with_other_outputs_is_closed_and_never_used() -> None:
    making, first, other = Making(), Scripted("cpu"), Scripted("gpu", rows=7, batch=9)
    with handover(first, making) as engine:
        making.gives(other)
        ready(engine)
        assert run(engine, 1) == [1]
        assert engine.description["because"] == "expected scores (1,), got scores (7,)"
        assert engine.max_batch == 1
        assert len(other.closed_by) == 1


def test_what_cannot_be_made_at_the_moment_is_tried_again_and_said() -> None:
    making, following = Making(), Scripted("gpu")
    with handover(Scripted("cpu"), making, passing=(PictureError,), later_s=0.01) as engine:
        making.gives(PictureError("too little memory"))
        until(lambda: making.calls == 2)
        assert engine.description["because"] == "too little memory"
        assert "building since" in str(engine.description["next"])
        making.gives(following)
        ready(engine)
        assert run(engine, 1) == [1]
        assert engine.description == following.description


def test_what_still_cannot_be_made_is_tried_again_less_and_less_often() -> None:
    tries: list[int] = []

    def refused(report, stop) -> Engine:
        tries.append(1)
        raise PictureError("too little memory")

    with handover(Scripted("cpu"), refused, passing=(PictureError,), later_s=0.001) as engine:
        until(lambda: len(tries) >= 4)
    assert engine._later_s >= 0.008


def test_when_it_is_tried_again_is_said_meanwhile() -> None:
    making = Making()
    with handover(Scripted("cpu"), making, passing=(PictureError,), later_s=3600) as engine:
        making.gives(PictureError("too little memory"))
        until(lambda: "because" in engine.description)
        assert str(engine.description["next"]).startswith("tensorrt: tried again at ")


def test_a_fault_of_ours_while_making_is_said_too(monkeypatch) -> None:
    faults: list[threading.ExceptHookArgs] = []
    monkeypatch.setattr(threading, "excepthook", faults.append)
    making = Making()
    with handover(Scripted("cpu"), making) as engine:
        making.gives(KeyError("speed"))
        until(lambda: faults)
        assert run(engine, 1) == [1]
        assert engine.description["because"] == "a fault of ours: KeyError: 'speed'"


def test_closing_stops_what_is_being_made_and_says_nothing_of_it() -> None:
    first, making = Scripted("cpu"), Making()
    engine = HandoverEngine("tensorrt", lambda: first, making)
    until(lambda: "next" in engine.description)
    began = time.monotonic()
    engine.close()
    assert time.monotonic() - began < 1
    assert "because" not in engine.description
    assert len(first.closed_by) == 1


def test_an_engine_that_is_ready_and_was_never_asked_is_closed_too() -> None:
    first, following, making = Scripted("cpu"), Scripted("gpu"), Making()
    with handover(first, making) as engine:
        making.gives(following)
        ready(engine)
    assert len(first.closed_by) == len(following.closed_by) == 1


def test_no_first_engine_is_made_where_the_next_is_ready_in_time() -> None:
    following = Scripted("gpu")

    def first() -> Engine:
        raise AssertionError("not needed")

    with handover(first, lambda _report, _stop: following, patience_s=5) as engine:
        assert run(engine, 1) == [1]
        assert engine.description == following.description


def test_patience_ends_at_once_where_the_next_cannot_be_made_or_its_making_takes_longer() -> None:
    def refused(report, stop) -> Engine:
        raise BackendError("the plan is refused")

    began = time.monotonic()
    with handover(Scripted("cpu"), refused, patience_s=5) as engine:
        assert engine.description["because"] == "the plan is refused"
    with handover(Scripted("cpu"), Making(), patience_s=5) as engine:
        assert "building" in str(engine.description["next"])
    assert time.monotonic() - began < 3


def test_an_engine_that_takes_longer_than_the_patience_is_said_to_be_starting() -> None:
    def silent(report, stop) -> Engine:
        stop.wait()
        raise BackendError("stopped")

    with handover(Scripted("cpu"), silent, patience_s=0.01) as engine:
        assert run(engine, 1) == [1]
        assert str(engine.description["next"]).startswith("tensorrt: starting since ")


def test_a_first_engine_that_cannot_be_made_stops_the_making_and_is_an_error() -> None:
    def first() -> Engine:
        raise BackendError("no CPU either")

    with pytest.raises(BackendError, match="no CPU either"):
        HandoverEngine("tensorrt", first, Making())


@pytest.mark.parametrize("when", ["prepare", "submit", "done", "result"])
def test_when_the_serving_engine_is_lost_what_is_under_way_fails_and_a_new_first_one_takes_over(when: str) -> None:
    made: list[Scripted] = []
    making, following = Making(), Scripted("gpu", batch=2)

    def first() -> Engine:
        made.append(Scripted("cpu"))
        return made[-1]

    with handover(first, making, again_s=3600) as engine:
        making.gives(following)
        ready(engine)
        assert run(engine, 1) == [1]
        under_way = engine.submit(engine.prepare(*asked(2)))
        following.lost_when = when
        if when in ("prepare", "submit"):
            with pytest.raises(EngineLost):
                engine.submit(engine.prepare(*asked(3)))
        assert under_way.done()
        with pytest.raises(EngineLost):
            under_way.result()
        assert run(engine, 4) == [4]
        assert not following.closed_by
        under_way.release()
        assert len(following.closed_by) == 1
        assert (len(made), made[1].ran, engine.max_batch) == (2, [4], 1)
        said = engine.description
        assert (said["backend"], said["instead_of"]) == ("cpu", "tensorrt")
        assert str(said["because"]).endswith("gpu: the device is gone")
        assert str(said["next"]).startswith("tensorrt: tried again at ")


def test_after_a_loss_batches_are_put_together_for_whatever_takes_over() -> None:
    making, following = Making(), Scripted("gpu", batch=4)
    with handover(lambda: Scripted("cpu", batch=2), making, again_s=3600) as engine:
        making.gives(following)
        ready(engine)
        assert run(engine, 1, 2) == [1, 2]
        following.lost_when = "prepare"
        with pytest.raises(EngineLost):
            run(engine, 3, 4, 5, 6)
        assert engine.max_batch == 1
        assert run(engine, 7) == [7]
        assert engine.max_batch == 2


def test_a_lost_engine_is_tried_again_after_a_while_and_serves_again() -> None:
    making, lost, healed = Making(), Scripted("gpu"), Scripted("gpu")
    with handover(lambda: Scripted("cpu"), making, again_s=0.01) as engine:
        making.gives(lost)
        ready(engine)
        lost.lost_when = "prepare"
        with pytest.raises(EngineLost):
            run(engine, 1)
        assert run(engine, 2) == [2]
        making.gives(healed)
        ready(engine)
        assert run(engine, 3) == [3]
        assert (healed.ran, engine.description) == ([3], healed.description)
        assert engine._again_s == 0.02


def test_a_lost_engine_that_hangs_when_it_is_closed_keeps_nobody_from_taking_over_or_from_closing(monkeypatch) -> None:
    monkeypatch.setattr(handover_module, "_CLOSE_S", 0.05)
    lets_go = threading.Event()
    following, making = Scripted("gpu"), Making()
    following.close = lets_go.wait  # type: ignore[assignment, method-assign]
    try:
        with handover(lambda: Scripted("cpu"), making, again_s=3600) as engine:
            making.gives(following)
            ready(engine)
            assert run(engine, 1) == [1]
            following.lost_when = "result"
            with pytest.raises(EngineLost):
                run(engine, 2)
            assert run(engine, 3) == [3]
            assert engine.description["backend"] == "cpu"
    finally:
        lets_go.set()


def test_one_that_hangs_while_it_is_made_delays_nobody_and_is_closed_when_it_comes_after_all(monkeypatch) -> None:
    monkeypatch.setattr(handover_module, "_CLOSE_S", 0.05)
    lets_go, late = threading.Event(), Scripted("gpu")

    def making(report, stop) -> Engine:
        lets_go.wait()
        return late

    try:
        with handover(Scripted("cpu"), making) as engine:
            assert run(engine, 1) == [1]
        assert not late.closed_by
    finally:
        lets_go.set()
    until(lambda: late.closed_by)


def test_an_engine_that_is_abandoned_makes_nothing_more() -> None:
    first, making = Scripted("cpu"), Making()
    with handover(first, making) as engine:
        engine.abandon()
        engine._making.join(PATIENCE_S)
        assert not engine._making.is_alive()
        assert not first.closed_by


def test_the_next_one_may_be_tried_later_for_a_reason_or_without_a_word() -> None:
    making = Making()
    with handover(Scripted("cpu"), making, wait_s=3600, because="it hangs", patience_s=60) as engine:
        said = engine.description
        assert (said["instead_of"], said["because"]) == ("tensorrt", "it hangs")
        assert str(said["next"]).startswith("tensorrt: tried again at ")
    with handover(Scripted("cpu"), lambda _report, stop: stop.wait() and Scripted("gpu"), quiet=True) as engine:
        assert engine.description == Scripted("cpu").description
    assert making.calls == 0


def test_who_looks_whether_it_hangs_is_told_that_another_first_engine_is_made() -> None:
    following, making = Scripted("gpu"), Making()
    with handover(lambda: Scripted("cpu"), making, again_s=3600) as engine:
        told: list[str] = []
        engine.slow = lambda what, _within_s: told.append(what)
        making.gives(following)
        ready(engine)
        run(engine, 1)
        assert told == []
        following.lost_when = "submit"
        with pytest.raises(EngineLost):
            run(engine, 2)
        run(engine, 3)
        assert told == ["make the engine that stands in"]


def test_a_device_that_is_still_lost_is_not_asked_again_and_what_to_do_is_said() -> None:
    making, following = Making(), Scripted("gpu")
    with handover(lambda: Scripted("cpu"), making, again_s=0.001) as engine:
        making.gives(following)
        ready(engine)
        following.lost_when = "prepare"
        with pytest.raises(EngineLost):
            run(engine, 1)
        making.gives(EngineLost("the context is broken"))
        until(lambda: "started anew" in str(engine.description.get("because")))
        assert engine.description["because"] == (
            "the context is broken; it may work again when this program is started anew"
        )
        assert "next" not in engine.description
        engine._making.join(PATIENCE_S)
        assert run(engine, 2) == [2]
    assert making.calls == 2


def test_where_no_engine_can_take_over_batches_fail_with_the_reason_and_it_is_not_tried_each_time() -> None:
    making, following, tries = Making(), Scripted("gpu"), Counter()

    def first() -> Engine:
        tries["first"] += 1
        if tries["first"] > 1:
            raise BackendError("out of memory")
        return Scripted("cpu")

    with handover(first, making, again_s=3600) as engine:
        making.gives(following)
        ready(engine)
        run(engine, 1)
        following.lost_when = "prepare"
        for _ in range(5):
            with pytest.raises(BackendError):
                run(engine, 2)
        assert tries["first"] == 2
        assert "no other engine can be made: out of memory" in str(engine.description["because"])


class Tenancy(RuleBasedStateMachine):
    """Any order of asking, reading, changing and losing: each picture is done once, by an engine that is open."""

    @initialize(batch=st.integers(1, 3), depth=st.integers(1, 3))
    def start(self, batch: int, depth: int) -> None:
        self.engines: list[Scripted] = []
        self.making = Making()
        self.size = batch, depth
        self.engine = HandoverEngine("gpu", self.first, self.making, again_s=1e-6)
        self.flights: list[tuple[list[int], Ticket]] = []
        self.number = 0
        self.outcomes: dict[int, str] = {}

    def first(self) -> Engine:
        self.engines.append(Scripted("cpu", *self.size))
        return self.engines[-1]

    @rule(share=st.floats(0, 1))
    def ask(self, share: float) -> None:
        if len(self.flights) >= self.engine.depth:
            return
        count = 1 + int(share * (self.engine.max_batch - 1))
        numbers = list(range(self.number, self.number + count))
        self.number += count
        try:
            ticket = self.engine.submit(self.engine.prepare(*asked(*numbers)))
        except EngineLost:
            self.outcomes.update(dict.fromkeys(numbers, "failed"))
        else:
            self.flights.append((numbers, ticket))

    @precondition(lambda self: self.flights)
    @rule()
    def read(self) -> None:
        numbers, ticket = self.flights.pop(0)
        try:
            raw = ticket.result()
        except EngineLost:
            outcome = "failed"
        else:
            outcome = "inferred"
            assert raw["scores"][:, 0].tolist() == numbers
        ticket.release()
        assert not self.outcomes.keys() & set(numbers), "done twice"
        self.outcomes.update(dict.fromkeys(numbers, outcome))

    @precondition(lambda self: self.engine._making.is_alive() and self.engine._ready is None)
    @rule(batch=st.integers(1, 4), depth=st.integers(1, 4))
    def make(self, batch: int, depth: int) -> None:
        self.engines.append(Scripted("gpu", batch, depth))
        self.making.gives(self.engines[-1])
        ready(self.engine)

    @precondition(lambda self: self.engine._ready is None and self.engine.description["backend"] == "gpu")
    @rule(when=st.sampled_from(["prepare", "submit", "result"]))
    def lose(self, when: str) -> None:
        self.engines[-1].lost_when = when

    @invariant()
    def each_engine_is_within_its_bounds(self) -> None:
        for engine in getattr(self, "engines", ()):
            assert 0 <= engine.under_way <= engine.depth
            assert len(engine.closed_by) <= 1

    def teardown(self) -> None:
        if not hasattr(self, "engine"):
            return
        while self.flights:
            self.read()
        self.engine.close()
        assert sorted(self.outcomes) == list(range(self.number))
        assert all(len(engine.closed_by) == 1 and engine.under_way == 0 for engine in self.engines)
        ran = Counter(number for engine in self.engines for number in engine.ran)
        inferred = {number for number, outcome in self.outcomes.items() if outcome == "inferred"}
        assert inferred <= ran.keys()
        assert set(ran.values()) <= {1}


TestTenancy = Tenancy.TestCase
TestTenancy.settings = settings(max_examples=30, stateful_step_count=30)


@pytest.fixture(scope="module")
def card(tmp_path_factory: pytest.TempPathFactory) -> Card:
    return fake_store(tmp_path_factory.mktemp("store")).find("classes")[0]


sizes = st.tuples(st.integers(1, 5), st.integers(1, 4), st.sampled_from([0.0, 0.0005, 0.002]))


@settings(max_examples=25)
@given(
    engines=st.lists(sizes, min_size=2, max_size=5),
    lossless=st.booleans(),
    after_s=st.sampled_from([0.0, 0.002, 0.01]),
    lost=st.sampled_from([None, "prepare", "submit", "done", "result"]),
)
def test_under_a_running_inference_every_frame_has_one_outcome_and_its_own_result(
    card, engines, lossless, after_s, lost
) -> None:
    """Threads as in an agent: two cameras offer, one thread infers, one makes engine after engine."""
    made: list[Scripted] = []

    def first() -> Engine:
        made.append(Scripted("cpu", *engines[0]))
        return made[-1]

    def make(report: Callable[[str], None], stop: threading.Event) -> Engine:
        report("building")
        if stop.wait(after_s):
            raise BackendError("stopped")
        successor = Scripted("gpu", *engines[len(made) % len(engines)])
        made.append(successor)
        return successor

    engine = HandoverEngine("gpu", first, make, again_s=0.001)
    task = task_config(card).open(card.labels, Options())
    model = Model(card, "fp32", engine, task)
    model.read = lambda raw, _: list(raw["scores"][:, 0])  # type: ignore[method-assign]
    mailbox = Mailbox()
    accounts = {camera: Account() for camera in "ab"}
    results: dict[str, list[int]] = {"a": [], "b": []}
    wrong: list[object] = []

    def ended(request: Request, outcome) -> None:
        camera = request.key[0]
        accounts[camera].ended(outcome)
        if outcome == "inferred":
            results[camera].append(request.frame.seq)
            if request.results != [number_of(request.frame.image)]:
                wrong.append(request.results)

    def offer(camera: str, base: int) -> None:
        for seq in range(60):
            if lost and seq == 20 and made:
                made[-1].lost_when = lost
            frame = Frame(camera, seq, Timestamp(seq, time.monotonic_ns(), "receive", seq), numbered(base + seq))
            accounts[camera].offered()
            mailbox.offer(Request((camera, "use"), frame, (None,), lossless, 10**12, ended))
            if seq % 7 == 0:
                threading.Event().wait(0.001)

    loop = threading.Thread(target=Inference("i", model, mailbox).run, args=(threading.Event(),))
    cameras = [threading.Thread(target=offer, args=(camera, base)) for camera, base in (("a", 0), ("b", 70_000))]
    for thread in (loop, *cameras):
        thread.start()
    for camera in cameras:
        camera.join()
    mailbox.close()
    loop.join(PATIENCE_S)
    assert not loop.is_alive()
    engine.close()
    assert not wrong
    for camera, account in accounts.items():
        counts = account.counts()
        assert (counts["offered"], counts["waiting"]) == (60, 0)
        assert results[camera] == sorted(results[camera]), "out of order"
        assert len(results[camera]) == counts["inferred"]
        if lossless and not lost:
            assert counts["inferred"] == 60
    assert all(len(one.closed_by) == 1 for one in made)
    ran = Counter(number for one in made for number in one.ran)
    assert set(ran.values()) == {1}
