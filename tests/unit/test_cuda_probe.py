"""What is said of a driver that is absent, broken, too old or without a device, and which binding is taken."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from agent.doctor import probes
from engines.cuda import errors
from engines.cuda.binding import open_driver
from engines.cuda.errors import CudaError, DeviceLost, NoDevice, OutOfDeviceMemory, translate
from engines.cuda.probe import probe
from engines.errors import BackendError, EngineLost
from tests.support.standin_cuda import Device, compile_with, on_standin, report

ORIN = Device("Orin", (8, 7), memory_mb=7620, integrated=True)


@on_standin(Device(), ORIN, driver=(12, 6))
def test_a_driver_says_what_it_takes_and_has() -> None:
    found = probe()
    assert found.driver == (12, 6)
    assert [device.name for device in found.devices] == ["Stand-in GPU", "Orin"]
    orin = found.devices[1]
    assert (orin.compute_capability, orin.memory, orin.integrated, orin.driver) == ((8, 7), 7620 << 20, True, "12.6")


@on_standin()
def test_asking_makes_no_context() -> None:
    probe()
    assert not [call for call in report()["calls"] if "Ctx" in call]


@pytest.mark.parametrize(
    ("code", "said"),
    [
        (100, r"cuInit: no GPU is to be seen \(CUDA_ERROR_NO_DEVICE, 100\): nvidia-smi; in a container: docker run"),
        (803, r"CUDA_ERROR_SYSTEM_DRIVER_MISMATCH, 803\): sudo reboot"),
        (804, "apt-get remove 'cuda-compat"),
        (999, "modprobe nvidia_uvm"),
        (77, r"cuInit: failed \(an error of CUDA, 77\)"),
    ],
)
@on_standin()
def test_a_driver_that_does_not_start_says_why_and_what_to_do(code: int, said: str) -> None:
    os.environ["STANDIN_CUDA_INIT"] = str(code)
    with pytest.raises(NoDevice, match=said) as caught:
        probe()
    assert caught.value.code == code
    with pytest.raises(NoDevice, match=said):
        open_driver()


@on_standin(fail="cuDeviceGetName:1=46")
def test_a_device_that_does_not_answer_is_named_by_its_error() -> None:
    with pytest.raises(NoDevice, match="cuDeviceGetName: the GPU is taken, or gone"):
        probe()


@on_standin(driver=(11, 4))
def test_a_driver_that_is_too_old_is_refused_and_still_shown_by_the_doctor() -> None:
    with pytest.raises(NoDevice, match=r"takes CUDA 11\.4, and 12\.0 is needed: update the driver"):
        probe()
    assert probes.cuda()["cuda"] == "11.4"


@on_standin(ORIN, driver=(12, 6))
def test_the_doctor_asks_the_same_driver() -> None:
    assert probes.cuda() == {"cuda": "12.6", "devices": [{"name": "Orin", "compute": "8.7", "memory_gib": 7.4}]}


def asked(folder: Path) -> str:
    """What a process says that finds the `libcuda.so.1` of a folder."""
    code = "from engines.cuda.binding import open_driver; open_driver()"
    done = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, "LD_LIBRARY_PATH": str(folder), "PYTHONPATH": os.pathsep.join(sys.path)},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 1
    return done.stderr.splitlines()[-1]


def test_a_library_that_is_none_or_not_the_drivers_is_named(tmp_path: Path) -> None:
    (tmp_path / "libcuda.so.1").write_text("no library")
    assert "libcuda.so.1 of the NVIDIA driver cannot be loaded" in asked(tmp_path)
    source = tmp_path / "empty.c"
    source.write_text("int nothing;\n")
    compile_with("gcc", "-shared", "-fPIC", str(source), to=tmp_path / "libcuda.so.1")
    assert "is not a driver that can be used" in asked(tmp_path)


@pytest.mark.parametrize(("driver", "wanted"), [((12, 6), "cuda-python>=12.6,<13"), ((13, 0), "cuda-python>=13,<14")])
@on_standin()
def test_a_machine_without_a_binding_is_told_the_one_that_fits_its_driver(driver: tuple[int, int], wanted: str) -> None:
    os.environ["STANDIN_CUDA_DRIVER"] = str(driver[0] * 1000 + driver[1] * 10)
    sys.modules["cuda"] = sys.modules["pycuda"] = None  # type: ignore[assignment]
    with pytest.raises(BackendError) as caught:
        open_driver()
    assert str(caught.value).endswith(f"{sys.executable} -m pip install '{wanted}'")


def test_an_error_says_call_and_code_and_what_to_do() -> None:
    error = translate(2, "CUDA_ERROR_OUT_OF_MEMORY", "cuMemAlloc")
    assert isinstance(error, OutOfDeviceMemory)
    assert not isinstance(error, EngineLost)
    assert str(error).startswith("cuMemAlloc: not as much memory is free (CUDA_ERROR_OUT_OF_MEMORY, 2): a smaller")
    lost = translate(719, "CUDA_ERROR_LAUNCH_FAILED", "cuEventSynchronize")
    assert isinstance(lost, DeviceLost)
    assert isinstance(lost, EngineLost)
    unknown = translate(12345, "", "cuGraphLaunch", "the driver's own words")
    assert type(unknown) is CudaError
    assert str(unknown).startswith("cuGraphLaunch: the driver's own words (an error of CUDA, 12345): ")


def test_every_error_is_one_line() -> None:
    for code in range(1000):
        text = str(translate(code, "NAME", "call", "words"))
        assert "\n" not in text
        assert text.count(": ") >= 2, text
    assert not set(errors._LOST) & set(errors._KNOWN)
