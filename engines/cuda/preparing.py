"""How a batch of pictures goes to a GPU: one staging block to upload, and one launch of the kernel `prepare`.

At the head of the block lie the parameters, a struct for each row of the tensor, and after them the planes: of each
only what its geometry reads. The kernel's arguments are the addresses of the block and of the tensor, the same for
every batch, so that a CUDA graph can keep them. Nothing here needs CUDA.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from engines.errors import PictureError
from engines.pixels import YUV_TO_RGB, Geometry, Image, Picture, Plane, check_batch

KERNEL = "prepare"
SOURCE = Path(__file__).parent / "kernels" / "prepare.cu"
BLOCK = (32, 8, 1)
"""Threads, one a pixel of the tensor."""
ALIGNMENT = 32
"""Planes and their rows start at multiples of it: what a GPU reads at once. The kernel's loads rely on four."""

_FORMATS = {"gray": 0, "i420": 1, "nv12": 2, "rgb": 3, "bgr": 4}
_PLANE = "Q4i"
_PICTURE = struct.Struct(f"={3 * _PLANE}4i2iiii12i4x")
"""Three planes (offset, pitch, width, height, halvings), inner, tensor, fill, format, limited, matrix."""
_NO_PLANE, _NO_BOX, _NO_KIND, _NO_MATRIX = (0,) * 5, (0,) * 4, (0,) * 3, (0,) * 12


def _whole_numbers(matrix: NDArray[np.float32]) -> list[int]:
    """What cv2.transform makes of a matrix for bytes: 10 bits behind the point, and the halves for rounding."""
    halves = np.array([0, 0, 0, 0.5], np.float32)
    return [round(float(entry)) for entry in ((matrix + halves) * np.float32(1 << 10)).ravel()]


_MATRICES = {way: _whole_numbers(matrix) for way, matrix in YUV_TO_RGB.items()}


def grid(tensor: tuple[int, int], rows: int) -> tuple[int, int, int]:
    """Blocks of a launch for `rows` rows of a tensor of (width, height)."""
    return -(-tensor[0] // BLOCK[0]), -(-tensor[1] // BLOCK[1]), rows


@dataclass(frozen=True, eq=False)
class Staged:
    """A batch that was looked at and can be written into a staging block."""

    size: int
    """Bytes: what the block must have, and what of it is to be uploaded."""
    _parameters: tuple[tuple[int, ...], ...]
    """A row of the tensor each."""
    _copies: tuple[tuple[int, int, Plane], ...]
    """offset, pitch, pixels"""

    def write(self, block: NDArray[np.uint8]) -> None:
        """Write parameters and planes into pinned memory, (at least `size`,) uint8; none of it is allocated here."""
        for row, parameters in enumerate(self._parameters):
            _PICTURE.pack_into(block.data, row * _PICTURE.size, *parameters)
        for offset, pitch, part in self._copies:
            lines = block[offset : offset + len(part) * pitch].reshape(len(part), pitch)[:, : part[0].size]
            np.copyto(lines.reshape(part.shape), part)


def stage(pictures: Sequence[Picture], geometries: Sequence[Geometry], tensor: tuple[int, int], rows: int) -> Staged:
    """Lay out a batch for `rows` rows of a tensor of (width, height); rows beyond the pictures will be all zero.

    Raises PictureError for what cannot be read: the kernel reads whatever it is told to.
    """
    check_batch(pictures, geometries, rows, tensor)
    size = _aligned(rows * _PICTURE.size)
    parameters: list[tuple[int, ...]] = []
    copies: list[tuple[int, int, Plane]] = []
    for picture, geometry in zip(pictures, geometries, strict=True):
        image = picture.image
        _check(image, geometry)
        planes: tuple[int, ...] = ()
        for index, part in enumerate(image.parts(geometry.region)):
            pitch = _aligned(part[0].size)
            copies.append((size, pitch, part))
            planes += (size, pitch, *_resized(part, geometry.plane_halvings(index), geometry))
            size += len(part) * pitch
        planes += _NO_PLANE * (3 - len(image.planes))
        kind = (geometry.fill, _FORMATS[image.format], int(image.range == "limited"))
        parameters.append((*planes, *geometry.inner, *tensor, *kind, *_MATRICES[image.matrix, image.range]))
    parameters += [(*_NO_PLANE * 3, *_NO_BOX, *tensor, *_NO_KIND, *_NO_MATRIX)] * (rows - len(pictures))
    return Staged(size, tuple(parameters), tuple(copies))


def _aligned(size: int) -> int:
    return -(-size // ALIGNMENT) * ALIGNMENT


def _resized(part: Plane, halvings: int, geometry: Geometry) -> tuple[int, int, int]:
    """Width and height of a plane behind its halvings, and how many they are."""
    width, height = part.shape[1] >> halvings, part.shape[0] >> halvings
    x0, y0, x1, y1 = geometry.inner
    if (width, height) == (2 * (x1 - x0), 2 * (y1 - y0)):
        # OpenCV's linear step of exactly 2:1 is a halving, and rounds as one.
        return width // 2, height // 2, halvings + 1
    return width, height, halvings


def _check(image: Image, geometry: Geometry) -> None:
    (width, height), (left, top, right, bottom) = image.size, geometry.region
    if not (0 <= left < right <= width and 0 <= top < bottom <= height) or left % 2 or top % 2:
        raise PictureError(
            f"expected a part of {width}x{height} pixels that starts on even ones, got {geometry.region}"
        )
    x0, y0, x1, y1 = geometry.inner
    if not (0 <= x0 < x1 <= geometry.tensor[0] and 0 <= y0 < y1 <= geometry.tensor[1]):
        raise PictureError(f"expected a part of a tensor of {geometry.tensor} to be filled, got {geometry.inner}")
    step = 1 << geometry.halvings
    if (right - left) % step or (bottom - top) % step:
        raise PictureError(f"a region of {right - left}x{bottom - top} cannot be halved {geometry.halvings} times")
    for plane in image.planes:
        if plane.dtype != np.uint8:
            raise PictureError(f"expected planes of uint8, got {plane.dtype}")
