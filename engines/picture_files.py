"""Picture files: photographs as OpenCV decodes them, and pictures that were stored in their own planes."""

from __future__ import annotations

import struct
from typing import cast

import numpy as np

from engines.errors import PictureError
from engines.pixels import Image, Plane
from engines.quiet import quiet_opencv
from engines.stored import unpack

ENDINGS = frozenset(
    (".jpg", ".jpeg", ".png", ".bmp", ".webp", ".tif", ".tiff", ".ppm", ".pgm", ".jp2", ".avif", ".gif")
)
"""How the names of files end that OpenCV may read."""


def read(data: bytes, name: str) -> Image:
    """The picture in a file's bytes: a stored one as it was, any other as bgr. Raises PictureError with `name`."""
    if (stored := unpack(data, name)) is not None:
        return stored
    plane = decoded(data) if data else None
    if plane is None:
        raise PictureError(f"{name}: is no picture that can be read: damaged, cut off, too large, or of another kind")
    return Image((plane,), "bgr", "601", "full", (plane.shape[1], plane.shape[0]))


def decoded(data: bytes) -> Plane | None:
    """A photograph as (H, W, 3) BGR of 8 bits, turned as EXIF says, without transparency; None if it is damaged.

    So is one of more than `MOST_PIXELS`.

    OpenCV 4 decodes a JPEG that is cut off all the same, the rest of it black: such is damaged, too. Neither of the two
    markers can occur in the compressed data between them. Of a PNG that is cut off, libpng complains on stderr.
    """
    cv2 = quiet_opencv()
    if data[:2] == b"\xff\xd8" and data.rfind(b"\xff\xd9") < data.rfind(b"\xff\xda"):
        return None
    if data[:4] == b"\x89PNG" and not _is_whole_png(data):
        return None
    try:
        return cast("Plane | None", cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR))
    except cv2.error:
        return None


def _is_whole_png(data: bytes) -> bool:
    """Whether each chunk is as long as it says: OpenCV makes room for the two gigabytes that one of them claims."""
    at = 8
    while at + 12 <= len(data):
        length, kind = struct.unpack_from(">I4s", data, at)
        at += 12 + length
        if kind == b"IEND":
            return bool(at <= len(data))
    return False
