"""What is uploaded for the kernel that prepares pictures: its layout, and what is refused."""

from __future__ import annotations

import ctypes
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from engines.card import Input
from engines.cuda.preparing import ALIGNMENT, BLOCK, grid, stage
from engines.errors import PictureError
from engines.pixels import YUV_TO_RGB, Geometry, Image, Picture, fit
from tests.support.gpu_cases import by_cpu
from tests.support.host_kernels import SANITIZED, library, loaded, prepared, sanitizers
from tests.support.pictures import noise

ROOT = Path(__file__).parents[2]
INTO = Input(width=48, height=32, fit="letterbox", fill=114)
SIZE = (333, 175)


def batch(*formats: str, region: tuple[int, int, int, int] | None = None) -> tuple[list[Picture], list[Geometry]]:
    pictures = [Picture(noise(pixels, SIZE, 2 * seed), region) for seed, pixels in enumerate(formats)]
    return pictures, [fit(SIZE, region, INTO)] * len(pictures)


def fields(block: np.ndarray, row: int) -> list[int]:
    """A picture's parameters as the kernel's source reads them."""
    size = loaded().host_picture_size()
    out = (ctypes.c_longlong * 64)()
    count = loaded().host_read_picture(ctypes.c_void_p(block.ctypes.data + row * size), out)
    return list(out[:count])


def test_parameters_are_where_the_kernel_reads_them() -> None:
    pictures, geometries = batch("gray", "nv12", region=(11, 7, 300, 150))
    staged = stage(pictures, geometries, (48, 32), 3)
    block = np.full(staged.size, 0xFF, np.uint8)
    staged.write(block)
    first = 3 * loaded().host_picture_size()
    region, inner = geometries[0].region, geometries[0].inner
    assert (region, inner, geometries[0].halvings) == ((10, 6, 298, 150), (0, 4, 48, 28), 2)
    matrix = YUV_TO_RGB["601", "full"]
    gray = [first, 288, 72, 36, 2, *[0] * 10, *inner, 48, 32, 114, 0, 0]
    assert fields(block, 0)[:24] == gray
    second = first + 288 * 144
    nv12 = [second, 288, 72, 36, 2, second + 288 * 144, 288, 72, 36, 1, *[0] * 5, *inner, 48, 32, 114, 2, 0]
    assert fields(block, 1)[:24] == nv12
    assert np.abs(np.array(fields(block, 1)[24:]).reshape(3, 4) / 1024 - matrix - [0, 0, 0, 0.5]).max() < 1 / 1024
    assert fields(block, 2) == [*[0] * 19, 48, 32, *[0] * 15]


@pytest.mark.parametrize("pixels", ["i420", "nv12", "bgr", "rgb", "gray"])
def test_only_the_region_is_copied_to_aligned_rows(pixels) -> None:
    pictures, geometries = batch(pixels, region=(100, 50, 177, 111))
    staged = stage(pictures, geometries, (48, 32), 1)
    block = np.full(staged.size, 0xFF, np.uint8)
    staged.write(block)
    found = np.array(fields(block, 0)[:15]).reshape(3, 5)
    for plane, (offset, pitch, *_) in zip(pictures[0].image.parts(geometries[0].region), found, strict=False):
        assert offset % ALIGNMENT == pitch % ALIGNMENT == 0
        line = plane[0].size
        rows = block[offset : offset + len(plane) * pitch].reshape(len(plane), pitch)
        assert (rows[:, :line] == plane.reshape(len(plane), line)).all()
        assert (rows[:, line:] == 0xFF).all()
    assert staged.size < 76 * 61 * 3 * 1.5 + 200


def test_a_staging_block_is_used_again() -> None:
    """What a larger batch left in it does not shine through."""
    large, small = (stage(*batch(*formats), (48, 32), 4) for formats in (["bgr"] * 4, ["nv12"]))
    used, fresh = np.zeros(large.size, np.uint8), np.zeros(large.size, np.uint8)
    large.write(used)
    for block in (used, fresh):
        small.write(block)
    head = 4 * loaded().host_picture_size()
    assert (used[:head] == fresh[:head]).all()


def test_the_grid_covers_the_tensor() -> None:
    assert grid((640, 384), 8) == (20, 48, 8)
    assert grid((300, 300), 1) == (10, 38, 1)
    assert BLOCK[0] * BLOCK[1] % 32 == 0


def refused(pictures: list[Picture], geometries: list[Geometry], tensor: tuple[int, int] = (48, 32)) -> str:
    with pytest.raises(PictureError) as told:
        stage(pictures, geometries, tensor, 2)
    return str(told.value)


