"""From a picture to a tensor: the one way, for every backend, for calibration and for evaluation.

A picture is planes of pixels as the decoder left them, with the facts needed to read them. `Geometry` says which
region of it lands where in the tensor, and maps boxes back. `TensorWriter` resizes the planes themselves to the
size they have in the tensor and only then converts the few remaining pixels to RGB: no full-size RGB copy is made.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, cast

import cv2
import numpy as np
from numpy.typing import NDArray

from engines.card import Input
from engines.errors import PictureError

PixelFormat = Literal["i420", "nv12", "bgr", "rgb", "gray"]
Matrix = Literal["601", "709"]
Range = Literal["limited", "full"]
Plane = NDArray[np.uint8]
Box = tuple[int, int, int, int]
"""left, top, right, bottom in whole pixels."""

#: format -> per plane: how much narrower than the picture, and how many channels (0: a two-dimensional array)
_LAYOUT: dict[str, tuple[tuple[int, int], ...]] = {
    "i420": ((1, 0), (2, 0), (2, 0)),
    "nv12": ((1, 0), (2, 2)),
    "bgr": ((1, 3),),
    "rgb": ((1, 3),),
    "gray": ((1, 0),),
}


@dataclass(frozen=True, eq=False)
class Image:
    """A picture in its own pixel format; planes are views of whoever decoded it and must not be written to.

    i420: Y (H, W), U and V (H/2, W/2), halves rounded up; nv12: Y (H, W), UV (H/2, W/2, 2);
    bgr and rgb: (H, W, 3); gray: (H, W). All uint8; rows may be padded.
    """

    planes: tuple[Plane, ...]
    format: PixelFormat
    matrix: Matrix
    range: Range
    size: tuple[int, int]
    """(width, height)"""

    def __post_init__(self) -> None:
        width, height = self.size
        layout = _LAYOUT.get(self.format)
        if layout is None:
            raise PictureError(f"unknown pixel format {self.format!r}, known: {', '.join(_LAYOUT)}")
        expected = tuple(
            (-(-height // step), -(-width // step)) + ((channels,) if channels else ()) for step, channels in layout
        )
        actual = tuple(plane.shape for plane in self.planes)
        if actual != expected:
            raise PictureError(f"{self.format} picture of {width}x{height}: expected planes {expected}, got {actual}")
        if width < 1 or height < 1:
            raise PictureError(f"a picture of {width}x{height} has no pixels")

    @property
    def whole(self) -> Box:
        """The region that is all of it."""
        return (0, 0, *self.size)

    def cropped(self, region: Box) -> Image:
        """A part of the picture as a picture of its own: views of the same memory, grown to even starts.

        Raises PictureError for a region without pixels of this picture.
        """
        left, top, right, bottom = _clamped(region, self.size)
        left, top = left & ~1, top & ~1
        planes = self.parts((left, top, right, bottom))
        return Image(planes, self.format, self.matrix, self.range, (right - left, bottom - top))

    def parts(self, region: Box) -> tuple[Plane, ...]:
        """What each plane has of a region that lies in the picture and starts on even pixels: views."""
        left, top, right, bottom = region
        return tuple(
            plane[top // step : -(-bottom // step), left // step : -(-right // step)]
            for plane, (step, _) in zip(self.planes, _LAYOUT[self.format], strict=True)
        )


@dataclass(frozen=True)
class Picture:
    """What an engine is asked about: pixels and a region of them."""

    image: Image
    region: Box | None = None
    """None: all of it."""


@dataclass(frozen=True)
class Geometry:
    """Which pixels of the source land where in the tensor."""

    region: Box
    """Source pixels that are read; starts on even pixels so that chroma planes are cut exactly."""
    inner: Box
    """Where they land, tensor pixels."""
    tensor: tuple[int, int]
    """(width, height) of the whole tensor."""
    halvings: int
    """2x2 means taken before the linear step; the region's sides are multiples of 2**halvings."""
    fill: int
    """Level of the tensor outside `inner`."""

    def plane_halvings(self, index: int) -> int:
        """2x2 means that the picture's plane of that number still needs: those of chroma are one ahead."""
        return max(0, self.halvings - (index > 0))

    @property
    def scale(self) -> tuple[float, float]:
        """Source pixels per tensor pixel, x and y."""
        left, top, right, bottom = self.region
        x0, y0, x1, y1 = self.inner
        return (right - left) / (x1 - x0), (bottom - top) / (y1 - y0)

    def to_source(self, xyxy: NDArray[np.floating]) -> NDArray[np.float32]:
        """Boxes (N, 4) in tensor pixels -> source pixels, cut at the region's edges."""
        (sx, sy), (left, top, right, bottom) = self.scale, self.region
        x0, y0 = self.inner[:2]
        scale = np.array([sx, sy, sx, sy], np.float32)
        offset = np.array([left - x0 * sx, top - y0 * sy] * 2, np.float32)
        low, high = np.array([left, top] * 2, np.float32), np.array([right, bottom] * 2, np.float32)
        return cast(NDArray[np.float32], np.clip(xyxy * scale + offset, low, high).astype(np.float32, copy=False))

    def to_tensor(self, xyxy: NDArray[np.floating]) -> NDArray[np.float32]:
        """Boxes (N, 4) in source pixels -> tensor pixels, not cut."""
        (sx, sy), (left, top) = self.scale, self.region[:2]
        x0, y0 = self.inner[:2]
        scale = np.array([sx, sy, sx, sy], np.float32)
        offset = np.array([x0 - left / sx, y0 - top / sy] * 2, np.float32)
        return cast(NDArray[np.float32], (xyxy / scale + offset).astype(np.float32, copy=False))


