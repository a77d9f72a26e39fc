"""When an engine counts as hanging or failing, and that what it had ends exactly once, whoever comes first."""

from __future__ import annotations

import gc
import threading
import time
import weakref
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agent.flow import Mailbox, Request
from agent.frame import Frame, Timestamp
from agent.inference import Inference
from agent.supervision import pace
from agent.supervision.pace import Failures, Pace
from engines.backends import fake
from engines.errors import BackendError, EngineLost, PictureError
from engines.model import Model, open_model
from engines.pixels import Image, Picture
from tests.support.agents import FAKE_OUTPUTS, fake_store
from tests.support.patience import PATIENCE_S


@settings(max_examples=40)
@given(st.lists(st.floats(min_value=1e-4, max_value=600), max_size=60))
def test_an_engine_always_has_longer_than_any_of_its_last_batches_took(batches: list[float]) -> None:
    kept = Pace()
    for seconds in batches:
        kept.took(seconds)
    assert kept.limit_s >= pace.LEAST_S
    if batches:
        assert kept.limit_s > batches[-1]
        assert kept.limit_s <= max(pace.LEAST_S, pace.TIMES * max(batches))


@pytest.mark.parametrize(
    ("batch_s", "limit_s"), [(0.003, 4), (0.4, 4), (3.0, 30), (30, 90)], ids=["desktop", "slow", "small", "hopeless"]
)
def test_ordinary_engines_are_found_within_5_s_and_slow_ones_have_ten_times_what_they_take(
    batch_s: float, limit_s: float
) -> None:
    assert Pace(batch_s).limit_s == pytest.approx(limit_s)


def test_one_slow_batch_is_forgotten_after_a_while() -> None:
    kept = Pace()
    for seconds in (3.0, *[0.01] * 200):
        kept.took(seconds)
    assert kept.limit_s == pace.LEAST_S


def test_failing_takes_several_batches_and_some_time_and_ends_with_one_that_works(monkeypatch) -> None:
    failures = Failures()
    monkeypatch.setattr(pace, "FAILING_S", 0.0)
    for count in range(1, pace.FAILURES + 1):
        assert not failures.failing
        failures.one(BackendError(f"number {count}"))
    assert failures.failing
    assert failures.last == f"number {pace.FAILURES}"
    monkeypatch.setattr(pace, "FAILING_S", 60.0)
    assert not failures.failing
    failures.none()
    monkeypatch.setattr(pace, "FAILING_S", 0.0)
    assert not failures.failing


IMAGE = Image((np.zeros((8, 8, 3), np.uint8),), "bgr", "601", "full", (8, 8))


class Bench:
    """An inference thread on a fake engine, and what became of its requests."""

    def __init__(self, folder: Path, *faults: dict[str, object], **more: object) -> None:
        card, at = fake_store(folder).find("classes")
        config = fake.Config.model_validate({"outputs": FAKE_OUTPUTS["classes"], "faults": faults, **more})
        self.model: Model = open_model(card, at, "fp32", config)
        self.mailbox = Mailbox()
        self.loop = Inference("c", self.model, self.mailbox)
        self.ended: Counter[tuple[int, str]] = Counter()
        self.thread = threading.Thread(target=self.loop.run, args=(threading.Event(),), daemon=True)

    def offer(self, *seqs: int) -> None:
        for seq in seqs:
            frame = Frame("a", seq, Timestamp(seq, time.monotonic_ns(), "receive", seq), IMAGE)
            self.mailbox.offer(Request((f"camera-{seq}", "c"), frame, (None,), True, 10**12, self._ended))

    def _ended(self, request: Request, outcome: str) -> None:
        self.ended[request.frame.seq, outcome] += 1

    def run(self) -> None:
        """To the end of what was offered."""
        self.thread.start()
        self.mailbox.close()
        self.thread.join(PATIENCE_S)
        assert not self.thread.is_alive()

    def wait_for(self, wanted) -> None:
        deadline = time.monotonic() + PATIENCE_S
        while not wanted():
            assert time.monotonic() < deadline
            threading.Event().wait(0.001)


def test_pictures_that_cannot_be_read_do_not_make_an_engine_fail(tmp_path: Path, monkeypatch) -> None:
    bench = Bench(tmp_path)

    def prepare(pictures, geometries):
        raise PictureError("upside down")

    monkeypatch.setattr(bench.model.engine, "prepare", prepare)
    bench.offer(*range(20))
    bench.run()
    assert bench.ended == {(seq, "failed"): 1 for seq in range(20)}
    assert bench.loop.failures.last == ""


