"""Picture files: photographs as OpenCV decodes them, and frames of cameras kept as the decoder left them.

A frame is one line of JSON, `{"schema":"sightwire.frame/1","format":"i420","matrix":"709","range":"limited",
"size":[1280,720]}`, and then the bytes of its planes, row by row and unpadded. So nothing is lost between a camera and
whoever reads the file, and equal pictures are equal files.
"""

from __future__ import annotations

import math
from typing import Literal, cast

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, PositiveInt, ValidationError

from engines.errors import PictureError
from engines.pixels import Image, Matrix, PixelFormat, Plane, Range, shapes
from engines.quiet import quiet_opencv

PHOTOGRAPHS = frozenset(
    (".jpg", ".jpeg", ".png", ".bmp", ".webp", ".tif", ".tiff", ".ppm", ".pgm", ".jp2", ".avif", ".gif")
)
"""How the names of files end that OpenCV may read."""
FRAME = ".frame"
"""How the name of a kept frame ends."""
_SCHEMA: Literal["sightwire.frame/1"] = "sightwire.frame/1"
_OPENING = f'{{"schema":"{_SCHEMA}",'.encode()
_LONGEST_HEADER = 256


class _Header(BaseModel):
    """A frame's first line."""

    model_config = ConfigDict(extra="forbid", strict=True)

    schema_: Literal["sightwire.frame/1"] = Field(alias="schema")
    format: PixelFormat
    matrix: Matrix
    range: Range
    size: tuple[PositiveInt, PositiveInt]


def decoded(data: bytes) -> Plane | None:
    """A photograph as (H, W, 3) BGR of 8 bits, turned as EXIF says, without transparency; None if it is damaged.

    OpenCV 4 decodes a JPEG that is cut off all the same, the rest of it black: such is damaged, too. Neither of the two
    markers can occur in the compressed data between them. Of a PNG that is cut off, libpng complains on stderr.
    """
    cv2 = quiet_opencv()
    if data[:2] == b"\xff\xd8" and data.rfind(b"\xff\xd9") < data.rfind(b"\xff\xda"):
        return None
    if data[:4] == b"\x89PNG" and b"IEND" not in data:
        return None
    try:
        return cast("Plane | None", cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR))
    except cv2.error:
        return None


def read(data: bytes) -> Image:
    """The picture in a file's bytes, a photograph or a frame. Raises PictureError, which does not name the file."""
    if data.startswith(_OPENING):
        return unpacked(data)
    plane = decoded(data) if data else None
    if plane is None:
        raise PictureError("not a readable picture: damaged, cut off, or of another kind")
    return Image((plane,), "bgr", "601", "full", (plane.shape[1], plane.shape[0]))


def packed(image: Image) -> bytes:
    """A frame's file."""
    header = _Header(schema=_SCHEMA, format=image.format, matrix=image.matrix, range=image.range, size=image.size)
    line = header.model_dump_json(by_alias=True).encode()
    return b"".join([line, b"\n", *(np.ascontiguousarray(plane).tobytes() for plane in image.planes)])


def unpacked(data: bytes) -> Image:
    """The picture in a frame's file; its planes are views of `data`. Raises PictureError."""
    line, _, _ = data[:_LONGEST_HEADER].partition(b"\n")
    try:
        header = _Header.model_validate_json(line)
    except ValidationError:
        raise PictureError("not a readable frame: its first line is not what sightwire writes") from None
    at = len(line) + 1
    expected = shapes(header.format, header.size)
    lengths = [math.prod(shape) for shape in expected]
    if len(data) - at != sum(lengths):
        raise PictureError(f"not a readable frame: expected {sum(lengths)} bytes of pixels, got {len(data) - at}")
    planes = []
    for shape, length in zip(expected, lengths, strict=True):
        planes.append(np.frombuffer(data, np.uint8, length, at).reshape(shape))
        at += length
    return Image(tuple(planes), header.format, header.matrix, header.range, header.size)
