"""Which plan is used, refused, or made: TensorRT's part of serving, on stand-ins in this process."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from pydantic import ValidationError

from engines.backends import tensorrt
from engines.base import Engine
from engines.card import Card
from engines.cuda import binding
from engines.cuda.driver import Facts
from engines.cuda.errors import CudaError, NoBinding, OutOfDeviceMemory
from engines.errors import BackendError
from engines.trt import flavours, making, serving
from engines.trt.flavours import Flavour
from engines.trt.kernel import source_version
from engines.trt.passport import Made, Passport, Plan
from engines.trt.reference import expected, probe_pictures
from engines.trt.store import PlanStore
from tests.support import standin_trt
from tests.support.standin_driver import StandInDriver
from tests.support.standin_engines import in_this_process, plan_of
from tests.support.standin_gpu import means_store

CONFIG = tensorrt.Config(prepare="cpu")


class Bench:
    """A model, its plans, a GPU that is a stand-in, and what was asked of them."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.card: Card
        self.card, self.folder = means_store(folder).find("classes")
        self.model = self.folder / "model.onnx"
        self.drivers: list[StandInDriver] = []
        self.memory: int | None = None
        self.flavour = Flavour("tensorrt", standin_trt.namespace("10.3.0"), "10.3.0")
        self.made = 0
        self.words: list[str] = []
        self.failure: Exception | None = None
        self.order = CONFIG.order(self.card, self.model, "fp32")
        self.store = PlanStore(self.model)
        monkeypatch.setattr(serving, "device", lambda _: self.facts)
        monkeypatch.setattr(serving, "lacking", lambda *_: "")
        monkeypatch.setattr(flavours, "load", lambda _: self.flavour)
        monkeypatch.setattr(binding, "open_driver", self.open_driver)
        monkeypatch.setattr(making, "make", self.make)

    @property
    def facts(self) -> Facts:
        return StandInDriver().facts

    @property
    def passport(self) -> Passport:
        return Passport.of(self.order, "tensorrt", "10.3.0", self.facts)

    def open_driver(self, _ordinal: int) -> StandInDriver:
        self.drivers.append(StandInDriver(limit=self.memory))
        return self.drivers[-1]

    def plan(self, **made: object) -> Plan:
        """What building would make, kept."""
        data = plan_of(self.model, self.order.batches).data
        reference = expected(self.model, self.card, "fp32", probe_pictures(self.order.size, self.order.batches[2]))
        how = {"plan_sha256": "0" * 64, "floats": "f16", "built_at": "2026-01-01T00:00:00Z", "seconds": 1}
        told = Made.model_validate({**how, "kernel": source_version(), **made})
        return self.store.save(self.passport.model_copy(update={"made": told}), data, b"a kernel", reference)

    def make(self, order, card, place, store, on_progress, stop, instead_of=None) -> Plan:
        self.made += 1
        on_progress(0.1, "parsing")
        on_progress(0.2, "timing")
        if self.failure:
            raise self.failure
        return self.plan()

    def ready(self) -> Engine:
        return serving.make_ready(CONFIG, self.card, self.model, "fp32", self.words.append, threading.Event())


@pytest.fixture
def bench(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Bench]:
    with in_this_process():
        made = Bench(tmp_path, monkeypatch)
        yield made
    assert all(driver.closed for driver in made.drivers)


def test_a_plan_that_is_there_is_loaded_and_nothing_is_reported(bench: Bench) -> None:
    bench.plan()
    bench.ready().close()
    assert (bench.made, bench.words) == (0, [])


def test_without_one_it_is_built_and_that_is_reported_in_one_word(bench: Bench) -> None:
    bench.ready().close()
    assert (bench.made, bench.words) == (1, ["building"])


@pytest.mark.parametrize("unchecked", [None, "built for a GPU that is not here"])
def test_a_plan_whose_results_are_no_longer_right_is_named_and_built_anew_and_then_refused(
    bench: Bench, unchecked: str | None, caplog: pytest.LogCaptureFixture
) -> None:
    plan = bench.plan(unchecked=unchecked)
    standin_trt.faults.add("wrong")
    with pytest.raises(BackendError, match=r"\.plan: computes something else than the model: output scores is"):
        bench.ready()
    assert bench.made == 1
    assert f"{plan.path}: computes something else" in caplog.text
    assert caplog.text.count(str(plan.path)) == 2  # the one that was there, and the one made anew
    assert bench.store.find(bench.passport) is None
    assert "something else" in (bench.store.failed(bench.passport, bench.facts.driver) or "")


def test_a_plan_that_does_not_load_is_named_and_built_anew(bench: Bench, caplog: pytest.LogCaptureFixture) -> None:
    plan = bench.plan()
    broken = replace(plan, data=b"of a version that nobody has")
    bench.store.save(plan.passport, broken.data, plan.cubin, plan.reference)
    bench.ready().close()
    assert bench.made == 1
    assert f"{plan.path}: " in caplog.text


