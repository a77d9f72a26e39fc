"""A picture as a file that keeps its own pixels: a lossless PNG of the planes, with the facts needed to read them.

bgr, rgb and gray are the PNG that anybody would write. Of i420 and nv12 it is a grey picture: the luma plane, and
under it the chroma, U and V side by side or interleaved. Any program shows it, in grey, and a place in it is the same
place in the picture; only `unpack` gives back the planes, byte for byte. The name of such a file ends with `SUFFIX`,
because one whose facts some program has stripped must not be taken for a tall grey photo.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator
from pathlib import PurePath
from typing import Literal, cast

import cv2
import numpy as np
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from engines.errors import PictureError
from engines.pixels import Image, Matrix, PixelFormat, Plane, Range

SUFFIX = ".planes.png"
_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_HEADER_END = len(_SIGNATURE) + 12 + 13
"""Where the chunk IHDR, always the first, ends."""
_KEYWORD = b"sightwire\0"
_FAST = 1
"""zlib's level: a higher one takes two or three times as long and saves 4 %."""


class _Facts(BaseModel):
    """What the pixels of the PNG are: the text of its chunk `sightwire`."""

    model_config = ConfigDict(populate_by_name=True)

    schema_: Literal["sightwire.planes/1"] = Field(default="sightwire.planes/1", alias="schema")
    format: PixelFormat
    matrix: Matrix
    range: Range
    size: tuple[int, int]


def pack(image: Image) -> bytes:
    """The file of a picture (PNG 1.2; the facts are a tEXt chunk). Raises PictureError if it cannot be one."""
    facts = _Facts(format=image.format, matrix=image.matrix, range=image.range, size=image.size)
    try:
        done, encoded = cv2.imencode(".png", _canvas(image), [cv2.IMWRITE_PNG_COMPRESSION, _FAST])
    except cv2.error as error:
        raise PictureError(f"a picture of {image.size[0]}x{image.size[1]} cannot be a PNG: {error.err}") from None
    if not done:
        raise PictureError(f"a picture of {image.size[0]}x{image.size[1]} cannot be a PNG")
    png = encoded.tobytes()
    text = _chunk(b"tEXt", _KEYWORD + facts.model_dump_json(by_alias=True).encode())
    return b"".join((png[:_HEADER_END], text, png[_HEADER_END:]))


def unpack(data: bytes, name: str) -> Image | None:
    """The picture that was packed into a file; None for any other picture file, which its own decoder must read.

    Raises PictureError, with the file's `name`, for one that is damaged or has lost its facts.
    """
    facts = _facts(data, name) if data.startswith(_SIGNATURE) else None
    if facts is None:
        if PurePath(name).name.endswith(SUFFIX):
            raise PictureError(f"{name}: has lost what says how its planes lie; take the file as it was written")
        return None
    try:
        canvas = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)
    except cv2.error:
        canvas = None
    if canvas is None or canvas.dtype != np.uint8 or canvas.shape != _shape(facts.format, facts.size):
        raise PictureError(f"{name}: is not the {facts.format} picture that it says it is; it was changed or damaged")
    return Image(_planes(cast(Plane, canvas), facts), facts.format, facts.matrix, facts.range, facts.size)


def most_bytes(image: Image) -> int:
    """What the file of any picture like this one can have at most."""
    shape = _shape(image.format, image.size)
    # Deflate stores what it cannot shrink: a filter byte a row, under 1 % for its blocks and the chunks around them.
    return (int(np.prod(shape)) + shape[0]) * 101 // 100 + 1000


def _shape(pixels: PixelFormat, size: tuple[int, int]) -> tuple[int, ...]:
    """Rows, columns and channels of the PNG."""
    width, height = size
    if pixels in ("i420", "nv12"):
        return height + (height + 1) // 2, (width + 1) // 2 * 2
    return (height, width) if pixels == "gray" else (height, width, 3)


def _canvas(image: Image) -> Plane:
    """The pixels of the PNG, as OpenCV takes them."""
    if image.format == "rgb":
        return cast(Plane, cv2.cvtColor(image.planes[0], cv2.COLOR_RGB2BGR))
    if image.format in ("bgr", "gray"):
        return np.ascontiguousarray(image.planes[0])
    width, height = image.size
    canvas = np.zeros(_shape(image.format, image.size), np.uint8)
    canvas[:height, :width] = image.planes[0]
    chroma = canvas[height:]
    if image.format == "nv12":
        chroma[:] = image.planes[1].reshape(chroma.shape)
    else:
        half = chroma.shape[1] // 2
        chroma[:, :half], chroma[:, half:] = image.planes[1:]
    return canvas


def _planes(canvas: Plane, facts: _Facts) -> tuple[Plane, ...]:
    """The inverse of `_canvas`."""
    if facts.format == "rgb":
        return (cast(Plane, cv2.cvtColor(canvas, cv2.COLOR_BGR2RGB)),)
    if facts.format in ("bgr", "gray"):
        return (canvas,)
    width, height = facts.size
    luma, chroma = canvas[:height, :width], canvas[height:]
    half = chroma.shape[1] // 2
    if facts.format == "nv12":
        return luma, chroma.reshape(chroma.shape[0], half, 2)
    return luma, chroma[:, :half], chroma[:, half:]


def _facts(data: bytes, name: str) -> _Facts | None:
    """None for a PNG of somebody else. Ours are checked to the last byte: decoders pass over much damage."""
    chunks = _chunks(data)
    for kind, body in chunks:
        if kind == b"tEXt" and body.startswith(_KEYWORD):
            break
        if kind in (b"IDAT", b""):
            return None
    else:
        return None
    if [kind for kind, _ in chunks][-1:] != [b"IEND"]:
        raise PictureError(f"{name}: is damaged or cut off")
    try:
        return _Facts.model_validate_json(body[len(_KEYWORD) :])
    except ValidationError:
        raise PictureError(
            f"{name}: says in no way known here how its planes lie; written by a newer version?"
        ) from None


def _chunks(data: bytes) -> Iterator[tuple[bytes, bytes]]:
    """Kind and content of each chunk of a PNG; ends after IEND, or with an empty kind where it is damaged."""
    at, kind = len(_SIGNATURE), b""
    while kind != b"IEND":
        if len(data) < at + 12:
            yield b"", b""
            return
        length, kind = struct.unpack_from(">I4s", data, at)
        end = at + 8 + length
        if data[end : end + 4] != struct.pack(">I", zlib.crc32(memoryview(data)[at + 4 : end])):
            yield b"", b""
            return
        yield kind, data[at + 8 : end]
        at = end + 4


def _chunk(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))
