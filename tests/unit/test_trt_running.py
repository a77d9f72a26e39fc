"""How a plan is run, on stand-ins for TensorRT and CUDA: order, counts, faults, leaks. Nothing here is a GPU."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from engines.base import Engine
from engines.card import Card, Input
from engines.cuda.errors import OutOfDeviceMemory
from engines.errors import BackendError, EngineLost
from engines.graph import serialise
from engines.pixels import Picture, fit
from engines.trt.running import TensorRTEngine
from tests.support import standin_trt
from tests.support.agents import fake_store
from tests.support.backends import REFERENCE
from tests.support.models import SIZE, branching_network
from tests.support.pictures import image_from, smooth_bgr
from tests.support.standin_driver import StandInDriver
from tests.support.standin_engines import device, half_outputs, host_kernel, in_this_process, open_engine, plan_of

INTO = Input(width=SIZE, height=SIZE, fit="letterbox", fill=114)


@pytest.fixture(autouse=True)
def _standins() -> Iterator[None]:
    with in_this_process():
        yield


@pytest.fixture(scope="module")
def card(tmp_path_factory: pytest.TempPathFactory) -> Card:
    found, _ = fake_store(tmp_path_factory.mktemp("store")).find("classes")
    return found.model_copy(update={"input": INTO, "max_batch": 4})


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A network with free batch, of uint8 pictures."""
    path = tmp_path_factory.mktemp("model") / "network.onnx"
    network = branching_network()
    given = network.graph.input[0]
    given.type.tensor_type.elem_type = TensorProto.UINT8
    for node in network.graph.node:
        node.input[:] = ["floats" if name == given.name else name for name in node.input]
    cast = helper.make_node("Cast", [given.name], ["bytes"], to=TensorProto.FLOAT)
    network.graph.initializer.append(helper.make_tensor("levels", TensorProto.FLOAT, [], [255.0]))
    network.graph.node.insert(0, helper.make_node("Div", ["bytes", "levels"], ["floats"]))
    network.graph.node.insert(0, cast)
    path.write_bytes(serialise(network))
    return path


def asked(count: int, seed: int = 0, size: tuple[int, int] = (64, 48), pixels: str = "bgr"):
    pictures = [Picture(image_from(smooth_bgr(*size, seed=seed + i), pixels)) for i in range(count)]
    return pictures, [fit(size, None, INTO) for _ in pictures]


@pytest.fixture
def reference(card: Card, model: Path) -> Iterator[Engine]:
    engine = REFERENCE.model_copy(update={"batch": 4}).build(card, model, "fp32")
    yield engine
    engine.close()


@pytest.mark.parametrize("prepare", ["cpu", "gpu"])
@pytest.mark.parametrize("pixels", ["bgr", "nv12", "i420", "gray"])
def test_results_are_those_of_the_cpu_engine_on_every_pixel_format(card, model, reference, prepare, pixels) -> None:
    engine = open_engine(model, card, prepare=prepare)
    for count in (3, 1, 4, 2):
        pictures, geometries = asked(count, seed=count, pixels=pixels)
        found, expected = engine(pictures, geometries)["logits"], reference(pictures, geometries)["logits"]
        # A level more or less in a few pixels is what the kernel may differ by.
        assert found == pytest.approx(expected, abs=1e-6 if prepare == "cpu" else 0.02 * float(abs(expected).max()))
    engine.close()


def test_there_is_one_wait_and_no_allocation_for_each_batch(card, model) -> None:
    driver = device("gpu")
    engine = open_engine(model, card, driver, prepare="gpu")
    engine(*asked(4))  # pictures of this size have come
    before = driver.calls.copy()
    for i in range(10):
        engine(*asked(4, seed=i))
    spent = driver.calls - before
    assert spent == {
        "make_current": 30, "copy_in": 10, "copy_out": 10, "launch": 10, "launch_graph": 10, "record": 30, "wait": 20,
        "synchronise": 10,
    }  # fmt: skip
    engine.close()


