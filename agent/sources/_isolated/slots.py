"""Pictures in shared memory: written by one process, looked at by another, copied by neither more than once.

A slot is an anonymous file (memfd) with room for one picture. It has no name, so it is gone when both processes are,
however they end. Its first byte says whose it is: FREE and then FULL is written by the process that decodes; LENT
and then FREE by the one that looks, FREE when nothing refers to the pixels any more.
"""

from __future__ import annotations

import fcntl
import math
import mmap
import os
import weakref
from collections.abc import Sequence
from typing import Any

import numpy as np

from engines.pixels import Image, Plane

HEADER = 64
"""Bytes before the pixels."""
FREE, FULL, LENT = 0, 1, 2
MOST_SLOTS = 10
MOST_LENT = 6
"""Whoever keeps more pictures than that keeps copies, so that there always are slots for the next ones."""
_SEALS = fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_SEAL
"""A file that shrinks under a process that looks at it ends that process."""


class Writer:
    """The decoding process's end. Belongs to one thread."""

    def __init__(self) -> None:
        self._slots: dict[int, mmap.mmap] = {}

    def put(self, image: Image) -> tuple[int, int | None] | None:
        """The slot's number, and its new file if the other process does not know it yet; the caller closes that.

        None: all slots are in use.
        """
        size = HEADER + sum(plane.nbytes for plane in image.planes)
        free = [number for number, slot in self._slots.items() if slot[0] == FREE]
        number = next((number for number in free if len(self._slots[number]) == size), None)
        fd = None
        if number is None:
            if not free and len(self._slots) == MOST_SLOTS:
                return None
            # One of another size, of a stream that has changed its own, is put away first.
            number = free[0] if free else len(self._slots)
            fd = _file(size)
            self._slots[number] = mmap.mmap(fd, size)
        slot = self._slots[number]
        for plane, there in zip(image.planes, _planes(slot, [plane.shape for plane in image.planes]), strict=True):
            np.copyto(there, plane)
        slot[0] = FULL
        return number, fd

    def take_back(self, number: int) -> None:
        """The other process was not told of it."""
        self._slots[number][0] = FREE


class Reader:
    """The looking process's end. Belongs to one thread; pictures may be let go of by any."""

    def __init__(self) -> None:
        self._slots: dict[int, mmap.mmap] = {}

    def add(self, number: int, fd: int, size: int) -> None:
        """A slot's file; the caller closes it. Raises ValueError for one that is not what `Writer` makes."""
        if not 0 <= number < MOST_SLOTS or fcntl.fcntl(fd, fcntl.F_GET_SEALS) & _SEALS != _SEALS:
            raise ValueError(f"slot {number} is none")
        self._slots[number] = mmap.mmap(fd, size)

    def take(self, number: int, shapes: Sequence[tuple[int, ...]]) -> tuple[Plane, ...]:
        """The planes in a slot: views of it, or copies where many are kept already. Raises ValueError, KeyError."""
        slot = self._slots[number]
        if sum(other[0] == LENT for other in self._slots.values()) >= MOST_LENT:
            copies = tuple(plane.copy() for plane in _planes(slot, shapes))
            slot[0] = FREE
            return copies
        slot[0] = LENT
        pixels = np.frombuffer(slot, np.uint8)
        # Every view of the pixels, and every view of such a view, refers to this array.
        weakref.finalize(pixels, _give_back, slot).atexit = False
        return _planes(pixels, shapes)


def _give_back(slot: mmap.mmap) -> None:
    """Called by whatever thread lets go of the picture: takes no lock, and asks the system for nothing."""
    slot[0] = FREE


def _file(size: int) -> int:
    """Raises OSError where there is no memory for it: later, that would end the process."""
    fd = os.memfd_create("sightwire-picture", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    try:
        os.posix_fallocate(fd, 0, size)
        fcntl.fcntl(fd, fcntl.F_ADD_SEALS, _SEALS)
    except BaseException:
        os.close(fd)
        raise
    return fd


def _planes(slot: Any, shapes: Sequence[tuple[int, ...]]) -> tuple[Plane, ...]:
    """Views of a slot's pixels, one plane after another, rows not padded."""
    pixels = slot if isinstance(slot, np.ndarray) else np.frombuffer(slot, np.uint8)
    planes, at = [], HEADER
    for shape in shapes:
        end = at + math.prod(shape)
        planes.append(pixels[at:end].reshape(shape))
        at = end
    return tuple(planes)
