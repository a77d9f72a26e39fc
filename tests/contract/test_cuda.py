"""Every CUDA binding does the same, on a stand-in for the driver (tests.support.standin_cuda): strict, and no GPU."""

from __future__ import annotations

import ctypes
import os
import pickle
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from engines.cuda.driver import Driver, Pinned
from engines.cuda.errors import CudaError, DeviceLost, NoDevice, OutOfDeviceMemory
from engines.errors import EngineLost
from tests.support.cuda_bindings import BINDINGS, Binding
from tests.support.cuda_bindings import binding as installed
from tests.support.standin_cuda import Device, cubin, environment, fail, hold, host_kernels, on_standin, release, report

SIZE = 1000
pytestmark = pytest.mark.timeout(600)  # the first use of pycuda compiles it: half a minute of a core


@pytest.fixture(params=BINDINGS, scope="session")
def binding(request: pytest.FixtureRequest) -> Binding:
    return installed(request.param)


@pytest.fixture(scope="session")
def kernels() -> bytes:
    return cubin(host_kernels(), add_one=3, gate=1)


class Bench:
    """A stream, an event, memory on the device and two pieces of pinned memory."""

    def __init__(self, driver: Driver) -> None:
        self.driver = driver
        self.stream, self.event = driver.stream(), driver.event()
        self.memory = driver.allocate(SIZE)
        self.sent, self.back = driver.pin(SIZE), driver.pin(SIZE)
        self.sent.view[:] = np.arange(SIZE) % 251
        self.back.view[:] = 255

    def there_and_back(self) -> None:
        self.driver.copy_in(self.memory, self.sent.view, self.stream)
        self.driver.copy_out(self.back.view, self.memory, self.stream)

    def wait(self) -> None:
        self.driver.record(self.event, self.stream)
        self.driver.synchronise(self.event)

    def free(self) -> None:
        driver = self.driver
        driver.unpin(self.sent)
        driver.unpin(self.back)
        driver.free(self.memory)
        driver.destroy_event(self.event)
        driver.destroy_stream(self.stream)


@contextmanager
def opened(binding: Binding, ordinal: int = 0) -> Iterator[Bench]:
    driver = binding.open(ordinal)
    bench = Bench(driver)
    yield bench
    bench.free()
    driver.close()


@on_standin(Device("Orin", (8, 7), memory_mb=7620, integrated=True), driver=(12, 6))
def test_a_driver_says_what_its_device_is(binding: Binding) -> None:
    with opened(binding) as bench:
        facts = bench.driver.facts
        assert (facts.name, facts.compute_capability, facts.driver) == ("Orin", (8, 7), "12.6")
        assert (facts.memory, facts.integrated) == (7620 << 20, True)
        assert bench.driver.free_memory() == facts.memory - SIZE


@on_standin()
def test_what_is_copied_in_comes_out_again(binding: Binding) -> None:
    with opened(binding) as bench:
        bench.there_and_back()
        bench.wait()
        assert bench.driver.done(bench.event)
        np.testing.assert_array_equal(bench.back.view, bench.sent.view)
        bench.back.view[:] = 255
        bench.driver.copy_out(bench.back.view[100:200], bench.memory + 50, bench.stream)
        bench.wait()
        np.testing.assert_array_equal(bench.back.view[100:200], bench.sent.view[50:150])
        assert (np.delete(bench.back.view, slice(100, 200)) == 255).all()
        assert not report()["unpinned_copies"]


@on_standin()
def test_streams_wait_for_no_other_and_waiters_sleep(binding: Binding) -> None:
    with opened(binding):
        found = report()
        assert not any(found[wrong] for wrong in ("blocking_streams", "spinning_events", "timed_events"))


