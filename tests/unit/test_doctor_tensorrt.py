"""What `sightwire doctor` says of TensorRT, CUDA's binding and JetPack on machines that are made up."""

from __future__ import annotations

import platform
import sys
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import pytest

from agent.doctor import jetson, probes, room, tensorrt
from agent.doctor.findings import Finding, note, ok
from agent.doctor.packages import PIP
from tests.packaging.test_floors import PROJECT
from tests.support.needs import missing
from tests.support.standin_cuda import Device, environment, read_report
from tests.unit.test_doctor import installed, nvidia_card, tree

GOOD = {"binding": "cuda-python 13.4.4", "free_gib": 6.1, "shared": False, "nvrtc": "13.5"}
GOOD_12 = {"binding": "cuda-python 12.9.10", "free_gib": 6.1, "shared": True, "nvrtc": "12.9"}
RTX = {"tensorrt_rtx": {"version": "1.7.1.116", "targets": list(tensorrt.RTX_CAPABILITIES)}}


def gpus(cuda: str, *capabilities: str) -> dict[str, Any]:
    """What the driver answers."""
    devices = [{"name": "A GPU", "compute": capability, "memory_gib": 8.0} for capability in capabilities]
    return {"cuda": cuda, "devices": devices}


def orin(root: Path, release: str = "36 (release), REVISION: 4.3") -> Path:
    return tree(root, etc__nv_tegra_release=f"# R{release}, GCID: 1\n", proc__device_tree__model="")


class Made:
    """A machine: what its probes answer, and what pip has installed."""

    def __init__(self, patch: pytest.MonkeyPatch, cuda: Any, found: Any = None, *opened: Any) -> None:
        self.answers = {"cuda": cuda, "tensorrt": found or {}, "opened": list(opened)}
        patch.setattr(tensorrt, "ask", self._ask)
        patch.setattr(tensorrt, "flavours", lambda: ["tensorrt"] if isinstance(found, Exception) else list(found or {}))
        patch.setattr(tensorrt, "runtimes", list)
        patch.setattr(tensorrt, "distributions", list)
        patch.setattr(platform, "machine", lambda: "x86_64")

    def _ask(self, probe: str) -> Any:
        answer = self.answers[probe]
        if isinstance(answer, Exception):
            raise answer
        return answer


ABSENT = {"absent": "libcuda.so.1: cannot open"}


def both(root: Path) -> list[Finding]:
    return [*tensorrt.look(root), *tensorrt.opened(root)]


def rtx_is_here() -> str:
    """Its version."""
    try:
        return version("tensorrt_rtx")
    except PackageNotFoundError:
        missing("tensorrt_rtx (pip install '.[gpu]')")


def the(found: list[Finding], words: str) -> Finding:
    (finding,) = [f for f in found if words in f.text]
    return finding


# -- JetPack


@pytest.mark.parametrize(
    ("release", "said"),
    [
        ("35 (release), REVISION: 4.1", "JetPack 5 (L4T 35.4.1)"),
        ("36 (release), REVISION: 3.0", "JetPack 6.0 (L4T 36.3.0)"),
        ("36 (release), REVISION: 4.0", "JetPack 6.1 (L4T 36.4.0)"),
        ("36 (release), REVISION: 4.3", "JetPack 6.2 (L4T 36.4.3)"),
        ("36 (release), REVISION: 4.7", "JetPack 6.2.1 (L4T 36.4.7)"),
        ("36 (release), REVISION: 5.2", "JetPack 6.2.3 (L4T 36.5.2)"),
        ("36 (release), REVISION: 6.0", "JetPack 6.2.3+ (L4T 36.6.0)"),
        ("38 (release), REVISION: 2.1", "JetPack 7.0 (L4T 38.2.1)"),
        ("38 (release), REVISION: 4.0", "JetPack 7.1 (L4T 38.4.0)"),
        ("39 (release), REVISION: 2.0", "JetPack 7.2 (L4T 39.2.0)"),
        ("39 (release), REVISION: 2.1", "JetPack 7.2.1 (L4T 39.2.1)"),
        ("39 (release), REVISION: 3", "JetPack 7.2.1+ (L4T 39.3)"),
        ("40 (release), REVISION: 1.0", "(L4T 40.1.0)"),
        ("32 (release), REVISION: 7.1", "(L4T 32.7.1)"),
    ],
)
def test_jetpack_is_told_by_the_release_of_its_linux(tmp_path: Path, release: str, said: str) -> None:
    assert str(jetson.find(orin(tmp_path, release))) == f"NVIDIA Jetson, {said}"


