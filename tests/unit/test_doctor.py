"""What `sightwire doctor` says of machines that are made up."""

from __future__ import annotations

import ctypes
import grp
import hashlib
import json
import os
import threading
import time
from collections.abc import Iterator
from importlib.metadata import Distribution, distributions
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from rich.console import Console

from agent.commands.doctor import _print
from agent.doctor import cameras, checks, clock, gpu, machine, packages, probes, room, sources, storage
from agent.doctor.access import denied
from agent.doctor.examine import Check, examine
from agent.doctor.findings import Finding, note, ok, problem
from agent.errors import Refused, SourceError
from agent.sources.images import Config as Images
from agent.sources.network import Config as Rtsp
from agent.sources.synthetic import Config as Synthetic
from tests.support.agents import fake_model, fake_store, settings_of
from tests.support.patience import PATIENCE_S
from tests.unit.test_v4l2 import Machine


def tree(folder: Path, **files: str) -> Path:
    """A root with files in it; `__` in a name is a slash."""
    for name, text in files.items():
        path = folder / name.replace("__", "/")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return folder


def states(findings: list[Finding]) -> list[str]:
    return [finding.state for finding in findings]


# -- the examination itself


def test_findings_come_in_the_order_of_the_checks_however_long_they_take() -> None:
    first_may_end = threading.Event()

    def slow() -> Iterator[Finding]:
        assert first_may_end.wait(PATIENCE_S)
        yield ok("a", "first")

    def quick() -> Iterator[Finding]:
        yield ok("b", "second")
        first_may_end.set()

    assert [f.text for f in examine([Check("a", slow), Check("b", quick)])] == ["first", "second"]


@pytest.mark.parametrize(
    ("load", "said"),
    [
        (0.4, "no answer within 0.1 s"),
        (7.0, "no answer within 0.1 s; the machine is busy (load 7.0 on 2 processors): ask again when it is not"),
    ],
)
def test_a_check_that_hangs_keeps_what_it_found_and_holds_nobody_up(
    monkeypatch: pytest.MonkeyPatch, load: float, said: str
) -> None:
    monkeypatch.setattr("os.getloadavg", lambda: (load, 0.0, 0.0))
    monkeypatch.setattr("os.cpu_count", lambda: 2)
    end = threading.Event()

    def hangs() -> Iterator[Finding]:
        yield ok("disk", "half of it")
        end.wait(30)

    began = time.monotonic()
    half, stuck = examine([Check("disk", hangs, 0.1, "df -h")])
    end.set()
    assert time.monotonic() - began < 5
    assert half == ok("disk", "half of it")
    assert stuck == problem("disk", said, "df -h")


def test_a_check_that_fails_is_a_finding_of_one_line() -> None:
    def fails() -> Iterator[Finding]:
        raise KeyError("two\nlines")
        yield

    (found,) = examine([Check("gpu", fails)])
    assert (found.topic, found.state) == ("gpu", "problem")
    assert found.text.startswith("check failed: KeyError: ")
    assert "\n" not in found.text
    assert found.mend


def test_credentials_in_findings_are_masked_wherever_they_come_from() -> None:
    leak = problem("sources", "rtsp://admin:hunter2@cam/x: no", "ffprobe rtsp://admin:hunter2@cam/x")
    (found,) = examine([Check("sources", lambda: [leak])])
    assert "hunter2" not in f"{found.text} {found.mend}"


# -- how it looks


def test_problems_are_repeated_with_commands_that_are_not_wrapped(capsys: pytest.CaptureFixture[str]) -> None:
    mend = "sudo " + "x" * 200
    bad = problem("broker", "no answer" * 10, mend)
    _print(Console(width=60), [ok("machine", "fine"), bad, note("machine", "old", "newer")], [bad])
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "machine ✓ fine"
    assert lines[1:3] == ["        · old", "          → newer"]
    assert f"  → {mend}" in lines
    assert all(line == line.rstrip() for line in lines)
    assert max(len(line) for line in lines[: lines.index("")]) <= 60


def test_names_of_strangers_cannot_move_the_cursor(capsys: pytest.CaptureFixture[str]) -> None:
    _print(Console(width=80), [ok("cameras", "cam\x1b[2J[red]era")], [])
    assert "cam�[2J[red]era" in capsys.readouterr().out


# -- machine


