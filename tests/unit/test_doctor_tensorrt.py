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
from tests.unit.test_doctor import installed, nvidia_card, tree

GOOD = {"cuda-python": {"version": "13.4.4"}, "nvrtc": {"version": "13.5"}}
GOOD_12 = {"cuda-python": {"version": "12.9.10"}, "nvrtc": {"version": "12.9"}}
RTX = {"tensorrt_rtx": {"version": "1.7.1.116", "targets": list(tensorrt.RTX_CAPABILITIES)}}


def gpus(cuda: str, *capabilities: str) -> dict[str, Any]:
    """What the driver answers."""
    devices = [{"name": "A GPU", "compute": capability, "memory_gib": 8.0} for capability in capabilities]
    return {"cuda": cuda, "devices": devices}


def orin(root: Path, release: str = "36 (release), REVISION: 4.3") -> Path:
    return tree(root, etc__nv_tegra_release=f"# R{release}, GCID: 1\n", proc__device_tree__model="")


class Made:
    """A machine: what its probes answer, and what pip has installed."""

    def __init__(self, patch: pytest.MonkeyPatch, cuda: Any, found: Any = None, bindings: Any = None) -> None:
        self._answers = {"cuda": cuda, "tensorrt": found or {}, "bindings": bindings or {}}
        patch.setattr(tensorrt, "ask", self._ask)
        patch.setattr(tensorrt, "flavours", lambda: ["tensorrt"] if isinstance(found, Exception) else list(found or {}))
        patch.setattr(tensorrt, "runtimes", list)
        patch.setattr(tensorrt, "distributions", list)
        patch.setattr(platform, "machine", lambda: "x86_64")

    def _ask(self, probe: str) -> Any:
        answer = self._answers[probe]
        if isinstance(answer, Exception):
            raise answer
        return answer


ABSENT = {"absent": "libcuda.so.1: cannot open"}


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
    assert list(tensorrt.look(orin(tmp_path))) == [
        ok("gpu", "tensorrt 10.3.0 is what the GPU engine uses"),
        ok("gpu", "cuda-python 12.9.10 reaches the driver"),
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
    assert list(tensorrt.look(tmp_path)) == []


# -- CUDA's binding and compiler


def test_a_binding_that_is_missing_has_its_command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    Made(monkeypatch, gpus("12.6", "8.7"), {"tensorrt": {"version": "10.3.0", "targets": []}})
    found = the(list(tensorrt.look(orin(tmp_path))), "neither cuda-python nor pycuda")
    assert found.state == "problem"
    assert found.mend == f"{PIP} install 'cuda-python>=12.8,<13' 'nvidia-cuda-nvrtc-cu12>=12.6'"


def test_pycuda_will_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    Made(monkeypatch, gpus("13.0", "8.9"), RTX, {"pycuda": {"version": "2026.1"}})
    said = list(tensorrt.look(tmp_path))
    assert the(said, "pycuda").state == "ok"
    nvrtc = the(said, "the CPU prepares the pictures: ")
    assert nvrtc.state == "note"
    assert "'nvidia-cuda-nvrtc>=13.0'" in (nvrtc.mend or "")


def test_a_binding_and_a_compiler_of_a_later_cuda_than_the_drivers_are_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    Made(monkeypatch, gpus("12.4", "8.6"), RTX, GOOD)
    said = list(tensorrt.look(tmp_path))
    binding, compiler = (
        the(said, "cuda-python 13.4.4 is for later drivers"),
        the(said, "NVRTC 13.5 makes kernels for later"),
    )
    assert (binding.state, compiler.state) == ("problem", "note")
    assert binding.mend == compiler.mend == f"{PIP} install 'cuda-python>=12.8,<13' 'nvidia-cuda-nvrtc-cu12>=12.6'"


def test_a_binding_that_does_not_load_is_a_note_with_its_command(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    Made(
        monkeypatch,
        gpus("13.0", "8.9"),
        RTX,
        {"cuda-python": {"error": "undefined symbol"}, "pycuda": {"version": "1"}},
    )
    found = the(list(tensorrt.look(tmp_path)), "undefined symbol")
    assert (found.state, bool(found.mend)) == ("note", True)


def test_a_binding_that_crashes_is_a_finding(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = Made(monkeypatch, gpus("13.0", "8.9"), RTX)
    made._answers["bindings"] = room.ProbeError("crashed (SIGSEGV)")
    assert "crashed (SIGSEGV)" in the(list(tensorrt.look(tmp_path)), "cuda-python is installed").text


# -- what is written here and elsewhere is the same


def test_the_commands_install_what_the_extras_ask_for() -> None:
    extras = PROJECT["optional-dependencies"]
    assert {major: list(packages) for major, packages in tensorrt.CUDA.items()} == {
        12: extras["cuda12"],
        13: extras["cuda13"],
    }
    assert tensorrt.RTX in extras["gpu"]


def test_a_child_names_the_flavours_and_bindings_that_are_installed() -> None:
    """The real ones: nothing of them is imported here."""
    try:
        here = version("tensorrt_rtx")
    except PackageNotFoundError:
        missing("tensorrt_rtx (pip install '.[gpu]')")
    assert room.ask("tensorrt", 30)["tensorrt_rtx"] == {"version": here, "targets": list(tensorrt.RTX_CAPABILITIES)}
    said = room.ask("bindings", 30)
    assert said["cuda-python"] == {"version": version("cuda-bindings")}
    assert said["nvrtc"] == {"version": ".".join(version("nvidia-cuda-nvrtc").split(".")[:2])}
    assert "tensorrt_rtx" in probes.flavours()
    assert "tensorrt_rtx" not in sys.modules
