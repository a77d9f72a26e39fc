"""TensorRT: which flavour is used, whether it fits GPU and driver, what it needs beside it, and how to install it."""

from __future__ import annotations

import platform
import re
import shlex
import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from importlib.metadata import Distribution, distributions
from pathlib import Path
from typing import Any

from agent.doctor import jetson
from agent.doctor.devices import NVIDIA, display_vendors
from agent.doctor.files import read
from agent.doctor.findings import Finding, note, ok, problem
from agent.doctor.machine import in_container, os_release
from agent.doctor.packages import PIP
from agent.doctor.probes import flavours, runtimes
from agent.doctor.room import ProbeError, ask

TOPIC = "gpu"
#: CUDA's binding and compiler, by the major version of CUDA that the driver takes: the extras cuda12 and cuda13.
CUDA = {
    12: ("cuda-python>=12.6,<13", "nvidia-cuda-nvrtc-cu12>=12.6"),
    13: ("cuda-python>=13.0", "nvidia-cuda-nvrtc>=13.0"),
}
RTX = "tensorrt-rtx>=1.7"
RTX_CAPABILITIES = ("7.5", "8.0", "8.6", "8.9", "12.0", "12.1")
"""What TensorRT-RTX 1.7 makes plans for; where it is installed, it is asked itself."""
_JETPACK = "sudo apt-get update && sudo apt-get install nvidia-jetpack"


@dataclass(frozen=True)
class Site:
    """What decides which TensorRT a machine needs."""

    capabilities: tuple[str, ...]
    """Of the GPUs that answer, `8.7`."""
    cuda: int | None
    """Major version that the driver takes; None: no driver answers."""
    board: jetson.Jetson | None
    there: bool
    """There is an NVIDIA GPU, whether it answers or not."""
    container: bool
    hidden: Path | None
    """TensorRT in the system's Python, which this one does not see."""

    @property
    def rtx_fits(self) -> bool:
        """TensorRT-RTX takes every GPU here, and the index has it for this driver."""
        known = self.capabilities and set(self.capabilities) <= set(RTX_CAPABILITIES)
        return bool(known) and (self.newest >= 13 or platform.machine() == "x86_64")

    @property
    def newest(self) -> int:
        """The CUDA to install for: packages exist for some majors only."""
        return max((major for major in CUDA if self.cuda is not None and major <= self.cuda), default=min(CUDA))

    def install(self) -> str:
        """The command that installs a TensorRT that fits, or shows it to this Python."""
        if self.hidden is not None:
            return _see_system(self.hidden.parents[1].name)
        if self.board is not None:
            return "docker run --runtime nvidia ..." if self.container else _JETPACK
        if self.rtx_fits:
            rtx = RTX if self.newest >= 13 else RTX.replace("-rtx", f"-rtx-cu{self.newest}")
            return f"{PIP} install '{rtx}'"
        return f"{PIP} install tensorrt-cu{self.newest}"

    def install_binding(self) -> str:
        """The command that installs CUDA's binding and compiler."""
        return f"{PIP} install {' '.join(repr(package) for package in CUDA[self.newest])}"


def look(root: Path = Path("/")) -> Iterator[Finding]:
    """TensorRT in the flavours that are installed; nothing is said where neither it nor a GPU is. `root`: of /sys."""
    site = _site(root)
    installed = flavours()
    try:
        found = ask("tensorrt") if installed else {}
    except ProbeError as error:  # at worst it took the child with it
        found = {name: {"error": f"when it is imported: {error}"} for name in installed}
    yield from _flavours(found, site)
    if not found and site.there:
        yield from _absent(site)
    if site.capabilities:
        yield from _too_new(distributions(), found, site, root)