def test_uploads_and_downloads_wait_for_nothing_but_their_own_batch(card, model) -> None:
    driver = device("gpu")
    engine = open_engine(model, card, driver, prepare="gpu")
    upload, compute, download = engine._streams.upload, engine._streams.compute, engine._streams.download
    tickets = [engine.submit(engine.prepare(*asked(2))) for _ in range(2)]  # pictures of this size have come
    for ticket in tickets:
        ticket.result()
        ticket.release()
    driver.log.clear()
    tickets = [engine.submit(engine.prepare(*asked(2, seed=i))) for i in range(2)]
    upload.drain()
    assert driver.log == ["upload"] * 2, "the second batch is uploaded while the first has yet to be worked on"
    compute.drain()
    assert driver.log[2:] == ["kernel", "network"] * 2, "the second is worked on while the first has yet to come back"
    download.drain()
    assert driver.log[6:] == ["download"] * 2
    assert all(ticket.done() for ticket in tickets)
    engine.close()


def test_a_batch_is_done_when_its_outputs_have_come_and_not_before(card, model) -> None:
    engine = open_engine(model, card)
    ticket = engine.submit(engine.prepare(*asked(1)))
    asks = 0
    while not ticket.done():
        asks += 1
    assert asks > 0
    ticket.result()
    ticket.release()
    engine.close()


def test_memory_of_a_batch_whose_results_nobody_read_is_not_written_to_while_it_is_under_way(card, model) -> None:
    driver = device("gpu")
    engine = open_engine(model, card, driver, prepare="gpu")
    expected = engine(*asked(4, seed=3))["logits"]
    driver.log.clear()
    engine.submit(engine.prepare(*asked(4, seed=2))).release()
    assert driver.log == []
    batch = engine.prepare(*asked(4, seed=3))
    # Or else the kernel may read where parameters that are half overwritten send it.
    assert driver.log == ["upload", "kernel", "network", "download"]
    ticket = engine.submit(batch)
    assert (ticket.result()["logits"] == expected).all()
    ticket.release()
    engine.close()


def test_memory_for_pictures_grows_for_more_or_larger_ones_than_ever_and_only_then(
    card, model, reference, caplog
) -> None:
    driver = device("gpu")
    engine = open_engine(model, card, driver, prepare="gpu")
    caplog.set_level("INFO")
    grown = []
    for count, size in ((1, (64, 48)), (4, (640, 360)), (3, (640, 360)), (2, (64, 48)), (4, (1024, 576))):
        before = driver.calls["allocate"], driver.calls["pin"]
        for seed in range(2):
            pictures, geometries = asked(count, seed=seed, size=size, pixels="nv12")
            expected = reference(pictures, geometries)["logits"]
            found = engine(pictures, geometries)["logits"]
            assert found == pytest.approx(expected, abs=0.02 * float(abs(expected).max()))
        grown.append((driver.calls["allocate"] - before[0], driver.calls["pin"] - before[1]))
    assert grown == [(1, 1), (1, 1), (0, 0), (0, 0), (1, 1)]
    assert [record.message for record in caplog.records] == [
        f"staging for pictures grew to {size} MiB" for size in (1, 2, 4)
    ]
    engine.close()
    assert driver.held == 0


def test_pictures_for_which_there_is_no_memory_are_prepared_by_the_cpu(card, model, reference, caplog) -> None:
    driver = device("gpu", limit=3 << 20)
    engine = open_engine(model, card, driver, prepare="gpu")
    for count, size in ((2, (64, 48)), (2, (1280, 720)), (2, (64, 48)), (1, (1280, 720)), (2, (1280, 720))):
        pictures, geometries = asked(count, size=size, pixels="nv12")
        expected = reference(pictures, geometries)["logits"]
        assert engine(pictures, geometries)["logits"] == pytest.approx(expected, abs=0.02 * float(abs(expected).max()))
    assert [record.message for record in caplog.records] == [
        "pictures as large as these are prepared on the CPU from now on: "
        f"{size << 20} bytes of device memory are not to be had (stand-in)"
        for size in (3, 2)
    ]
    engine.close()
    assert driver.held == 0


@pytest.mark.parametrize(("version", "prepare"), [("8.6.1", "cpu"), ("10.3.0", "gpu"), ("1.7.1", "gpu")])
def test_whatever_fails_while_it_opens_everything_is_given_back(card, model, version, prepare) -> None:
    opened = 0
    calls = 0
    while opened < 3:  # after so many calls it is open, whichever of those that remain fails
        driver = device(prepare)
        driver.fail_after = calls
        calls += 1
        try:
            engine = open_engine(model, card, driver, version=version, prepare=prepare, batches=(1, 2, 2))
        except BackendError:
            opened = 0
        else:
            opened = opened + 1 if driver.fail_after > -1 else 0
            driver.fail_after = -2
            engine.close()
        assert driver.held == 0
        assert driver.calls["close"] == 1
    assert calls > 40