def test_a_jetson_without_its_release_file_is_known_by_its_device_tree(tmp_path: Path) -> None:
    tree(tmp_path, proc__model="").joinpath("proc/device-tree").mkdir()
    (tmp_path / "proc/device-tree/model").write_text("NVIDIA Jetson AGX Orin\0")
    board = jetson.find(tmp_path)
    assert board is not None
    assert (str(board), board.major) == ("NVIDIA Jetson AGX Orin", None)


def test_other_machines_are_no_jetson(tmp_path: Path) -> None:
    assert jetson.find(tmp_path) is None


# -- TensorRT that is there


def test_a_jetson_with_everything_has_no_problem(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    Made(monkeypatch, gpus("12.6", "8.7"), {"tensorrt": {"version": "10.3.0", "targets": []}}, GOOD_12)
    assert both(orin(tmp_path)) == [
        ok("gpu", "tensorrt 10.3.0 is what the GPU engine uses"),
        ok("gpu", "the GPU opens by cuda-python 12.9.10; 6.1 GiB of its memory are free, shared with the CPU"),
        ok("gpu", "NVRTC 12.9 compiles the kernels that prepare pictures"),
    ]


def test_a_gpu_that_tensorrt_rtx_does_not_list_is_a_problem(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    Made(monkeypatch, gpus("13.0", "9.0"), RTX, GOOD)
    found = the(list(tensorrt.look(tmp_path)), "makes no plans for compute capability 9.0")
    assert (found.state, found.mend) == ("problem", f"{PIP} install tensorrt-cu13")


@pytest.mark.parametrize("capability", tensorrt.RTX_CAPABILITIES)
def test_a_gpu_that_tensorrt_rtx_lists_is_well(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capability: str
) -> None:
    Made(monkeypatch, gpus("13.0", capability), RTX, GOOD)
    assert next(tensorrt.look(tmp_path)) == ok("gpu", "tensorrt_rtx 1.7.1.116 is what the GPU engine uses")


def test_of_two_flavours_the_one_that_is_used_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    Made(monkeypatch, gpus("13.0", "9.0"), {"tensorrt": {"version": "11.4.0", "targets": []}, **RTX}, GOOD)
    used, other, *_ = tensorrt.look(tmp_path)
    assert used == ok("gpu", "tensorrt 11.4.0 is what the GPU engine uses")
    assert other == ok("gpu", "tensorrt_rtx 1.7.1.116, used where a model says flavour: tensorrt_rtx")


def test_tensorrt_that_does_not_load_is_a_note_where_another_does(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    Made(monkeypatch, ABSENT, {"tensorrt": {"error": "libnvinfer.so.10: cannot open"}, **RTX})
    broken, good = tensorrt.look(tmp_path)
    assert (broken.state, good) == ("note", ok("gpu", "tensorrt_rtx 1.7.1.116; there is no GPU for it"))
    assert "libnvinfer.so.10" in broken.text
    assert broken.mend


def test_tensorrt_that_does_not_load_beside_a_gpu_is_a_problem(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    Made(monkeypatch, gpus("12.6", "8.7"), {"tensorrt": {"error": "libcudla.so.1: cannot open"}}, GOOD_12)
    found = next(tensorrt.look(orin(tmp_path)))
    assert (found.state, found.mend) == ("problem", "sudo apt-get update && sudo apt-get install nvidia-jetpack")
    tree(tmp_path, run____containerenv="").joinpath("run/.containerenv").touch()
    assert next(tensorrt.look(tmp_path)).mend == "docker run --runtime nvidia ..."


def test_tensorrt_that_crashes_when_it_is_imported_is_a_finding(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    Made(monkeypatch, gpus("13.0", "8.9"), room.ProbeError("crashed (SIGSEGV)"), GOOD)
    found = next(tensorrt.look(tmp_path))
    assert (found.state, "crashed (SIGSEGV)" in found.text) == ("problem", True)


@pytest.mark.parametrize(
    ("package", "board", "words", "mend"),
    [
        (
            "tensorrt_cu13",
            False,
            "for CUDA 13, and the driver takes CUDA 12",
            "tensorrt-rtx-cu12>=1.7",
        ),
        ("tensorrt-cu12", True, "on JetPack 6 only JetPack's own TensorRT runs", "install nvidia-jetpack"),
    ],
)
def test_tensorrt_for_another_machine_is_a_problem(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, package: str, board: bool, words: str, mend: str
) -> None:
    capability = "8.7" if board else "8.6"
    Made(monkeypatch, gpus("12.6", capability), {"tensorrt": {"version": "11.4", "targets": []}}, GOOD_12)
    monkeypatch.setattr(tensorrt, "distributions", lambda: [installed(tmp_path / "site", package)])
    found = the(list(tensorrt.look(orin(tmp_path) if board else tmp_path)), words)
    assert found.state == "problem"
    assert f"uninstall -y {package} " in (found.mend or "")
    assert mend in (found.mend or "")


def test_tensorrt_of_the_system_for_a_later_cuda_than_the_drivers_is_a_problem(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    packages = "Package: libnvinfer-lean10\nVersion: 9\n\nPackage: libnvinfer10\nStatus: installed\nVersion: {}\n\n"
    Made(monkeypatch, gpus("12.4", "8.6"), {"tensorrt": {"version": "10.13", "targets": []}}, GOOD_12)
    tree(tmp_path, var__lib__dpkg__status=packages.format("10.13.3.9-1+cuda13.0"))
    found = the(list(tensorrt.look(tmp_path)), "libnvinfer is for CUDA 13")
    assert found.state == "problem"
    tree(tmp_path, var__lib__dpkg__status=packages.format("10.3.0.26-1+cuda12.5"))
    assert not any("libnvinfer" in f.text for f in tensorrt.look(tmp_path))


# -- TensorRT that is not there


@pytest.mark.parametrize(
    ("answer", "machine", "mend"),
    [
        (gpus("13.0", "8.9"), "x86_64", f"{PIP} install 'tensorrt-rtx>=1.7'"),
        (gpus("13.0", "12.1"), "aarch64", f"{PIP} install 'tensorrt-rtx>=1.7'"),
        (gpus("12.4", "8.6"), "x86_64", f"{PIP} install 'tensorrt-rtx-cu12>=1.7'"),
        (gpus("12.4", "8.6"), "aarch64", f"{PIP} install tensorrt-cu12"),
        (gpus("13.1", "9.0"), "x86_64", f"{PIP} install tensorrt-cu13"),
        (gpus("14.0", "10.0"), "x86_64", f"{PIP} install tensorrt-cu13"),
        (gpus("13.0", "8.9", "9.0"), "x86_64", f"{PIP} install tensorrt-cu13"),
        (ABSENT, "x86_64", "the GPU's driver first, then: sightwire doctor"),
    ],
)
def test_the_tensorrt_that_fits_gpu_and_driver_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, answer: dict[str, Any], machine: str, mend: str
) -> None:
    Made(monkeypatch, answer, None, GOOD_12)
    monkeypatch.setattr(platform, "machine", lambda: machine)
    found = the(list(tensorrt.look(nvidia_card(tmp_path))), "TensorRT is not installed")
    assert found == note("gpu", "TensorRT is not installed: the CPU does the work", mend)


def test_a_jetson_without_tensorrt_is_a_problem(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    Made(monkeypatch, gpus("13.2", "8.7"), None, GOOD)
    found = next(tensorrt.look(orin(tmp_path, "39 (release), REVISION: 2.0")))
    assert (found.state, found.mend) == ("problem", "sudo apt-get update && sudo apt-get install nvidia-jetpack")


def test_jetpack_5_is_not_supported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    Made(monkeypatch, gpus("11.4", "8.7"))
    found = next(tensorrt.look(orin(tmp_path, "35 (release), REVISION: 4.1")))
    assert (found.state, "JetPack 5 is not supported" in found.text) == ("note", True)


def test_runtimes_that_make_no_plans_are_not_enough(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    Made(monkeypatch, gpus("13.0", "8.9"), None, GOOD)
    monkeypatch.setattr(tensorrt, "runtimes", lambda: ["tensorrt_lean", "tensorrt_dispatch"])
    found = next(tensorrt.look(tmp_path))
    assert found.state == "problem"
    assert found.text.startswith("tensorrt_lean and tensorrt_dispatch can run plans and make none")
    assert found.mend == f"{PIP} install 'tensorrt-rtx>=1.7'"


def test_tensorrt_that_a_virtual_environment_hides_is_shown_to_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    Made(monkeypatch, gpus("12.6", "8.7"), None, GOOD_12)
    monkeypatch.setattr(sys, "prefix", "/opt/sightwire")
    monkeypatch.setattr(sys, "base_prefix", "/usr")
    python = f"python{sys.version_info[0]}.{sys.version_info[1]}"
    (tmp_path / f"usr/lib/{python}/dist-packages/tensorrt").mkdir(parents=True)
    found = next(tensorrt.look(orin(tmp_path)))
    assert (found.state, "does not see" in found.text) == ("problem", True)
    assert found.mend == "sed -i '/^include-system-site-packages/s/false/true/' /opt/sightwire/pyvenv.cfg"
    monkeypatch.setattr(sys, "version_info", (3, 9))
    assert (next(tensorrt.look(tmp_path)).mend or "").startswith(f"/usr/bin/{python} -m venv --system-site-packages ")


def test_nothing_is_said_where_there_is_neither_gpu_nor_tensorrt(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    Made(monkeypatch, room.ProbeError("crashed (SIGSEGV)"))
    assert both(tmp_path) == []


# -- CUDA's binding and compiler


def test_a_binding_that_is_missing_has_its_command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    lacks = {"error": "no package for CUDA can be used (No module named 'cuda')", "nvrtc": "12.6"}
    Made(monkeypatch, gpus("12.6", "8.7"), {"tensorrt": {"version": "10.3.0", "targets": []}}, lacks)
    found = the(list(tensorrt.opened(orin(tmp_path))), "the GPU cannot be used: no package for CUDA")
    assert found.state == "problem"
    assert found.mend == f"{PIP} install 'cuda-python>=12.6,<13' 'nvidia-cuda-nvrtc-cu12>=12.6'"


@pytest.mark.parametrize("words", ["not as much memory is free", "an error of CUDA, 999"])
def test_what_a_binding_cannot_open_is_not_mended_by_another(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, words: str
) -> None:
    Made(monkeypatch, gpus("13.0", "8.9"), RTX, {"error": words, "nvrtc": "13.5"})
    assert the(list(tensorrt.opened(tmp_path)), words).mend == "nvidia-smi; sudo dmesg | tail"


def test_a_gpu_that_nobody_wanted_to_use_is_no_problem(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A desktop's graphics card, with its driver and nothing else."""
    Made(monkeypatch, gpus("13.0", "8.9"), None, {"error": "no package for CUDA can be used", "nvrtc_error": "none"})
    assert {finding.state for finding in both(tmp_path)} == {"note"}


def test_a_driver_that_is_too_old_is_a_note(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    Made(monkeypatch, gpus("11.4", "8.6"), RTX)
    (found,) = tensorrt.opened(tmp_path)
    assert (found.state, "takes CUDA 11, and 12 is needed" in found.text) == ("note", True)
    assert "NVIDIA's package repository" in str(found.mend)
    (found,) = tensorrt.opened(tree(tmp_path / "ubuntu", **{"etc__os-release": "ID=ubuntu\n"}))
    assert "ubuntu-drivers install" in str(found.mend)
    assert list(tensorrt.opened(orin(tmp_path, "35 (release), REVISION: 4.1"))) == []


def test_without_a_compiler_the_cpu_prepares(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    about = {"binding": "pycuda 2026.1", "free_gib": 8.0, "shared": False, "nvrtc_error": "libnvrtc is not there"}
    Made(monkeypatch, gpus("13.0", "8.9"), RTX, about)
    said = list(tensorrt.opened(tmp_path))
    assert the(said, "opens by pycuda 2026.1").state == "ok"
    nvrtc = the(said, "the CPU prepares the pictures: libnvrtc is not there")
    assert nvrtc.state == "note"
    assert "'nvidia-cuda-nvrtc>=13.0'" in (nvrtc.mend or "")


def test_a_binding_and_a_compiler_of_a_later_cuda_than_the_drivers_are_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    Made(monkeypatch, gpus("12.4", "8.6"), RTX, GOOD)
    said = list(tensorrt.opened(tmp_path))
    binding = the(said, "the binding is for later drivers: this takes CUDA 12")
    compiler = the(said, "NVRTC 13.5 makes kernels for later")
    assert (binding.state, compiler.state) == ("note", "note")
    assert binding.mend == compiler.mend == f"{PIP} install 'cuda-python>=12.6,<13' 'nvidia-cuda-nvrtc-cu12>=12.6'"


def test_each_of_several_gpus_is_opened(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    Made(monkeypatch, gpus("13.0", "8.9", "8.9"), RTX, GOOD, {"error": "not as much memory is free", "nvrtc": "13.5"})
    said = list(tensorrt.opened(tmp_path))
    assert the(said, "GPU 0 opens").state == "ok"
    assert the(said, "GPU 1 cannot be used: not as much memory is free").state == "problem"
    assert the(said, "NVRTC 13.5").state == "ok"


def test_a_gpu_that_crashes_when_it_is_opened_is_a_finding(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = Made(monkeypatch, gpus("13.0", "8.9"), RTX)
    made.answers["opened"] = room.ProbeError("crashed (SIGSEGV)")
    assert the(list(tensorrt.opened(tmp_path)), "crashed (SIGSEGV)").state == "problem"


def test_real_probes_over_the_stand_in_driver(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The genuine cuda-python, NVRTC and TensorRT-RTX in children; the driver below them is the stand-in."""
    rtx_is_here()
    for name, value in environment(tmp_path, Device("Orin", (8, 7), memory_mb=7620, integrated=True)).items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(tensorrt, "ask", lambda probe: room.ask(probe, 30))
    used, opened, compiler = both(tmp_path)
    assert used.text.startswith("tensorrt_rtx ")
    assert used.text.partition(", only")[0].endswith("makes no plans for compute capability 8.7")
    assert opened.state == "ok"
    assert f"opens by cuda-python {version('cuda-bindings')}; 7.4 GiB" in opened.text
    assert opened.text.endswith("shared with the CPU")
    assert compiler.text.startswith("NVRTC ")
    assert read_report(tmp_path)["alive"]["contexts"] == 0


# -- what is written here and elsewhere is the same


def test_the_commands_install_what_the_extras_ask_for() -> None:
    extras = PROJECT["optional-dependencies"]
    assert {major: list(packages) for major, packages in tensorrt.CUDA.items()} == {
        12: extras["cuda12"],
        13: extras["cuda13"],
    }
    assert tensorrt.RTX in extras["gpu"]


def test_a_child_names_the_flavours_that_are_installed() -> None:
    """The real ones: nothing of them is imported here."""
    here = rtx_is_here()
    imported = "tensorrt_rtx" in sys.modules  # by another test
    assert room.ask("tensorrt", 30)["tensorrt_rtx"] == {"version": here, "targets": list(tensorrt.RTX_CAPABILITIES)}
    assert "tensorrt_rtx" in probes.flavours()
    assert ("tensorrt_rtx" in sys.modules) == imported
