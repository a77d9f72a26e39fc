"""What the extras for NVIDIA GPUs ask for is there as ready-made wheels, on every platform that docs/gpu.md names.

TensorRT as JetPack and data centres have it is in no extra and not looked for: JetPack or NVIDIA's index brings it.
"""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError, requires, version
from typing import NamedTuple

import pytest
from packaging.requirements import Requirement

from tests.packaging.test_floors import PROJECT
from tests.support.needs import missing
from tests.support.resolving import Platform, resolved

EXTRAS = {name: [Requirement(line) for line in PROJECT["optional-dependencies"][name]] for name in ("cuda12", "cuda13")}
RTX = [Requirement(line) for line in PROJECT["optional-dependencies"]["gpu"] if not line.startswith("sightwire[")]
NUMPY = [line for line in PROJECT["dependencies"] if line.startswith("numpy")]
"""What the base install and cuda-python both want."""


class Machine(NamedTuple):
    """What is to be installed where."""

    platform: Platform
    extra: str
    rtx: str | None = None
    """The distribution of TensorRT-RTX, if it is used there."""


MACHINES = {
    "JetPack 6": Machine(Platform("3.10", "aarch64", 35), "cuda12"),
    "JetPack 7, and with TensorRT-RTX a GB10": Machine(Platform("3.12", "aarch64", 39), "cuda13", "tensorrt_rtx_cu13"),
    "RTX desktop": Machine(Platform("3.10", "x86_64", 35), "cuda13", "tensorrt_rtx_cu13"),
    "RTX desktop whose driver takes CUDA 12": Machine(Platform("3.12", "x86_64", 39), "cuda12", "tensorrt_rtx_cu12"),
}


def at_floor(requirement: Requirement) -> str:
    """The oldest minor release that is allowed, newest patch: `cuda-python>=12.6,<13` is `cuda-python==12.6.*`."""
    (floor,) = (specifier.version for specifier in requirement.specifier if specifier.operator == ">=")
    return f"{requirement.name}=={floor}.*"


def rtx_wheels(distribution: str) -> list[str]:
    """The ready-made parts of TensorRT-RTX, of the version that is installed here; the rest only names them."""
    try:
        here = version("tensorrt_rtx")
    except PackageNotFoundError:
        missing("tensorrt_rtx (pip install '.[gpu]')")
    return [f"{distribution}_bindings=={here}", f"{distribution}_libs=={here}"]


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> dict[tuple[str, str], dict[str, str]]:
    """(machine, floors or newest) -> version of each package that pip would install there; all looked for at once."""
    wanted: dict[tuple[str, str], list[str]] = {}
    for name, machine in MACHINES.items():
        wheels = rtx_wheels(machine.rtx) if machine.rtx else []
        wanted[name, "newest"] = [str(r) for r in EXTRAS[machine.extra]] + wheels + NUMPY
    wanted["JetPack 6", "floors"] = [at_floor(r) for r in EXTRAS["cuda12"]]
    return resolved({key: (MACHINES[key[0]].platform, lines) for key, lines in wanted.items()}, tmp_path_factory.mktemp)


@pytest.mark.timeout(300)
@pytest.mark.parametrize("name", MACHINES)
def test_what_a_gpu_needs_is_there_as_wheels(name: str, found: dict[tuple[str, str], dict[str, str]]) -> None:
    """The binding, NVRTC and, where it is used, TensorRT-RTX go together with our numpy."""
    for requirement in EXTRAS[MACHINES[name].extra]:
        assert requirement.specifier.contains(found[name, "newest"][requirement.name])


@pytest.mark.timeout(300)
def test_a_binding_and_its_compiler_are_of_the_same_cuda(found: dict[tuple[str, str], dict[str, str]]) -> None:
    """A compiler of a later CUDA would make kernels that the driver does not take."""
    for (name, _), packages in found.items():
        major = MACHINES[name].extra.removeprefix("cuda")
        theirs = {
            p: v for p, v in packages.items() if p.startswith(("cuda-python", "cuda-bindings", "nvidia-cuda-nvrtc"))
        }
        assert len(theirs) >= 2  # cuda-bindings is a package of its own from 12.8 on
        assert {there.split(".")[0] for there in theirs.values()} == {major}, theirs


def test_tensorrt_rtx_needs_nothing_but_the_wheels_that_are_looked_for() -> None:
    """Its own two packages are source archives without a line of C: they only name the wheels."""
    rtx_wheels("tensorrt_rtx_cu13")
    (requirement,) = RTX
    assert requirement.name == "tensorrt-rtx"
    assert requirement.specifier.contains(version("tensorrt_rtx"))
    (parts,) = (Requirement(line).name for line in requires("tensorrt_rtx") or [] if "extra" not in line)
    names = {Requirement(line).name for line in requires(parts) or [] if "extra" not in line}
    assert names == {"tensorrt_rtx_cu13_bindings", "tensorrt_rtx_cu13_libs"}