@pytest.mark.parametrize("fault", ["deserialise", "context", "execute"])
def test_what_tensorrt_refuses_is_said_with_its_reason_and_the_plan_and_everything_is_given_back(
    card, model, fault
) -> None:
    driver = device()
    standin_trt.faults.add(fault)
    with pytest.raises(BackendError, match=r"network\.plan: (does not load|has no execution|does not run).*stand-in"):
        open_engine(model, card, driver)
    assert driver.held == 0
    assert driver.calls["close"] == 1


def test_a_network_that_fails_once_fails_that_batch_and_no_other(card, model) -> None:
    standin_trt.faults.add("capture")  # or else TensorRT is not asked any more
    engine = open_engine(model, card)
    first = engine.submit(engine.prepare(*asked(1)))
    batch = engine.prepare(*asked(1, seed=7))
    standin_trt.faults.add("execute")
    with pytest.raises(BackendError, match="does not run: IExecutionContext::enqueueV3: Error Code 1"):
        engine.submit(batch)
    standin_trt.faults.remove("execute")
    expected = first.result()["logits"].copy()
    first.release()
    for _ in range(3):
        assert (engine(*asked(1))["logits"] == expected).all()
    engine.close()


@pytest.mark.parametrize("version", standin_trt.VERSIONS)
def test_without_graphs_it_runs_all_the_same_and_says_so(card, model, version) -> None:
    with_graphs = open_engine(model, card, version=version)
    assert with_graphs.description["graphs"] == "yes"
    standin_trt.faults.add("capture")
    without = open_engine(model, card, version=version)
    assert str(without.description["graphs"]).startswith("no: ")
    assert (without(*asked(3))["logits"] == with_graphs(*asked(3))["logits"]).all()
    for engine in (without, with_graphs):
        engine.close()
        assert engine._driver.held == 0


def test_where_memory_is_short_batches_are_smaller(card, model, caplog) -> None:
    limit = 50_000
    found = []
    while limit > 1000:
        driver = device(limit=limit)
        try:
            engine = open_engine(model, card, driver)
        except OutOfDeviceMemory:
            found.append(0)
        else:
            found.append(engine.max_batch)
            assert engine.description["batch"] == engine.max_batch
            assert engine(*asked(engine.max_batch))["logits"].shape[0] == engine.max_batch
            engine.close()
        assert driver.held == 0
        limit = limit * 9 // 10
    assert found == sorted(found, reverse=True)
    assert set(found) == {4, 2, 1, 0}
    assert "no room for batches of 4, trying smaller ones" in caplog.text


def test_a_device_that_is_gone_is_said_to_be_and_can_be_closed(card, model, caplog) -> None:
    driver = device()
    engine = open_engine(model, card, driver)
    ticket, batch = engine.submit(engine.prepare(*asked(1))), engine.prepare(*asked(1))
    driver.lost = True
    assert ticket.done()
    with pytest.raises(EngineLost):
        ticket.result()
    ticket.release()
    with pytest.raises(EngineLost):
        engine.submit(batch)
    engine.close()
    assert [record.message for record in caplog.records] == [
        f"{model.with_suffix('.plan')}: closed without waiting for what was under way: "
        "record: the device is gone (stand-in)"
    ]
    assert driver.calls["close"] == 1


def test_other_threads_may_go_on(card, model) -> None:
    engine = open_engine(model, card)
    expected = engine(*asked(2))["logits"]
    found = []
    for _ in range(3):
        thread = threading.Thread(target=lambda: found.append(engine(*asked(2))["logits"]))
        thread.start()
        thread.join()
    assert len(found) == 3
    assert all((one == expected).all() for one in found)
    engine.close()


@pytest.mark.parametrize("prepare", ["gpu", "cpu"])
def test_one_thread_may_have_engines_on_two_devices(card, model, prepare) -> None:
    kernels = {"prepare": host_kernel}
    one, other = (open_engine(model, card, StandInDriver(None, kernels, n), prepare=prepare) for n in range(2))
    tickets = [engine.submit(engine.prepare(*asked(2))) for engine in (one, other)]
    expected = one(*asked(2))["logits"]
    for ticket in tickets:
        assert ticket.done() in (False, True)
        assert (ticket.result()["logits"] == expected).all()
        ticket.release()
    other.close()
    one.close()