def check_batch(
    pictures: Sequence[Picture], geometries: Sequence[Geometry], most: int, tensor: tuple[int, int]
) -> None:
    """Raise PictureError unless there are 1 to `most` pictures, each with a geometry for that (width, height)."""
    if not 0 < len(pictures) <= most:
        raise PictureError(f"expected 1 to {most} pictures, got {len(pictures)}")
    if len(geometries) != len(pictures):
        raise PictureError(f"expected {len(pictures)} geometries, got {len(geometries)}")
    for geometry in geometries:
        if geometry.tensor != tensor:
            raise PictureError(f"expected a geometry for {tensor[0]}x{tensor[1]}, got {geometry.tensor}")


def fit(size: tuple[int, int], region: Box | None, into: Input) -> Geometry:
    """Geometry of a region of a picture of `size` (width, height) for a model's input.

    The region is clamped to the picture, grown to even starts, and trimmed by less than one tensor pixel where halving
    needs it. Raises PictureError for a region without pixels.
    """
    left, top, right, bottom = _clamped(region or (0, 0, *size), size)
    if into.fit == "crop":
        left, top, right, bottom = _centre_window((left, top, right, bottom), into)
    left, top = left & ~1, top & ~1
    inner = (
        _letterbox((right - left, bottom - top), into) if into.fit == "letterbox" else (0, 0, into.width, into.height)
    )
    width, height = inner[2] - inner[0], inner[3] - inner[1]
    halvings = 0
    if into.resize == "area":
        halvings = max(0, min((right - left) // width, (bottom - top) // height).bit_length() - 1)
    right -= (right - left) % (1 << halvings)
    bottom -= (bottom - top) % (1 << halvings)
    return Geometry((left, top, right, bottom), inner, (into.width, into.height), halvings, into.fill)


def _clamped(region: Box, size: tuple[int, int]) -> Box:
    width, height = size
    left, top, right, bottom = region
    left, top = max(left, 0), max(top, 0)
    right, bottom = min(right, width), min(bottom, height)
    if right - left < 1 or bottom - top < 1:
        raise PictureError(f"region {region} has no pixels of a picture of {width}x{height}")
    return left, top, right, bottom


def _centre_window(region: Box, into: Input) -> Box:
    """The largest centred window with the input's aspect ratio, times `crop`."""
    left, top, right, bottom = region
    scale = min((right - left) / into.width, (bottom - top) / into.height) * into.crop
    width, height = max(1, round(into.width * scale)), max(1, round(into.height * scale))
    x, y = left + (right - left - width) // 2, top + (bottom - top - height) // 2
    return x, y, x + width, y + height


def _letterbox(size: tuple[int, int], into: Input) -> Box:
    """Where a region of `size` lies in the tensor when both its sides are scaled alike."""
    scale = min(into.width / size[0], into.height / size[1])
    width = min(into.width, max(1, round(size[0] * scale)))
    height = min(into.height, max(1, round(size[1] * scale)))
    x, y = (0, 0) if into.align == "top-left" else ((into.width - width) // 2, (into.height - height) // 2)
    return x, y, x + width, y + height


class TensorWriter:
    """Writes pictures into tensors; keeps its scratch memory, so belongs to one thread."""

    def __init__(self) -> None:
        self._scratch: dict[str, NDArray[np.uint8]] = {}

    def write(self, picture: Picture, geometry: Geometry, out: NDArray[np.uint8]) -> None:
        """Fill `out`, (3, H, W) uint8 RGB, from the picture as `geometry` says. Nothing is allocated per frame."""
        image = picture.image
        x0, y0, x1, y1 = geometry.inner
        if (x1 - x0, y1 - y0) != geometry.tensor:
            out.fill(geometry.fill)
        channels = [out[c, y0:y1, x0:x1] for c in range(3)]
        size = (x1 - x0, y1 - y0)
        planes = [
            self._resized(f"plane{i}", part, geometry.plane_halvings(i), size)
            for i, part in enumerate(image.parts(geometry.region))
        ]
        if image.format == "gray":
            gray = planes[0]
            if image.range == "limited":
                gray = self._buffer("gray", (size[1], size[0]))
                cv2.LUT(planes[0], _SPREAD, dst=gray)
            for channel in channels:
                channel[:] = gray
        elif image.format in ("bgr", "rgb"):
            cv2.split(planes[0], channels if image.format == "rgb" else channels[::-1])
        else:
            yuv = self._buffer("yuv", (size[1], size[0], 3))
            rgb = self._buffer("rgb", (size[1], size[0], 3))
            cv2.merge(planes, dst=yuv) if image.format == "i420" else cv2.mixChannels(planes, [yuv], [0, 0, 1, 1, 2, 2])
            cv2.transform(yuv, YUV_TO_RGB[image.matrix, image.range], dst=rgb)
            cv2.split(rgb, channels)

    def _resized(self, name: str, part: Plane, halvings: int, size: tuple[int, int]) -> Plane:
        """The region's part of one plane at `size`: halved by 2x2 means so often, then linear."""
        for level in range(halvings):
            half = (part.shape[0] // 2, part.shape[1] // 2, *part.shape[2:])
            smaller = self._buffer(f"{name}/{level}", half)
            cv2.resize(part, (half[1], half[0]), dst=smaller, interpolation=cv2.INTER_AREA)
            part = smaller
        if part.shape[1::-1] == size:
            return part
        target = self._buffer(name, (size[1], size[0], *part.shape[2:]))
        cv2.resize(part, size, dst=target, interpolation=cv2.INTER_LINEAR)
        return target

    def _buffer(self, name: str, shape: tuple[int, ...]) -> NDArray[np.uint8]:
        """Scratch memory of that shape: a view of the largest ever asked for under that name."""
        count = math.prod(shape)
        flat = self._scratch.get(name)
        if flat is None or flat.size < count:
            flat = self._scratch[name] = np.empty(count, np.uint8)
        return flat[:count].reshape(shape)


def _conversion(kr: float, kb: float, full: bool) -> NDArray[np.float32]:
    """3x4 matrix from (Y, U, V, 1) to (R, G, B), all 0..255: ITU-R BT.601-7 section 2.5, BT.709-6 section 3."""
    y_scale, y_zero, c_scale = (1.0, 0.0, 1.0) if full else (255 / 219, 16.0, 255 / 224)
    kg = 1 - kr - kb
    red_v, blue_u = 2 * (1 - kr) * c_scale, 2 * (1 - kb) * c_scale
    green_u, green_v = -blue_u * kb / kg, -red_v * kr / kg
    rows = np.array([[y_scale, 0, red_v], [y_scale, green_u, green_v], [y_scale, blue_u, 0]])
    return np.column_stack([rows, rows @ np.array([-y_zero, -128.0, -128.0])]).astype(np.float32)


YUV_TO_RGB: dict[tuple[str, str], NDArray[np.float32]] = {
    (matrix, level): _conversion(kr, kb, level == "full")
    for matrix, kr, kb in (("601", 0.299, 0.114), ("709", 0.2126, 0.0722))
    for level in ("limited", "full")
}


#: luma of limited range -> 0..255, (256,): what lies below black or above white is black or white
_SPREAD = np.clip(np.rint((np.arange(256) - 16) * 255 / 219), 0, 255).astype(np.uint8)


def black(image: Image, polygons: list[NDArray[np.int32]]) -> Image:
    """A copy of the picture with the polygons, (K, 2) source pixels each, painted black in every plane.

    A copy, because the decoder still predicts from the original; whatever looks at the result later (engines,
    calibration, encoders) cannot see what was masked.
    """
    planes = []
    for index, (plane, (step, _)) in enumerate(zip(image.planes, _LAYOUT[image.format], strict=True)):
        painted = np.ascontiguousarray(plane).copy() if plane.flags.c_contiguous else np.ascontiguousarray(plane)
        planar = image.format in ("i420", "nv12", "gray")
        level = (128 if index else 16 if image.range == "limited" else 0) if planar else 0
        for polygon in polygons:
            # Chroma samples that straddle the edge are painted too: fillPoly includes the outline.
            cv2.fillPoly(painted, [polygon // step], (level,) * 3)
        planes.append(painted)
    return Image(tuple(planes), image.format, image.matrix, image.range, image.size)