@on_standin()
def test_an_event_has_happened_when_what_was_before_it_is_done(binding: Binding) -> None:
    with opened(binding) as bench:
        assert bench.driver.done(bench.event)  # nothing was recorded
        hold()
        bench.there_and_back()
        bench.driver.record(bench.event, bench.stream)
        assert not bench.driver.done(bench.event)
        assert (bench.back.view == 255).all()
        release()
        bench.driver.synchronise(bench.event)
        assert bench.driver.done(bench.event)
        np.testing.assert_array_equal(bench.back.view, bench.sent.view)


@on_standin()
def test_other_threads_work_while_one_waits(binding: Binding) -> None:
    with opened(binding) as bench:
        hold()
        bench.driver.record(bench.event, bench.stream)
        begin = threading.Event()

        def let_go() -> None:
            begin.wait()
            release()

        thread = threading.Thread(target=let_go)
        thread.start()
        # From here the other thread runs only if this one lets go of the interpreter; if it does not, the alarm rings.
        sys.setswitchinterval(100)
        signal.alarm(20)
        begin.set()
        bench.driver.synchronise(bench.event)
        signal.alarm(0)
        thread.join()


@on_standin()
def test_streams_work_at_once_and_one_waits_for_the_other_when_told(binding: Binding, kernels: bytes) -> None:
    with opened(binding) as bench:
        driver = bench.driver
        gate, other, passed = driver.pin(1), driver.stream(), driver.event()
        gate.view[0] = 0
        module = driver.load(kernels)
        driver.launch(driver.function(module, "gate"), (1, 1, 1), (1, 1, 1), [address(gate)], other)
        driver.record(passed, other)
        bench.there_and_back()
        bench.wait()  # though the other stream has not got on
        assert not driver.done(passed)
        bench.back.view[:] = 255
        driver.wait(bench.stream, passed)
        driver.copy_out(bench.back.view, bench.memory, bench.stream)
        driver.record(bench.event, bench.stream)
        assert not driver.done(bench.event)
        assert (bench.back.view == 255).all()
        gate.view[0] = 1
        driver.synchronise(bench.event)
        np.testing.assert_array_equal(bench.back.view, bench.sent.view)
        driver.unload(module)
        driver.unpin(gate)
        driver.destroy_event(passed)
        driver.destroy_stream(other)


def address(pinned: Pinned) -> int:
    return int(pinned.view.ctypes.data)


@on_standin()
def test_a_kernel_gets_its_grid_and_its_addresses(binding: Binding, kernels: bytes) -> None:
    with opened(binding) as bench:
        driver = bench.driver
        module, result = driver.load(kernels), driver.allocate(SIZE)
        add_one = driver.function(module, "add_one")
        bench.there_and_back()
        driver.launch(add_one, (4, 1, 1), (256, 1, 1), [bench.memory, result, SIZE], bench.stream)
        driver.copy_out(bench.back.view, result, bench.stream)
        bench.wait()
        np.testing.assert_array_equal(bench.back.view, bench.sent.view + 1)
        bench.back.view[:] = 0
        driver.copy_in(result, bench.back.view, bench.stream)
        driver.launch(add_one, (2, 1, 1), (16, 1, 1), [bench.memory, result, SIZE], bench.stream)
        driver.copy_out(bench.back.view, result, bench.stream)
        bench.wait()
        assert np.count_nonzero(bench.back.view) == 32
        driver.free(result)
        driver.unload(module)


@on_standin()
def test_what_was_recorded_is_done_each_time_it_is_launched(binding: Binding, kernels: bytes) -> None:
    with opened(binding) as bench:
        driver = bench.driver
        assert driver.graphs == binding.graphs
        if not driver.graphs:
            with pytest.raises(CudaError, match="no CUDA graphs"):
                driver.begin_capture(bench.stream)
            return
        module = driver.load(kernels)
        add_one = driver.function(module, "add_one")
        driver.begin_capture(bench.stream)
        driver.copy_in(bench.memory, bench.sent.view, bench.stream)
        driver.launch(add_one, (4, 1, 1), (256, 1, 1), [bench.memory, bench.memory, SIZE], bench.stream)
        driver.copy_out(bench.back.view, bench.memory, bench.stream)
        graph = driver.end_capture(bench.stream)
        bench.wait()
        assert (bench.back.view == 255).all()  # recorded only
        for first in range(3):
            bench.sent.view[:] = np.arange(first, first + SIZE) % 251
            driver.launch_graph(graph, bench.stream)
            bench.wait()
            np.testing.assert_array_equal(bench.back.view, bench.sent.view + 1)
        driver.destroy_graph(graph)
        driver.unload(module)
        assert "cuGraphDestroy" in report()["calls"]


