"""Workers come back after a fault of ours, and waits grow with jitter."""

from __future__ import annotations

import threading

from agent.workers import Backoff, Worker
from tests.support.patience import PATIENCE_S


def test_waits_double_up_to_the_most_with_jitter_and_start_again_after_success() -> None:
    backoff = Backoff(1, 8)
    waits = [backoff.next_s() for _ in range(6)]
    for wait, step in zip(waits, (1, 2, 4, 8, 8, 8), strict=True):
        assert step / 2 <= wait <= step
    backoff.reset()
    assert backoff.next_s() <= 1


def test_a_worker_that_fails_is_logged_counted_and_started_again(caplog) -> None:
    runs: list[int] = []
    again = threading.Event()

    def work(_stop: threading.Event) -> None:
        runs.append(1)
        if len(runs) == 1:
            raise RuntimeError("a bug")
        again.set()

    worker = Worker("careless", work)
    worker.start()
    assert again.wait(PATIENCE_S)
    assert worker.join(PATIENCE_S)
    assert worker.restarts == 1
    assert "careless: stopped by a fault of ours" in caplog.text


def test_a_worker_in_its_backoff_stops_at_once() -> None:
    failed = threading.Event()

    def work(_stop: threading.Event) -> None:
        failed.set()
        raise RuntimeError("a bug")

    worker = Worker("stubborn", work)
    worker.start()
    assert failed.wait(PATIENCE_S)
    worker.stop.set()
    assert worker.join(2)