@pytest.mark.parametrize(
    ("flags", "state", "said"),
    [
        ("flags\t\t: avx2 avx512_vnni amx_int8", "ok", "AMX"),
        ("flags\t\t: avx2 avx512_vnni", "ok", "AVX-512 VNNI"),
        ("flags\t\t: avx2 avx_vnni", "ok", "AVX-VNNI"),
        ("flags\t\t: sse4_2 avx2", "note", "without VNNI"),
        ("Features\t: asimd asimddp", "ok", "dot products"),
        ("Features\t: asimd", "note", "without dot products"),
        ("flags\t\t: sse2", "note", "slow"),
        ("", "note", "slow"),
    ],
)
def test_what_a_cpu_can_do_for_int8_is_said(tmp_path: Path, flags: str, state: str, said: str) -> None:
    tree(tmp_path, proc__cpuinfo=f"processor\t: 0\nmodel name\t: Some CPU\n{flags}\n\nprocessor\t: 1\n")
    found = [f for f in machine.look(tmp_path) if said in f.text]
    assert states(found) == [state]


@pytest.mark.parametrize(
    ("place", "content"),
    [(".dockerenv", ""), ("run__.containerenv", ""), ("proc__1__environ", "PATH=/bin\0container=podman\0")],
)
def test_a_container_is_known_by_its_engines_mark(tmp_path: Path, place: str, content: str) -> None:
    tree(tmp_path, proc__1__environ="PATH=/bin\0TERM=container=\0")
    assert not machine.in_container(tmp_path)
    assert machine.in_container(tree(tmp_path, **{place: content}))


def test_the_limits_of_a_container_count(tmp_path: Path) -> None:
    tree(tmp_path, sys__fs__cgroup__cpu__cpu_cfs_quota_us="")
    assert machine.cpu_limit(tmp_path) is None
    (tmp_path / "sys/fs/cgroup/cpu.max").write_text("50000 100000\n")
    (tmp_path / "sys/fs/cgroup/memory.max").write_text("104857600\n")
    (tmp_path / ".dockerenv").touch()
    said = list(machine.look(tmp_path))
    assert any("0.5 of them allowed here (cgroup)" in f.text for f in said)
    assert any("in a container" in f.text for f in said)
    (memory,) = (f for f in said if "of memory" in f.text)
    assert memory.state == "problem"
    assert "cgroup limit" in memory.text


def test_no_limit_of_a_cgroup_is_none(tmp_path: Path) -> None:
    (tmp_path / "sys/fs/cgroup/cpu").mkdir(parents=True)
    (tmp_path / "sys/fs/cgroup/cpu.max").write_text("max 100000\n")
    (tmp_path / "sys/fs/cgroup/memory.max").write_text("max\n")
    assert machine.cpu_limit(tmp_path) is None
    assert machine.memory_limit(tmp_path) is None


# -- clock


@pytest.mark.parametrize(
    ("answer", "systemd", "timesyncd", "state", "mend"),
    [
        ((True, 12.3), True, True, "ok", None),
        ((False, 0.0), True, True, "problem", "sudo timedatectl set-ntp true"),
        ((False, 0.0), True, False, "problem", "sudo apt-get install chrony"),
        ((False, 0.0), False, False, "note", None),
        (None, True, True, "note", None),
    ],
)
def test_a_clock_that_nobody_keeps_is_a_problem_where_it_can_be_mended(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    answer: Any,
    systemd: bool,
    timesyncd: bool,
    state: str,
    mend: str | None,
) -> None:
    monkeypatch.setattr(clock, "synchronised", lambda: answer)
    if systemd:
        (tmp_path / "run/systemd/system").mkdir(parents=True)
    if timesyncd:
        tree(tmp_path, usr__lib__systemd__system__unit="")
        (tmp_path / "usr/lib/systemd/system/systemd-timesyncd.service").touch()
    (found,) = clock.look(tmp_path)
    assert (found.state, found.mend) == (state, mend)


def test_a_clock_of_1970_is_a_problem(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(time, "time", lambda: 86_400.0)
    (found,) = clock.look(tmp_path)
    assert found.state == "problem"
    assert "1970-01-02" in found.text


def test_the_kernel_says_whether_the_clock_is_kept() -> None:
    answer = clock.synchronised()
    assert answer is None or answer[1] >= 0


# -- packages


def installed(folder: Path, name: str, *files: str, version: str = "1.0", metadata: str = "") -> Distribution:
    """A distribution as pip leaves it."""
    info = folder / f"{name.replace('-', '_')}-{version}.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n{metadata}")
    (info / "RECORD").write_text("".join(f"{file},,\n" for file in files))
    (found,) = (d for d in distributions(path=[str(folder)]) if d.metadata["Name"] == name)
    return found


