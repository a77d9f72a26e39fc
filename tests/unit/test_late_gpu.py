"""A GPU that comes up after the program: who is asked, when it is worth waiting, and what is said."""

from __future__ import annotations

import os
import threading
import time

import pytest

from engines.cuda.errors import NoDevice
from engines.errors import BackendError
from engines.trt import flavours, late
from engines.trt.here import lacking
from tests.support.standin_cuda import on_standin


def soon() -> threading.Event:
    """In the child: TensorRT is installed, and there is no time to lose."""
    late._FIRST_S = late._MOST_S = 0.01  # type: ignore[misc]
    flavours.find = lambda _=None: ("tensorrt",)  # type: ignore[assignment]
    return threading.Event()


@on_standin(init=100, clean=False)
def test_a_gpu_that_the_driver_gets_later_is_found_by_a_new_process_and_then_by_this_one() -> None:
    stop = soon()
    assert "no GPU is to be seen" in lacking(0, None)
    assert late.may_come(0, None)
    assert not late._answers(0, stop)
    threading.Timer(0.2, os.environ.pop, ("STANDIN_CUDA_INIT",)).start()
    started = time.monotonic()
    late.wait_for(0, None, stop)
    assert time.monotonic() - started >= 0.2
    assert lacking(0, None) == ""
    assert not late._answers(1, stop)


@on_standin(init=100, clean=False)
def test_a_process_whose_driver_keeps_to_its_first_answer_is_told_to_start_anew() -> None:
    stop = soon()
    os.environ.pop("STANDIN_CUDA_INIT")
    late.lacking = lambda *_: "cuInit: no GPU is to be seen"  # type: ignore[assignment]
    with pytest.raises(BackendError, match="a GPU is here now, but not for a program that was started before it"):
        late.wait_for(0, None, stop)


@on_standin(init=100, clean=False)
def test_waiting_ends_when_it_is_told_to() -> None:
    stop = soon()
    threading.Timer(0.1, stop.set).start()
    with pytest.raises(BackendError, match="stopped"):
        late.wait_for(0, None, stop)


def raises(error: Exception):
    def found(_ordinal: int) -> None:
        raise error

    return found


@pytest.mark.parametrize(
    ("error", "loads", "worth_it"),
    [
        (NoDevice("no library"), False, True),
        (NoDevice("cuInit: no GPU is to be seen", 100), True, True),
        (NoDevice("the NVIDIA driver takes CUDA 11.4, and 12.0 is needed"), True, False),
    ],
)
def test_only_what_may_change_is_waited_for(monkeypatch, error: NoDevice, loads: bool, worth_it: bool) -> None:
    monkeypatch.setattr(late, "device", raises(error))
    monkeypatch.setattr(late, "_loads", lambda: loads)
    monkeypatch.setattr(flavours, "find", lambda _: ("tensorrt",))
    assert late.may_come(0, None) is worth_it
    monkeypatch.setattr(flavours, "find", raises(BackendError("TensorRT is not installed")))
    assert not late.may_come(0, None)
