"""Kernels compiled for GPUs that are not here."""

from __future__ import annotations

import struct
from collections.abc import Iterator

import pytest

from engines.cuda import nvrtc
from engines.cuda.preparing import KERNEL, SOURCE
from engines.errors import BackendError
from tests.support.needs import missing

GPUS = [(7, 5), (8, 6), (8, 7), (8, 9), (9, 0), (11, 0), (12, 0)]


@pytest.fixture
def compiler() -> None:
    try:
        nvrtc.compile("", (8, 7))
    except BackendError as error:
        missing(str(error))


@pytest.mark.usefixtures("compiler")
@pytest.mark.parametrize("gpu", GPUS, ids=lambda gpu: "sm_{}{}".format(*gpu))
def test_the_kernels_compile_for_every_gpu(gpu) -> None:
    cubin = nvrtc.compile(SOURCE.read_text(), gpu)
    assert cubin[:4] == b"\x7fELF"
    assert struct.unpack_from("<H", cubin, 18) == (190,)  # EM_CUDA
    assert f"sm_{gpu[0]}{gpu[1]}".encode() in cubin
    assert f".text.{KERNEL}\0".encode() in cubin


@pytest.mark.usefixtures("compiler")
def test_the_same_source_gives_the_same_bytes() -> None:
    source = 'extern "C" __global__ void nothing(int* at) { *at = 1; }'
    assert nvrtc.compile(source, (8, 7)) == nvrtc.compile(source, (8, 7)) != nvrtc.compile(source, (8, 6))


@pytest.mark.usefixtures("compiler")
def test_a_mistake_is_told_with_its_first_line() -> None:
    with pytest.raises(BackendError, match=r"cannot compile the kernels for sm_87: kernels.cu\(2\): error: .*nonsense"):
        nvrtc.compile("\nnonsense here;\nmore nonsense;", (8, 7))


@pytest.mark.usefixtures("compiler")
def test_a_gpu_that_the_compiler_does_not_know_is_named() -> None:
    with pytest.raises(BackendError, match=r"does not know sm_999 .*install the release of CUDA for this GPU"):
        nvrtc.compile("", (99, 9))


@pytest.fixture
def candidates(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """Where the compiler is looked for."""
    found: list[str] = []
    monkeypatch.setattr(nvrtc, "_candidates", lambda: iter(found))
    nvrtc._library.cache_clear()
    yield found
    nvrtc._library.cache_clear()


def test_without_a_compiler_it_says_what_to_install(candidates, tmp_path) -> None:
    broken = tmp_path / "libnvrtc.so"
    broken.write_bytes(b"not a library")
    candidates += [str(broken), "libnvrtc.so.0"]
    with pytest.raises(BackendError, match=r"libnvrtc is not there: pip install nvidia-cuda-nvrtc; .*libnvrtc.so.0"):
        nvrtc.compile("", (8, 7))


def test_it_is_found_without_nvidias_own_search(monkeypatch: pytest.MonkeyPatch) -> None:
    """As with pycuda: pip's wheel if it is there, and the system's loader last."""
    monkeypatch.setattr(nvrtc, "_by_pathfinder", lambda: None)
    *wheels, first, second, third = nvrtc._candidates()
    assert (first, second, third) == ("libnvrtc.so", "libnvrtc.so.13", "libnvrtc.so.12")
    assert all("/libnvrtc.so." in path for path in wheels)