def test_another_distribution_with_a_package_of_our_name_is_a_problem(tmp_path: Path) -> None:
    ours = installed(tmp_path, "sightwire", "agent/__init__.py", "engines/__init__.py", "calibration/__init__.py")
    other = installed(tmp_path, "smart-agent", "agent/__init__.py", "agent/cli.py", "smart/__init__.py")
    harmless = installed(tmp_path, "reagent", "reagent/agent/__init__.py", "agents/__init__.py")
    (found,) = packages.collisions([ours, other, harmless])
    assert found.state == "problem"
    assert found.text == "smart-agent brings a package of the same name as ours: agent"
    assert "uninstall -y smart-agent" in (found.mend or "")
    assert list(packages.collisions([ours, harmless])) == []


def test_old_distributions_that_list_their_packages_elsewhere_are_seen_too(tmp_path: Path) -> None:
    other = installed(tmp_path, "old-engines")
    assert not packages.brings(other, "engines")
    next(tmp_path.glob("old*")).joinpath("top_level.txt").write_text("engines\nothers\n")
    assert packages.brings(other, "engines")


def test_two_opencvs_in_one_place_are_worth_a_note(tmp_path: Path) -> None:
    both = [installed(tmp_path, name, "cv2/__init__.py") for name in ("opencv-python", "opencv-python-headless")]
    (found,) = packages.collisions(both)
    assert found.state == "note"
    assert "uninstall -y opencv-python &&" in (found.mend or "")
    assert "--no-deps opencv-python-headless" in (found.mend or "")