def test_a_kernel_of_an_earlier_version_of_ours_is_compiled_anew_and_the_plan_stays(bench: Bench, monkeypatch) -> None:
    monkeypatch.setattr(making, "compiled", lambda capability: (f"for {capability}".encode(), None))
    plan = bench.plan(kernel="an earlier one")
    bench.ready().close()
    found = bench.store.find(bench.passport)
    assert found is not None
    assert (bench.made, found.data, found.cubin) == (0, plan.data, b"for (8, 7)")


def test_without_a_compiler_a_plan_is_used_without_a_kernel(bench: Bench, monkeypatch) -> None:
    monkeypatch.setattr(making, "compiled", lambda _: (None, "no compiler"))
    bench.plan(kernel="an earlier one")
    bench.ready().close()
    assert bench.made == 0


def test_a_driver_that_is_too_old_for_tensorrt_is_not_held_against_the_plan(bench: Bench, monkeypatch) -> None:
    """The binding raises a TypeError that says nothing; the log says why."""
    bench.plan()

    def refuse(logger) -> None:
        logger.log(standin_trt.Severity.ERROR, "CUDA initialization failure with error: 35")
        raise TypeError("pybind11::init(): factory function returned nullptr")

    monkeypatch.setattr(bench.flavour.trt, "Runtime", refuse)
    with pytest.raises(CudaError, match=r"TensorRT 10\.3\.0 does not start: CUDA initialization failure .*doctor"):
        bench.ready()
    assert bench.made == 0
    assert bench.store.find(bench.passport) is not None


def test_a_device_without_room_is_not_held_against_the_plan(bench: Bench) -> None:
    bench.plan()
    bench.memory = 1
    with pytest.raises(OutOfDeviceMemory):
        bench.ready()
    assert bench.made == 0
    assert bench.store.find(bench.passport) is not None


def test_a_little_room_means_smaller_batches(bench: Bench) -> None:
    bench.plan()
    full = bench.ready()
    bench.memory = ((1 << 32) - bench.drivers[-1].free_memory()) * 3 // 4
    full.close()
    smaller = bench.ready()
    assert (full.max_batch, smaller.max_batch) == (4, 2)
    assert smaller.description["batch"] == 2
    smaller.close()


def test_a_package_that_is_missing_is_not_held_against_the_plan(bench: Bench, monkeypatch) -> None:
    def no_binding(_ordinal: int) -> StandInDriver:
        raise NoBinding("no package for CUDA can be used")

    monkeypatch.setattr(binding, "open_driver", no_binding)
    bench.plan()
    with pytest.raises(NoBinding, match="no package for CUDA"):
        bench.ready()
    assert (bench.made, bench.store.failed(bench.passport, bench.facts.driver)) == (0, None)
    assert bench.store.find(bench.passport) is not None


def test_a_lean_runtime_runs_a_plan_that_is_there_and_builds_none(bench: Bench, monkeypatch) -> None:
    monkeypatch.delattr(bench.flavour.trt, "Builder")
    with pytest.raises(BackendError, match=r"10\.3\.0 runs plans and builds none"):
        bench.ready()
    assert bench.store.failed(bench.passport, bench.facts.driver) is None
    plan = bench.plan()
    bench.ready().close()
    bench.store.save(plan.passport, b"of a version that nobody has", None, plan.reference)
    with pytest.raises(BackendError, match=r"10\.3\.0 runs plans and builds none"):
        bench.ready()
    assert bench.made == 0


def test_too_little_memory_to_build_is_for_later(bench: Bench) -> None:
    from engines.trt.errors import NotNow

    bench.failure = NotNow("400 MB are missing")
    engine = CONFIG.serve(bench.card, bench.model, "fp32")
    try:
        while "because" not in engine.description:
            threading.Event().wait(0.001)
        assert engine.description["because"] == "400 MB are missing"
        assert "tried again at" in str(engine.description["next"])
        assert str(engine.description["backend"]).startswith("openvino")
    finally:
        engine.close()


def test_a_model_that_takes_one_picture_at_a_time_is_run_one_by_one(bench: Bench) -> None:
    bench.card = bench.card.model_copy(update={"max_batch": 1})
    bench.order = CONFIG.order(bench.card, bench.model, "fp32")
    assert bench.order.batches == (1, 1, 1)
    bench.plan(unchecked="built for a GPU that is not here")
    engine = bench.ready()
    assert (bench.made, engine.max_batch) == (0, 1)
    engine.close()


def test_a_dla_is_refused_with_the_reason() -> None:
    with pytest.raises(ValidationError, match=r"explicit INT8 \(Q/DQ\) does not run on a DLA: leave it out"):
        tensorrt.Config(dla=0)


def test_an_agent_with_a_plan_starts_on_the_gpu(bench: Bench) -> None:
    bench.plan()
    engine = CONFIG.serve(bench.card, bench.model, "fp32")
    assert engine.description["backend"] == "tensorrt 10.3.0"
    engine.close()


def test_a_lost_device_is_not_held_against_the_plan(bench: Bench, monkeypatch) -> None:
    bench.plan()

    def lost(_ordinal: int) -> StandInDriver:
        driver = bench.open_driver(0)
        driver.lost = True
        return driver

    monkeypatch.setattr(binding, "open_driver", lost)
    with pytest.raises((CudaError, BackendError)):
        bench.ready()
    assert bench.made == 0
    assert bench.store.find(bench.passport) is not None