def _site(root: Path) -> Site:
    try:
        answer = ask("cuda")
    except ProbeError:  # `gpu` says so
        answer = {}
    board = jetson.find(root)
    capabilities = tuple(device["compute"] for device in answer.get("devices", ()))
    there = bool(capabilities) or board is not None or NVIDIA in display_vendors(root)
    cuda = int(str(answer["cuda"]).partition(".")[0]) if capabilities else None
    seen = "tensorrt" in flavours()
    hidden = [] if seen else sorted((root / "usr/lib").glob("python3*/dist-packages/tensorrt"))
    return Site(capabilities, cuda, board, there, in_container(root), hidden[-1] if hidden else None)


def _flavours(found: dict[str, Any], site: Site) -> Iterator[Finding]:
    """The first that loads is used, as `engines.trt.flavours` does."""
    used = next((name for name, about in found.items() if "version" in about), None)
    for name, about in found.items():
        if "version" not in about:
            text = f"{name} is installed and does not load: {about['error']}"
            if site.there and used is None:
                yield problem(TOPIC, text, site.install())
            else:
                yield note(TOPIC, text, site.install() if site.there else f"{PIP} uninstall -y {name}")
        elif name != used:
            yield ok(TOPIC, f"{name} {about['version']}, used where a model says flavour: {name}")
        elif not site.there:
            yield ok(TOPIC, f"{name} {about['version']}; there is no GPU for it")
        elif strange := [c for c in site.capabilities if about.get("targets") and c not in about["targets"]]:
            text = (
                f"{name} {about['version']} makes no plans for compute capability {', '.join(strange)}, "
                f"only for {', '.join(about['targets'])}"
            )
            yield problem(TOPIC, text, site.install())
        else:
            yield ok(TOPIC, f"{name} {about['version']} is what the GPU engine uses")


def _absent(site: Site) -> Iterator[Finding]:
    board = site.board
    if board is not None and board.major == 5:
        text = "JetPack 5 is not supported (Python 3.8, TensorRT 8.5): the CPU does the work"
        yield note(TOPIC, text, "NVIDIA's SDK Manager installs JetPack 6 on an Orin; a Xavier stays with the CPU")
        return
    mend = site.install()
    if site.hidden is not None:
        text = f"TensorRT is in the system's Python ({site.hidden}), which this one does not see"
    elif runtimes():
        text = f"{' and '.join(runtimes())} can run plans and make none; TensorRT itself is not installed"
    else:
        text = "TensorRT is not installed: the CPU does the work"
        if board is None and not site.capabilities:
            mend = "the GPU's driver first, then: sightwire doctor"
    yield problem(TOPIC, text, mend) if board is not None or runtimes() else note(TOPIC, text, mend)


def _see_system(python: str) -> str:
    """How this Python comes to see packages of the system's, `python3` or `python3.10`."""
    same = python in ("python3", f"python{sys.version_info[0]}.{sys.version_info[1]}")
    if same and sys.prefix != sys.base_prefix and sys.base_prefix == "/usr":
        return f"sed -i '/^include-system-site-packages/s/false/true/' {shlex.quote(f'{sys.prefix}/pyvenv.cfg')}"
    return f"/usr/bin/{python} -m venv --system-site-packages FOLDER, and sightwire installed in it"


def _too_new(installed: Iterable[Distribution], found: dict[str, Any], site: Site, root: Path) -> Iterator[Finding]:
    """TensorRT for a later CUDA than the driver takes, and pip's on a Jetson whose GPU only JetPack's knows."""
    packages = cuda_of_packages(installed)
    if "tensorrt" in found and "tensorrt" not in packages and (major := cuda_of_system(root)):
        packages["tensorrt"] = ("the system's libnvinfer", major)
    for package, major in packages.values():
        if site.board is not None and site.board.major == 6 and package.startswith("tensorrt"):
            text = f"{package} is for servers: on JetPack 6 only JetPack's own TensorRT runs"
            yield problem(TOPIC, text, f"{_uninstall(package)} && {_JETPACK}")
        elif site.cuda is not None and major > site.cuda:
            text = f"{package} is for CUDA {major}, and the driver takes CUDA {site.cuda}"
            mend = (
                f"{_uninstall(package)} && {site.install()}" if package.startswith("tensorrt") else _newer_driver(root)
            )
            yield problem(TOPIC, text, mend)