def test_a_folder_that_hides_one_of_our_packages_is_a_problem(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tree(tmp_path, engines____init__="").joinpath("engines/__init__.py").touch()
    spec = SimpleNamespace(submodule_search_locations=[str(tmp_path / "engines")])
    real = packages.importlib.util.find_spec
    monkeypatch.setattr(packages.importlib.util, "find_spec", lambda name: spec if name == "engines" else real(name))
    (found,) = packages.shadows(Path("/"))
    assert found.state == "problem"
    assert f"engines is taken from {tmp_path / 'engines'}" in found.text


def test_a_folder_of_our_name_where_one_stands_is_worth_a_note(tmp_path: Path) -> None:
    (tmp_path / "agent").mkdir()
    (tmp_path / "agent/__init__.py").touch()
    (found,) = packages.shadows(tmp_path)
    assert found.state == "note"
    assert list(packages.shadows(Path("/"))) == []


def test_floors_are_read_from_the_metadata() -> None:
    requires = [
        "av>=16.0",
        "PyYAML>=6.0.2",
        "amqtt>=0.12; extra == 'demo'",
        'ruff>=0.6; extra == "dev"',
        "av>=1; extra == 'dev'",
    ]
    requires += ["cuda-python>=13.0; extra == 'cuda13'", "cuda-python<13,>=12.6; extra == 'cuda12'"]
    cuda = ("cuda-python", "12.6", "cuda12")
    expected = [
        ("av", "16.0", None),
        ("PyYAML", "6.0.2", None),
        ("amqtt", "0.12", "demo"),
        cuda,
        ("ruff", "0.6", "dev"),
    ]
    assert list(packages.floors(requires)) == expected


def test_what_is_missing_or_too_old_is_a_problem(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    wants = "Requires-Dist: av>=99.0\nRequires-Dist: no-such-thing>=2.1\nRequires-Dist: nor-this>=1; extra == 'demo'\n"
    wants += "Requires-Dist: no-gpu>=1; extra == 'gpu'\n"
    monkeypatch.setattr(packages, "distribution", lambda _: installed(tmp_path, "sightwire", metadata=wants))
    found = list(packages.versions())
    assert any(f.text == "extras that are not installed: demo (nor-this)" for f in found)
    mends = [f.mend for f in found if f.state == "problem"]
    assert mends == [f"{packages.PIP} install --upgrade 'av>=99.0'", f"{packages.PIP} install 'no-such-thing>=2.1'"]


# -- gpu


class FakeCuda:
    """libcuda.so.1 as far as we call it."""

    def __init__(self, code: int = 0) -> None:
        self._code = code

    def cuInit(self, _flags: int) -> int:  # noqa: N802
        return self._code

    def cuGetErrorName(self, _code: int, text: Any) -> int:  # noqa: N802
        text._obj.value = b"CUDA_ERROR_NO_DEVICE"
        return 0

    def cuGetErrorString(self, _code: int, text: Any) -> int:  # noqa: N802
        text._obj.value = b"no CUDA-capable device is detected"
        return 0

    def cuDriverGetVersion(self, version: Any) -> int:  # noqa: N802
        version._obj.value = 12_060
        return 0

    def cuDeviceGetCount(self, count: Any) -> int:  # noqa: N802
        count._obj.value = 1
        return 0

    def cuDeviceGet(self, _device: Any, _index: int) -> int:  # noqa: N802
        return 0

    def cuDeviceGetName(self, name: Any, _size: int, _device: Any) -> int:  # noqa: N802
        name.value = b"Orin"
        return 0

    def cuDeviceGetAttribute(self, value: Any, attribute: int, _device: Any) -> int:  # noqa: N802
        value._obj.value = {18: 1, 75: 8, 76: 7}[attribute]
        return 0

    def cuDeviceTotalMem_v2(self, size: Any, _device: Any) -> int:  # noqa: N802
        size._obj.value = 8 << 30
        return 0


def test_the_driver_is_asked_for_its_devices(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ctypes, "CDLL", lambda _: FakeCuda())
    assert probes.cuda() == {"cuda": "12.6", "devices": [{"name": "Orin", "compute": "8.7", "memory_gib": 8.0}]}
    monkeypatch.setattr(ctypes, "CDLL", lambda _: FakeCuda(100))
    assert probes.cuda() == {"code": 100, "error": "no CUDA-capable device is detected"}


def answers(monkeypatch: pytest.MonkeyPatch, answer: Any) -> None:
    def ask(_probe: str) -> Any:
        if isinstance(answer, Exception):
            raise answer
        return answer

    monkeypatch.setattr(gpu, "ask", ask)


def nvidia_card(root: Path) -> Path:
    device = root / "sys/bus/pci/devices/0000:01:00.0"
    device.mkdir(parents=True)
    (device / "class").write_text("0x030000\n")
    (device / "vendor").write_text("0x10de\n")
    return root


def test_a_machine_without_a_gpu_has_no_problem(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    answers(monkeypatch, {"absent": "libcuda.so.1: cannot open"})
    assert list(gpu.nvidia(tmp_path)) == [note("gpu", "no NVIDIA GPU")]


@pytest.mark.parametrize(
    ("answer", "files", "mend"),
    [
        ({"code": 100, "error": "no device"}, {"run__.containerenv": ""}, "docker run --gpus all ..."),
        ({"code": 803, "error": "mismatch"}, {}, "sudo reboot"),
        ({"code": 999, "error": "unknown"}, {}, "sudo modprobe nvidia_uvm; if that does not help: nvidia-smi"),
    ],
)
def test_a_gpu_whose_driver_does_not_answer_is_a_problem(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, answer: dict[str, Any], files: dict[str, str], mend: str
) -> None:
    answers(monkeypatch, answer)
    (found,) = gpu.nvidia(tree(nvidia_card(tmp_path), **files))
    assert (found.state, found.mend) == ("problem", mend)


@pytest.mark.parametrize(
    ("release", "mend"),
    [
        ("ID=debian\n", "sudo apt-get install nvidia-driver && sudo reboot"),
        ('ID="ubuntu"\n', "sudo ubuntu-drivers install && sudo reboot"),
    ],
)
def test_a_graphics_card_without_nvidias_driver_is_worth_a_note(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, release: str, mend: str
) -> None:
    answers(monkeypatch, {"absent": "libcuda.so.1: cannot open"})
    (found,) = gpu.nvidia(tree(nvidia_card(tmp_path), **{"etc__os-release": release}))
    assert (found.state, found.mend) == ("note", mend)


def test_a_driver_that_crashes_is_a_finding(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    answers(monkeypatch, room.ProbeError("crashed (SIGSEGV)"))
    (found,) = gpu.nvidia(tmp_path)
    assert found.state == "problem"
    assert "crashed (SIGSEGV)" in found.text


def test_a_jetson_says_which_jetpack_it_has(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    answers(monkeypatch, {"cuda": "12.6", "devices": [{"name": "Orin", "compute": "8.7", "memory_gib": 7.4}]})
    release = "# R36 (release), REVISION: 4.3, GCID: 38968081, BOARD: generic, EABI: aarch64\n"
    tree(tmp_path, etc__nv_tegra_release=release)
    model = tmp_path / "proc/device-tree/model"
    model.parent.mkdir(parents=True)
    model.write_bytes(b"NVIDIA Jetson Orin Nano Developer Kit\0")
    board, device = gpu.nvidia(tmp_path)
    assert board.text == "NVIDIA Jetson Orin Nano Developer Kit, JetPack 6.2 (L4T 36.4.3)"
    assert device.text == "Orin, compute capability 8.7, 7.4 GiB, the driver takes CUDA 12.6"


def test_an_intel_gpu_that_openvino_does_not_see_is_a_note(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    answers(monkeypatch, {"CPU": "Some CPU"})
    nvidia_card(tmp_path).joinpath("sys/bus/pci/devices/0000:01:00.0/vendor").write_text("0x8086\n")
    tree(tmp_path, dev__dri__renderD128="")
    _, found = gpu.openvino(tmp_path)
    assert (found.state, found.mend) == ("note", "sudo apt-get install intel-opencl-icd")
    answers(monkeypatch, {"CPU": "Some CPU", "GPU.0": "Iris"})
    assert states(list(gpu.openvino(tmp_path))) == ["ok"]


# -- the room for what may crash


def test_a_child_answers_for_libraries_that_print(monkeypatch: pytest.MonkeyPatch) -> None:
    assert room.ask("imports", 30) == {}


@pytest.mark.parametrize(
    ("code", "expected"),
    [
        ("import os; os.abort()", "crashed (SIGABRT)"),
        ("raise OSError('no such library')", "OSError: no such library"),
        ("import time; time.sleep(60)", "no answer within 0.3 s"),
    ],
)
def test_a_child_that_comes_to_grief_is_an_error_of_one_line(tmp_path: Path, code: str, expected: str) -> None:
    """With a package `agent` before ours on the path that does it when it is imported."""
    (tmp_path / "agent").mkdir()
    (tmp_path / "agent/__init__.py").write_text(code)
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(tmp_path)
        patch.setattr("os.getloadavg", lambda: (0.0, 0.0, 0.0))
        with pytest.raises(room.ProbeError, match=f"^{expected.replace('(', '.').replace(')', '.')}$"):
            room.ask("openvino", 0.3 if "sleep" in code else 30)


# -- cameras


def test_plugged_in_cameras_are_named_and_those_of_others_are_a_problem(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    there = Machine(tmp_path)
    there.plug(0, "HD Pro Webcam C920", serial="046d_C920_ABC")
    monkeypatch.setattr(cameras, "denied", lambda device: f"sudo usermod -aG video $USER for {device.name}")
    named, barred = cameras.plugged_in(there.root, there.dev)
    assert "HD Pro Webcam C920" in named.text
    assert "046d_C920_ABC" in named.text
    assert (barred.state, barred.mend) == ("problem", "sudo usermod -aG video $USER for video0")


def test_no_camera_is_no_problem(tmp_path: Path) -> None:
    assert states(list(cameras.plugged_in(tmp_path, tmp_path))) == ["note"]


@pytest.mark.parametrize(
    ("mode", "group", "members", "expected"),
    [
        (0o660, "video", [], "sudo usermod -aG video $USER, then log out and in again"),
        (0o660, "video", ["me"], "log out and in again: the group is yours, but this session is older"),
        (0o600, "video", [], "sudo chgrp video {device} && sudo chmod g+rw {device}"),
        (0o660, "root", [], "sudo chgrp video {device} && sudo chmod g+rw {device}"),
        (0o660, None, [], "--group-add {gid} when the container is started"),
    ],
)
def test_a_device_file_that_may_not_be_opened_has_its_command(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    mode: int,
    group: str | None,
    members: list[str],
    expected: str,
) -> None:
    device = tmp_path / "video0"
    device.touch()
    device.chmod(mode)

    def getgrgid(_gid: int) -> Any:
        if group is None:
            raise KeyError
        return SimpleNamespace(gr_name=group, gr_mem=members)

    assert denied(device) is None
    monkeypatch.setattr(os, "access", lambda *_: False)
    monkeypatch.setattr(grp, "getgrgid", getgrgid)
    monkeypatch.setenv("LOGNAME", "me")
    assert denied(device) == expected.format(device=device, gid=device.stat().st_gid)


def test_gstreamers_elements_for_hardware_are_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program = tmp_path / "gst-inspect-1.0"
    listing = "va:  vah264dec: VA-API H.264 Decoder in AMD\ncoreelements:  queue: Queue\n"
    program.write_text(
        f"#!/bin/sh\n[ \"$1\" ] && echo 'gst-inspect-1.0 version 1.22.0\nGStreamer' || echo '{listing}'\n"
    )
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    (found,) = cameras.gstreamer()
    assert "GStreamer 1.22.0, for hardware: vah264dec (VA-API)" in found.text


def test_gstreamer_that_is_not_there_is_a_note(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    assert states(list(cameras.gstreamer())) == ["note"]


# -- sources


def test_a_camera_that_gives_pictures_is_described() -> None:
    (found,) = sources.look(["dock"], Synthetic(width=320, height=240, rate=50))
    assert found.state == "ok"
    for words in ("dock: synthetic 320x240", "pictures a second", "clock receive", "first picture after 0."):
        assert words in found.text


def test_a_recording_is_opened_and_not_read_to_its_end() -> None:
    (found,) = sources.look(["clip"], Synthetic(pace="lossless"))
    assert found.state == "ok"
    assert "clock file" in found.text


@pytest.mark.parametrize("fault", [{"fail_open": True}, {"fail_after": 1, "rate": 1000}])
def test_a_camera_that_fails_is_a_problem(fault: dict[str, Any]) -> None:
    (found,) = sources.look(["dock"], Synthetic(**fault))
    assert found.state == "problem"
    assert "was asked" in found.text


def test_a_watched_folder_without_anything_new_is_no_problem(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sources, "_OPEN_S", 0.1)
    monkeypatch.setattr(sources, "_WATCH_S", 0.1)
    (found,) = sources.look(["inbox"], Images(path=tmp_path, watch=True))
    assert (found.state, found.text) == ("ok", f"inbox: {tmp_path}: opened; there is nothing new in it")


def test_cameras_that_share_a_source_are_opened_once(tmp_path: Path) -> None:
    """A second program, or a second of our own connections, is what a webcam refuses."""
    source = {"type": "synthetic", "fail_open": True}
    entries = {name: {"source": source, "models": ["c"]} for name in ("left", "right")}
    path = tmp_path / "site.yaml"
    path.write_text(json.dumps({"agent": {"name": "a"}, "models": {"c": fake_model("classes")}, "cameras": entries}))
    (check,) = [check for check in checks.of_site(path) if check.topic == sources.TOPIC]
    (found,) = check.look()
    assert found.text.startswith("left, right: ")


def test_mends_of_cameras_carry_no_credentials() -> None:
    camera = Rtsp(url="rtsp://admin:hunter2@10.0.0.7:554/live?channel=1")
    refused, silent = (sources.mend("dock", camera, kind("no")) for kind in (Refused, SourceError))
    assert "cameras.dock.source: {..., username: ..., password_file: ...}" in refused
    assert silent == "ping -c 3 10.0.0.7; ffprobe -hide_banner 'rtsp://10.0.0.7:554/live?channel=1'"


# -- storage and models


def file_system(free: int, inodes: int = 10**6) -> Any:
    return SimpleNamespace(f_bavail=free, f_frsize=1, f_files=10**7, f_favail=inodes)


def test_a_folder_that_is_not_there_yet_is_no_problem(tmp_path: Path) -> None:
    (found,) = storage.folder(tmp_path / "a/b/models")
    assert found.state == "ok"
    assert "not there yet" in found.text


def test_a_full_disk_is_a_problem(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "statvfs", lambda _: file_system(free=100 << 20))
    (found,) = storage.folder(tmp_path)
    assert (found.state, "0.1 GiB free: too little" in found.text) == ("problem", True)


def test_a_disk_without_room_for_more_files_is_a_problem(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "statvfs", lambda _: file_system(free=10 << 30, inodes=3))
    (found,) = storage.folder(tmp_path)
    assert (found.state, "inodes" in found.text) == ("problem", True)


def test_a_folder_of_somebody_else_is_a_problem(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "access", lambda *_: False)
    found = next(storage.folder(tmp_path))
    assert (found.state, "may not be written" in found.text) == ("problem", True)


def test_every_file_of_every_model_is_checked(tmp_path: Path) -> None:
    store = fake_store(tmp_path)
    (found,) = storage.installed(store)
    assert found == ok("models", "whole: boxes (fp32), classes (fp32)")
    (tmp_path / "boxes/model.onnx").write_bytes(b"altered")
    altered, rest = storage.installed(store)
    assert altered.state == "problem"
    assert hashlib.sha256(b"altered").hexdigest()[:12] in altered.text
    assert rest.text == "whole: classes (fp32)"


def test_models_that_a_configuration_names_are_looked_for(tmp_path: Path) -> None:
    store = fake_store(tmp_path)
    camera = {"source": {"type": "synthetic"}, "models": ["c"]}
    good = settings_of(models={"c": fake_model("classes")}, cameras={"dock": camera})
    assert states(list(storage.configured(good, store))) == ["ok"]
    more = {"p": {"model": "person-ssdlite"}, "q": {"model": "clases"}}
    bad = settings_of(models={"c": fake_model("classes"), **more}, cameras={"dock": camera})
    pull, name = storage.configured(bad, store)
    assert pull.mend == "sightwire models pull person-ssdlite"
    assert pull.text == f"models.p: model 'person-ssdlite' is not in {tmp_path}"
    assert "did you mean 'classes'?" in name.text


def test_a_model_that_does_not_fit_its_use_is_a_problem(tmp_path: Path) -> None:
    uses = ["c", {"use": "b", "on": "c"}]
    models = {"c": fake_model("classes"), "b": fake_model("boxes")}
    wrong = settings_of(models=models, cameras={"dock": {"source": {"type": "synthetic"}, "models": uses}})
    (found,) = storage.configured(wrong, fake_store(tmp_path))
    assert "finds no boxes" in found.text
    assert (found.text.split(":")[2], found.mend) == (" cameras.dock.models[1].on", "${EDITOR:-vi} +7 test.yaml")


# -- a configuration


def test_mistakes_of_a_configuration_are_problems_at_their_lines(tmp_path: Path) -> None:
    path = tmp_path / "site.yaml"
    path.write_text("agent: {name: gate}\nmodles: {}\n")
    found = [f for f in examine(checks.of_site(path)) if f.topic == "configuration"]
    assert {f.state for f in found} == {"problem"}
    assert any("did you mean 'models'?" in f.text and f.mend == f"${{EDITOR:-vi}} +2 {path}" for f in found)


def test_a_part_that_does_not_load_is_a_finding(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(_config: Path) -> Any:
        raise ImportError("entry point weather:Config does not load")

    monkeypatch.setattr("agent.config.load", broken)
    (found,) = examine(checks.of_site(tmp_path / "site.yaml"))
    assert "weather:Config does not load" in found.text


def test_results_that_cannot_be_written_are_a_problem(tmp_path: Path) -> None:
    camera = {"source": {"type": "synthetic"}, "models": ["c"]}

    def site(path: Path) -> Any:
        sinks = [{"type": "jsonl", "path": str(path)}]
        return settings_of(models={"c": fake_model("classes")}, cameras={"dock": camera}, sinks=sinks)

    assert states(list(storage.sinks(site(tmp_path / "x.jsonl")))) == ["ok"]
    (found,) = storage.sinks(site(tmp_path / "nowhere/x.jsonl"))
    assert found.state == "problem"


def test_pictures_that_cannot_be_kept_are_a_problem(tmp_path: Path) -> None:
    camera = {"source": {"type": "synthetic"}, "models": ["c"]}

    def look(**calibration: Any) -> list[Any]:
        site = settings_of(models={"c": fake_model("classes")}, cameras={"dock": camera}, calibration=calibration)
        return list(storage.collected(site))

    (tmp_path / "file").touch()
    assert look() == []
    assert states(look(collect={"folder": str(tmp_path / "new")})) == ["ok"]
    assert states(look(collect={"folder": str(tmp_path / "file")})) == ["problem"]


def test_findings_are_json(tmp_path: Path) -> None:
    from agent.commands.doctor import _as_json

    said = json.loads(_as_json([problem("a", "b", "c")], 1))
    assert said["schema"] == "sightwire.doctor/1"
    assert said["findings"] == [{"topic": "a", "state": "problem", "text": "b", "mend": "c"}]