def test_float16_outputs_are_given_as_float32(card, model, tmp_path, reference) -> None:
    engine = open_engine(half_outputs(model, tmp_path / "half.onnx"), card)
    assert engine.outputs[0].dtype == np.float32
    found, expected = engine(*asked(3))["logits"], reference(*asked(3))["logits"]
    assert found.dtype == np.float32
    assert found == pytest.approx(expected, rel=2e-3, abs=1e-3)
    engine.close()


@pytest.mark.parametrize(
    ("prepare", "cubin", "said"),
    [("gpu", True, "gpu"), ("gpu", False, "cpu: there is no kernel"), ("cpu", True, "cpu")],
)
def test_who_prepares_is_said_and_why_it_is_not_the_gpu(card, model, prepare, cubin, said) -> None:
    driver = device("gpu")
    plan = plan_of(model, cubin=b"the kernel" if cubin else None)
    engine = TensorRTEngine(standin_trt.namespace(), driver, plan, card, prepare=prepare)
    assert str(engine.description["prepare"]).startswith(said)
    assert driver.calls["launch"] == (2 if said == "gpu" else 0)
    engine.close()


def test_what_was_wanted_instead_of_the_plan_is_said(card, model) -> None:
    plan = plan_of(model)
    made = plan.made.model_copy(update={"instead_of": "int8: this GPU does not compute INT8"})
    plan = replace(plan, passport=plan.passport.model_copy(update={"made": made}))
    engine = TensorRTEngine(standin_trt.namespace(), device(), plan, card)
    assert engine.description["instead_of"] == "int8"
    assert engine.description["because"] == "this GPU does not compute INT8"
    engine.close()


def test_a_kernel_that_does_not_load_leaves_the_cpu_to_prepare(card, model, caplog) -> None:
    driver = device("gpu")
    driver.failing.add("load")
    engine = open_engine(model, card, driver, prepare="gpu")
    assert engine.description["prepare"] == "cpu: load failed, as asked (stand-in)"
    assert "prepared on the CPU" in caplog.text
    engine.close()
    assert driver.held == 0


def test_a_plan_of_8_6_whose_contexts_cannot_share_its_profile_is_refused(card, model) -> None:
    with pytest.raises(BackendError, match="used by another context"):
        open_engine(model, card, version="8.6.1", sharing=False)


def two_inputs(network: onnx.ModelProto) -> None:
    network.graph.input.append(helper.make_tensor_value_info("more", TensorProto.FLOAT, ["N", 3]))


def whole_numbers(network: onnx.ModelProto) -> None:
    network.graph.node.append(helper.make_node("Cast", ["logits"], ["whole"], to=TensorProto.INT64))
    network.graph.output[0].name = "whole"
    network.graph.output[0].type.tensor_type.elem_type = TensorProto.INT64


@pytest.mark.parametrize(
    ("change", "expected"),
    [(two_inputs, "its inputs are .*more float32"), (whole_numbers, "tensor whole is a .*INT64|tensor whole")],
)
def test_networks_of_another_kind_are_refused_by_name(card, model, tmp_path, change, expected) -> None:
    network = onnx.load(model)
    change(network)
    path = tmp_path / "other.onnx"
    onnx.save(network, path)
    driver = device()
    with pytest.raises(BackendError, match=rf"other\.plan: {expected}"):
        open_engine(path, card, driver)
    assert driver.held == 0


def test_a_plan_for_pictures_of_another_size_than_the_cards_is_refused(card, model) -> None:
    small = card.model_copy(update={"input": INTO.model_copy(update={"width": 8})})
    with pytest.raises(BackendError, match=r"takes pictures of shape \(3, 16, 16\), and its card's are \(3, 16, 8\)"):
        open_engine(model, small)


def test_it_can_be_closed_twice(card, model) -> None:
    driver = StandInDriver()
    engine = open_engine(model, card, driver)
    engine.submit(engine.prepare(*asked(2)))
    engine.close()
    engine.close()
    assert driver.held == 0
    assert driver.calls["close"] == 1