def _newer_driver(root: Path) -> str:
    if os_release(root).get("ID") == "ubuntu":
        return "a driver from 580 on: sudo ubuntu-drivers install && sudo reboot"
    return "a driver from 580 on; where this system's own is older, that of NVIDIA's package repository"


def _uninstall(package: str) -> str:
    return f"{PIP} uninstall -y {package} {package}_bindings {package}_libs"


def cuda_of_packages(installed: Iterable[Distribution]) -> dict[str, tuple[str, int]]:
    """Flavour -> (distribution, major version of the CUDA it is for), of what pip installed."""
    found = {}
    for distribution in installed:
        name = str(distribution.metadata["Name"] or "")
        if match := re.fullmatch(r"(tensorrt(?:_rtx)?)_cu(\d+)", name.lower().replace("-", "_")):
            found[match[1]] = (name, int(match[2]))
    return found


def cuda_of_system(root: Path) -> int | None:
    """Major version of the CUDA that the system's TensorRT is for: `10.3.0.30-1+cuda12.5`."""
    status = read(root / "var/lib/dpkg/status")
    found = re.search(r"^Package: libnvinfer\d+\n(?:.+\n)*?Version: .*\+cuda(\d+)", status, re.MULTILINE)
    return int(found[1]) if found else None


def opened(root: Path = Path("/")) -> Iterator[Finding]:
    """Each GPU that answers, opened: the binding that reaches it, its free memory, the compiler of our kernels."""
    site = _site(root)
    if site.cuda is None or (site.board is not None and site.board.major == 5):
        return
    if site.cuda < min(CUDA):
        text = f"the driver takes CUDA {site.cuda}, and {min(CUDA)} is needed: the CPU does the work"
        yield note(TOPIC, text, _newer_driver(root))
        return
    try:
        devices = ask("opened")
    except ProbeError as error:
        devices = [{"error": f"when it was opened: {error}"}]
    wanted = site.board is not None or bool(flavours())  # who installs neither uses the GPU for other things
    for ordinal, about in enumerate(devices):
        gpu = f"GPU {ordinal}" if len(devices) > 1 else "the GPU"
        if "error" in about:
            text, mend = f"{gpu} cannot be used: {about['error']}", "nvidia-smi; sudo dmesg | tail"
            if "no package for CUDA" in text:
                mend = site.install_binding()
            yield problem(TOPIC, text, mend) if wanted else note(TOPIC, text, mend)
            continue
        text = f"{gpu} opens by {about['binding']}; {about['free_gib']} GiB of its memory are free"
        text += ", shared with the CPU" if about["shared"] else ""
        if about["binding"].startswith("cuda-python") and _major(about["binding"]) > site.cuda:
            text += f"; the binding is for later drivers: this takes CUDA {site.cuda}"
            yield note(TOPIC, text, site.install_binding())
        else:
            yield ok(TOPIC, text)
    yield from _compiler(devices, site, site.cuda)


def _compiler(devices: list[dict[str, Any]], site: Site, cuda: int) -> Iterator[Finding]:
    versions = {str(about["nvrtc"]) for about in devices if "nvrtc" in about}
    reasons = {str(about["nvrtc_error"]) for about in devices if "nvrtc_error" in about}
    for reason in sorted(reasons):
        yield note(TOPIC, f"the CPU prepares the pictures: {reason}", site.install_binding())
    for version in sorted(versions):
        if _major(version) > cuda:
            text = f"NVRTC {version} makes kernels for later drivers than this one, which takes CUDA {cuda}"
            yield note(TOPIC, f"{text}: the CPU prepares the pictures", site.install_binding())
        else:
            yield ok(TOPIC, f"NVRTC {version} compiles the kernels that prepare pictures")


def _major(text: str) -> int:
    """Of the version at its end: 13 of `cuda-python 13.4.4`."""
    return int(text.rpartition(" ")[2].partition(".")[0])