def test_what_is_no_error_of_ours_fails_its_frames_and_the_thread_goes_on(tmp_path: Path, monkeypatch, caplog) -> None:
    bench = Bench(tmp_path)
    fill, calls = bench.model.engine.prepare, iter(range(100))

    def prepare(pictures, geometries):
        if next(calls) < 3:
            raise ZeroDivisionError("a plugin's mistake")
        return fill(pictures, geometries)

    monkeypatch.setattr(bench.model.engine, "prepare", prepare)
    bench.offer(*range(6))
    bench.run()
    assert sorted(bench.ended) == [(0, "failed"), (1, "failed"), (2, "failed"), *((n, "inferred") for n in (3, 4, 5))]
    (line,) = [r.getMessage() for r in caplog.records]
    assert line == "c: a fault of the backend: ZeroDivisionError: a plugin's mistake"


def test_pictures_of_a_batch_that_failed_are_let_go_of_at_once(tmp_path: Path) -> None:
    """Not when Python's collector comes by: an exception holds the frames that it went through."""
    bench = Bench(tmp_path, {"kind": "fail", "at": 2, "batches": 2})
    bench.offer(*range(5))
    asked = [weakref.ref(request) for slot in bench.mailbox._slots.values() for request in slot.requests]
    gc.disable()
    try:
        bench.run()
        assert [request() for request in asked] == [None] * 5
    finally:
        gc.enable()
    assert sorted(bench.ended) == [(n, "failed" if n in (1, 2) else "inferred") for n in range(5)]


def test_a_fault_in_what_becomes_of_one_cameras_answer_is_no_other_cameras_matter(tmp_path: Path, caplog) -> None:
    bench = Bench(tmp_path)
    ended = bench._ended

    def faulty(request: Request, outcome: str) -> None:
        ended(request, outcome)
        if request.frame.seq % 2:
            raise ZeroDivisionError("a rule's mistake")

    bench._ended = faulty  # type: ignore[method-assign]
    bench.offer(*range(10))
    bench.run()
    assert bench.ended == {(seq, "inferred"): 1 for seq in range(10)}
    (line,) = [r.getMessage() for r in caplog.records]
    assert line == "c: a fault of ours in what becomes of frames of camera-1"


@pytest.mark.parametrize("when", ["prepare", "submit", "result"])
def test_what_is_abandoned_ends_once_and_the_thread_closes_its_model_when_it_comes_back(
    tmp_path: Path, when: str, monkeypatch
) -> None:
    bench = Bench(tmp_path, {"kind": "hang", "when": when, "at": 3})
    closed: list[bool] = []
    monkeypatch.setattr(bench.model, "close", lambda: closed.append(True))
    bench.offer(*range(5))
    bench.thread.start()
    done = 2 if when == "result" else 1  # one is under way when the next one is prepared
    bench.wait_for(lambda: bench.model.engine._hangs and len(bench.ended) == done)
    assert bench.loop.progress.doing.what == "infer"
    lost = bench.loop.abandon()
    ended = dict(bench.ended)
    assert lost == len(ended) - done >= 1
    assert all(count == 1 for count in ended.values())
    assert not closed
    fake.let_go()
    bench.thread.join(PATIENCE_S)
    assert not bench.thread.is_alive()
    assert (dict(bench.ended), closed) == (ended, [True])


def test_abandoned_in_the_middle_of_work_nothing_is_counted_twice_or_not_at_all(tmp_path: Path) -> None:
    for turn in range(20):
        bench = Bench(tmp_path / str(turn), depth=3)
        bench.thread.start()
        bench.offer(*range(100))
        bench.wait_for(lambda bench=bench, turn=turn: len(bench.ended) > 4 * turn)
        bench.loop.abandon()
        bench.thread.join(PATIENCE_S)
        while left := bench.mailbox.take(1000, 0):
            for request in left:
                request.ended(request, "failed")
        assert len(bench.ended) == 100
        assert set(bench.ended.values()) == {1}


def test_an_engine_that_is_lost_is_counted_as_failing(tmp_path: Path) -> None:
    bench = Bench(tmp_path, {"kind": "lost", "when": "submit"})
    bench.offer(*range(4))
    bench.run()
    assert "the device is gone" in bench.loop.failures.last


@pytest.mark.parametrize(
    ("fault", "error"),
    [
        ({"kind": "fail", "when": "prepare"}, BackendError),
        ({"kind": "fail", "when": "submit"}, BackendError),
        ({"kind": "fail"}, BackendError),
        ({"kind": "lost"}, EngineLost),
        ({"kind": "nan"}, BackendError),
    ],
    ids=str,
)
def test_a_fake_engine_fails_when_it_was_asked_to_and_then_has_recovered(tmp_path: Path, fault, error) -> None:
    bench = Bench(tmp_path, {"at": 2, "batches": 2, **fault})
    for number in range(1, 6):
        if number in (2, 3):
            with pytest.raises(error):
                bench.model([Picture(IMAGE)])
        else:
            assert bench.model([Picture(IMAGE)])
    bench.model.close()


def test_a_fake_engine_cannot_be_opened_where_it_was_asked_not_to_be(tmp_path: Path) -> None:
    with pytest.raises(BackendError, match="asked to fail"):
        Bench(tmp_path, {"kind": "fail", "when": "open"})