@on_standin()
def test_a_recording_that_fails_leaves_a_stream_that_works(binding: Binding) -> None:
    with opened(binding) as bench:
        if not binding.graphs:
            return
        driver = bench.driver
        driver.begin_capture(bench.stream)
        with pytest.raises(CudaError, match="recorded in a way"):
            driver.allocate(SIZE)
        with pytest.raises(CudaError, match="cuStreamEndCapture"):
            driver.end_capture(bench.stream)
        bench.there_and_back()
        bench.wait()
        np.testing.assert_array_equal(bench.back.view, bench.sent.view)


@on_standin()
def test_a_recording_forbids_nothing_to_other_threads(binding: Binding) -> None:
    with opened(binding) as bench:
        if not binding.graphs:
            return
        bench.driver.begin_capture(bench.stream)
        in_thread(bench.driver, lambda: bench.driver.free(bench.driver.allocate(SIZE)))
        bench.driver.destroy_graph(bench.driver.end_capture(bench.stream))


@on_standin(Device(memory_mb=16))
def test_a_device_that_is_full_says_so_and_goes_on(binding: Binding) -> None:
    with opened(binding) as bench:
        with pytest.raises(OutOfDeviceMemory, match=r"cuMemAlloc: not as much memory is free .*: a smaller `batch`"):
            bench.driver.allocate(16 << 20)
        fail("cuMemHostAlloc:3=2")
        with pytest.raises(OutOfDeviceMemory, match="cuMemHostAlloc"):
            bench.driver.pin(SIZE)
        bench.driver.free(bench.driver.allocate(15 << 20))
        bench.there_and_back()
        bench.wait()
        np.testing.assert_array_equal(bench.back.view, bench.sent.view)


@on_standin()
def test_a_wrong_image_or_kernel_is_named(binding: Binding, kernels: bytes) -> None:
    with opened(binding) as bench:
        with pytest.raises(CudaError, match=r"the compiled kernels are damaged.*build --again"):
            bench.driver.load(b"\x7fELF, as it seems\0")
        module = bench.driver.load(kernels)
        with pytest.raises(CudaError, match=r"CUDA_ERROR_NOT_FOUND, 500"):
            bench.driver.function(module, "add_two")
        bench.driver.unload(module)


@on_standin(fail="kernel:1=700", clean=False)
def test_a_device_that_is_lost_says_so_at_every_call_and_is_let_go_in_peace(binding: Binding, kernels: bytes) -> None:
    with opened(binding) as bench:
        driver = bench.driver
        module = driver.load(kernels)
        function = driver.function(module, "add_one")
        hold()
        driver.launch(function, (1, 1, 1), (1, 1, 1), [bench.memory, bench.memory, 1], bench.stream)
        driver.record(bench.event, bench.stream)
        assert not driver.done(bench.event)
        release()
        with pytest.raises(DeviceLost, match=r"cuEventSynchronize: .* \(CUDA_ERROR_ILLEGAL_ADDRESS, 700\): .*dmesg"):
            driver.synchronise(bench.event)
        for call in (lambda: driver.done(bench.event), lambda: driver.allocate(1), driver.stream, bench.there_and_back):
            with pytest.raises(EngineLost):
                call()
        driver.unload(module)
    assert not report()["alive"]["contexts"]
    with pytest.raises(DeviceLost):  # CUDA wants a new process
        binding.open()