def test_batches_that_do_not_fit_the_tensor_are_refused() -> None:
    pictures, geometries = batch("i420")
    assert refused([], []) == "expected 1 to 2 pictures, got 0"
    assert refused(pictures * 3, geometries * 3) == "expected 1 to 2 pictures, got 3"
    assert refused(pictures, geometries * 2) == "expected 1 geometries, got 2"
    assert refused(pictures, geometries, (32, 48)) == "expected a geometry for 32x48, got (48, 32)"


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"region": (0, 0, 336, 172)}, "a part of 333x175 pixels"),
        ({"region": (0, 0, 332, 176)}, "a part of 333x175 pixels"),
        ({"region": (-2, 0, 332, 172)}, "a part of 333x175 pixels"),
        ({"region": (1, 0, 333, 172)}, "starts on even ones"),
        ({"region": (8, 8, 8, 172)}, "a part of 333x175 pixels"),
        ({"region": (0, 0, 330, 172)}, "a region of 330x172 cannot be halved 2 times"),
        ({"inner": (0, 0, 49, 32)}, "a part of a tensor of (48, 32)"),
        ({"inner": (0, 8, 48, 8)}, "a part of a tensor of (48, 32)"),
        ({"inner": (-1, 0, 48, 32)}, "a part of a tensor of (48, 32)"),
    ],
)
def test_a_geometry_that_leaves_its_picture_or_its_tensor_is_refused(changes, told) -> None:
    """A kernel that was told so would read or write what is not its own."""
    pictures, geometries = batch("i420")
    assert told in refused(pictures, [replace(geometries[0], **changes)])


def test_pixels_that_are_no_bytes_are_refused() -> None:
    image = Image((np.zeros((40, 60), np.float32),), "gray", "601", "full", (60, 40))  # type: ignore[arg-type]
    assert refused([Picture(image)], [fit((60, 40), None, INTO)]) == "expected planes of uint8, got float32"


def test_gray_below_black_is_black_and_above_white_is_white() -> None:
    """Limited range: 16 is black and 235 white; noise and sharpening of cameras go beyond both."""
    luma = np.arange(256, dtype=np.uint8).reshape(16, 16)
    picture = Picture(Image((luma,), "gray", "601", "limited", (16, 16)))
    case = picture, fit((16, 16), None, Input(width=16, height=16, fit="stretch"))
    expected = np.clip(np.rint((np.arange(256) - 16) * 255 / 219), 0, 255).reshape(16, 16)
    assert (by_cpu(case) == expected).all()
    assert (prepared([case[0]], [case[1]])[0] == expected).all()


def sanitized(code: str) -> subprocess.CompletedProcess[str]:
    """Python code in a process of its own, on a kernel that reports every access outside of what was allocated."""
    built = library(*SANITIZED)
    environment = {**os.environ, **sanitizers(), "PYTHONPATH": str(ROOT), "SIGHTWIRE_HOST_KERNELS": str(built)}
    return subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, timeout=100)


def test_the_kernel_stays_inside_its_memory() -> None:
    done = sanitized("""
from itertools import product
from engines.card import Input
from engines.pixels import Picture, fit
from tests.support.host_kernels import prepared
from tests.support.pictures import FORMATS, noise

sizes = [(1, 1), (2, 3), (17, 5), (64, 48), (333, 175), (641, 479)]
for size, rule, (width, height) in product(sizes, ["area", "linear"], [(33, 9), (1, 1), (64, 48)]):
    into = Input(width=width, height=height, fit="letterbox", resize=rule)
    pictures = [Picture(noise(pixels, size, 0)) for pixels in FORMATS]
    for region in (None, (size[0] // 2, size[1] // 3, *size)):
        prepared(pictures, [fit(size, region, into)] * len(pictures), 6)
print("done")
""")
    assert (done.returncode, done.stdout) == (0, "done\n"), done.stderr


def test_an_access_outside_of_its_memory_would_be_noticed() -> None:
    done = sanitized("""
import numpy as np
from engines.card import Input
from engines.cuda.preparing import stage
from engines.pixels import Picture, fit
from tests.support.host_kernels import launch
from tests.support.pictures import noise

geometry = fit((333, 175), None, Input(width=48, height=32, fit="stretch"))
staged = stage([Picture(noise("gray", (333, 175), 0))], [geometry], (48, 32), 1)
block = np.empty(staged.size, np.uint8)
staged.write(block)
launch(block[: -64 * 352].copy(), np.empty((1, 3, 32, 48), np.uint8))
""")
    assert done.returncode != 0
    assert "AddressSanitizer: heap-buffer-overflow" in done.stderr
