"""When a photograph was taken, from its EXIF data (CIPA DC-008-2023, 4.6.2 and 4.6.5)."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from datetime import datetime

_EXIF_IFD, _TAKEN, _OFFSET = 0x8769, 0x9003, 0x9011
_ASCII, _MOST_ENTRIES = 2, 512


def taken_ns(jpeg: bytes) -> int | None:
    """DateTimeOriginal of a JPEG file, Unix ns (local time where no time zone is named); None if it is not said."""
    try:
        tags = _tags(_tiff(jpeg))
        zone = tags.get(_OFFSET) or ""
        taken = datetime.strptime(tags[_TAKEN] + zone, "%Y:%m:%d %H:%M:%S" + ("%z" if zone else ""))
        return round(taken.timestamp() * 1e9)
    except (KeyError, ValueError, IndexError, OverflowError, OSError, struct.error):
        return None  # damaged or unusual: as good as not said


def _tiff(jpeg: bytes) -> bytes:
    """The TIFF structure in the APP1 segment; empty if there is none."""
    at = 2
    while jpeg[at : at + 1] == b"\xff" and jpeg[at + 1] not in (0xD9, 0xDA):
        size = int.from_bytes(jpeg[at + 2 : at + 4], "big")
        if jpeg[at + 1] == 0xE1 and jpeg[at + 4 : at + 10] == b"Exif\0\0":
            return jpeg[at + 10 : at + 2 + size]
        at += 2 + max(2, size)
    return b""


def _tags(tiff: bytes) -> dict[int, str]:
    order = {b"II": "<", b"MM": ">"}[tiff[:2]]
    first = dict(_entries(tiff, order, *struct.unpack_from(order + "I", tiff, 4)))
    return {tag: text for tag, text in _entries(tiff, order, int(first[_EXIF_IFD])) if tag in (_TAKEN, _OFFSET)}


def _entries(tiff: bytes, order: str, at: int) -> Iterator[tuple[int, str]]:
    """Tag and value of one directory: texts, and the offset of the next directory as digits."""
    (count,) = struct.unpack_from(order + "H", tiff, at)
    for index in range(min(count, _MOST_ENTRIES)):
        tag, kind, length, value = struct.unpack_from(order + "HHII", tiff, at + 2 + 12 * index)
        if kind == _ASCII:
            start = value if length > 4 else at + 10 + 12 * index
            yield tag, tiff[start : start + length].split(b"\0")[0].decode("ascii", "replace").strip()
        elif tag == _EXIF_IFD:
            yield tag, str(value)