@on_standin(fail="cuMemAlloc:2+=2")
def test_any_thread_may_call_and_end(binding: Binding) -> None:
    driver = binding.open()
    made: list[Any] = []
    in_thread(driver, lambda: made.append(Bench(driver)))
    (bench,) = made

    def work() -> None:
        bench.there_and_back()
        bench.wait()
        with pytest.raises(OutOfDeviceMemory):
            driver.allocate(SIZE)

    in_thread(driver, work)
    np.testing.assert_array_equal(bench.back.view, bench.sent.view)
    in_thread(driver, bench.free)
    in_thread(driver, driver.close)


def in_thread(driver: Driver, function: Any) -> None:
    """Call it in a thread that ends after it; fail as it does."""
    errors: list[BaseException] = []

    def run() -> None:
        try:
            driver.make_current()
            function()
        except BaseException as error:  # noqa: BLE001 - told below
            errors.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    for error in errors:
        raise error


@on_standin()
def test_the_thread_that_made_a_context_current_has_it_for_other_libraries(binding: Binding) -> None:
    with opened(binding) as bench:
        bench.driver.make_current()
        device = ctypes.c_int(7)
        assert ctypes.CDLL("libcuda.so.1").cuCtxGetDevice(ctypes.byref(device)) == 0
        assert device.value == 0
        bench.driver.free(bench.driver.allocate(1))
        assert ctypes.CDLL("libcuda.so.1").cuCtxGetDevice(ctypes.byref(device)) == 0


@on_standin()
def test_a_context_is_shared_and_the_last_closes_it(binding: Binding) -> None:
    first, second = binding.open(), binding.open()
    assert report()["alive"]["contexts"] == 1
    memory = first.allocate(SIZE)
    first.free(memory)
    first.close()
    first.close()
    bench = Bench(second)
    bench.there_and_back()
    bench.wait()
    np.testing.assert_array_equal(bench.back.view, bench.sent.view)
    bench.free()
    assert report()["alive"]["contexts"] == 1
    second.close()
    third = binding.open()
    third.free(third.allocate(SIZE))
    third.close()


@on_standin(Device("GeForce"), Device("Quadro", memory_mb=64))
def test_a_device_is_chosen_by_its_number(binding: Binding) -> None:
    with opened(binding, 1) as bench:
        assert bench.driver.facts.name == "Quadro"
        assert bench.driver.free_memory() == (64 << 20) - SIZE
    with pytest.raises(NoDevice, match="there is no GPU 2; there are 0: GeForce, 1: Quadro: set `device`"):
        binding.open(2)


@on_standin(fail="cuDevicePrimaryCtxRetain:1=46")
def test_a_gpu_that_another_program_has_to_itself_is_not_opened(binding: Binding) -> None:
    with pytest.raises(CudaError, match="cuDevicePrimaryCtxRetain: the GPU is taken, or gone"):
        binding.open()


@on_standin()
def test_streams_have_addresses_for_other_libraries(binding: Binding, tmp_path: Path) -> None:
    with opened(binding) as bench:
        given = bench.driver.stream_address(bench.stream)
        assert ctypes.CDLL("libcuda.so.1").cuStreamSynchronize(ctypes.c_void_p(given)) == 0


def test_a_program_may_end_in_the_midst_of_it(binding: Binding, tmp_path: Path) -> None:
    code = (
        "import pickle, sys; from tests.contract.test_cuda import Bench; "
        "binding = pickle.loads(sys.stdin.buffer.read()); bench = Bench(binding.open()); bench.there_and_back()"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        env={**environment(tmp_path), "PYTHONPATH": os.pathsep.join(sys.path)},
        input=pickle.dumps(binding),
        capture_output=True,
        timeout=60,
        check=False,
    )
    assert (done.returncode, done.stderr.decode()) == (0, "")
