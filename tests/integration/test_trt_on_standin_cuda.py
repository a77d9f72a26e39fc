"""A plan on the stand-in `libcuda.so.1`: the real binding, its streams in threads, the kernel compiled for the CPU.

TensorRT and CUDA are stand-ins: this shows that calls go together, and nothing about speed or accuracy.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from engines.card import Card
from engines.cuda.binding import open_driver
from engines.cuda.errors import DeviceLost
from engines.errors import BackendError
from engines.pixels import Picture, fit
from engines.trt.running import TensorRTEngine
from tests.support import host_kernels, standin_trt
from tests.support.agents import fake_store
from tests.support.backends import REFERENCE
from tests.support.means import means_model
from tests.support.pictures import image_from, smooth_bgr
from tests.support.standin_cuda import Device, cubin, fail, hold, on_standin, release, report
from tests.support.standin_engines import plan_of

SIDE = 32


@pytest.fixture
def card(tmp_path: Path) -> Card:
    found, _ = fake_store(tmp_path).find("classes")
    return found.model_copy(update={"max_batch": 4})


@pytest.fixture
def model(tmp_path: Path) -> Path:
    return means_model(tmp_path / "means.onnx", SIDE)


@pytest.fixture
def kernels() -> Path:
    return host_kernels.library()


def opened(card: Card, model: Path, kernels: Path, version: str = "10.3.0") -> TensorRTEngine:
    plan = plan_of(model, version=version, cubin=cubin(kernels, prepare=2))
    return TensorRTEngine(standin_trt.namespace(version), open_driver(0), plan, card)


def asked(card: Card, count: int, seed: int = 0, size: tuple[int, int] = (64, 48)):
    pictures = [Picture(image_from(smooth_bgr(*size, seed=seed + i), "nv12")) for i in range(count)]
    return pictures, [fit(size, None, card.input) for _ in pictures]


@pytest.mark.parametrize("version", standin_trt.VERSIONS)
@on_standin()
def test_results_are_those_of_the_cpu_engine(card: Card, model: Path, kernels: Path, version: str) -> None:
    engine = opened(card, model, kernels, version)
    reference = REFERENCE.model_copy(update={"batch": 4}).build(card, model, "fp32")
    assert (engine.description["prepare"], engine.description["graphs"]) == ("gpu", "yes")
    in_flight = []
    for seed, count in enumerate((1, 4, 3, 2, 4, 1)):
        in_flight.append((seed, count, engine.submit(engine.prepare(*asked(card, count, seed)))))
        if len(in_flight) < engine.depth:
            continue
        seed, count, ticket = in_flight.pop(0)
        expected = reference(*asked(card, count, seed))["scores"]
        assert np.abs(ticket.result()["scores"] - expected).max() < 1 / 255
        ticket.release()
    in_flight[0][2].result()
    engine.close()
    reference.close()


@on_standin()
def test_frames_allocate_nothing_and_are_waited_for_once_a_batch(card: Card, model: Path, kernels: Path) -> None:
    engine = opened(card, model, kernels)
    engine(*asked(card, 4))
    before = report()
    for seed in range(10):
        engine(*asked(card, 4, seed))
    after = report()
    spent = {name: n - before["calls"].get(name, 0) for name, n in after["calls"].items()}
    assert spent.pop("cuEventSynchronize") == 10
    assert spent.pop("kernel") == 10
    assert spent.pop("cuGraphLaunch") == 10
    assert {name for name, n in spent.items() if n} <= {
        "cuCtxSetCurrent", "cuMemcpyHtoDAsync_v2", "cuMemcpyDtoHAsync_v2", "cuEventRecord", "cuStreamWaitEvent",
        "cuLaunchKernel",
    }  # fmt: skip
    assert after["unpinned_copies"] == 0
    assert after["alive"] == before["alive"]
    engine.close()


@on_standin()
def test_submitting_waits_for_nothing_that_runs(card: Card, model: Path, kernels: Path) -> None:
    engine = opened(card, model, kernels)
    tickets = []
    for seed in range(engine.depth):
        engine(*asked(card, 2, seed))  # pictures of this size have come to each slot
    hold()
    tickets = [engine.submit(engine.prepare(*asked(card, 2, seed))) for seed in range(engine.depth)]
    assert [ticket.done() for ticket in tickets] == [False, False]
    release()
    for ticket in tickets:
        ticket.result()
        assert ticket.done()
        ticket.release()
    engine.close()


@on_standin(clean=False)
def test_a_kernel_that_breaks_the_context_loses_the_engine(card: Card, model: Path, kernels: Path) -> None:
    engine = opened(card, model, kernels)
    fail(f"kernel:{report()['calls']['kernel'] + 1}=700")
    batch = engine.prepare(*asked(card, 1))
    hold()  # or it may be lost before all of the batch is submitted, which then says so
    ticket = engine.submit(batch)
    release()
    with pytest.raises(DeviceLost, match="touched memory that is not its own"):
        ticket.result()
    assert ticket.done()
    ticket.release()
    with pytest.raises(DeviceLost):
        engine(*asked(card, 1))
    engine.close()


@on_standin(Device("Orin", (8, 7), memory_mb=1, integrated=True))
def test_a_device_without_room_for_any_batch_is_an_error_and_nothing_is_left(
    card: Card, model: Path, kernels: Path
) -> None:
    driver = open_driver(0)
    held = driver.allocate((1 << 20) - 4096)
    with pytest.raises(BackendError, match="not as much memory is free"):
        opened(card, model, kernels)
    driver.free(held)
    driver.close()
