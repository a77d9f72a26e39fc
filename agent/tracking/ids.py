"""The numbers of the objects of an agent: no two cameras share one, and none is given twice."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable
from functools import partial

import numpy as np
from numpy.typing import NDArray

NextIds = Callable[[int], NDArray[np.int64]]
"""Count -> so many new ids, ascending, (count,)."""


class TrackIds:
    """Of n cameras each has the numbers that leave a remainder of its own when divided by n.

    So a recording's are the same each time, whatever the others see. A camera that is gone keeps its remainder, for it
    may come back; with one that is new, all go on above whatever was given, divided anew. Any thread.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._step = 1
        self._next: dict[str, int] = {}

    def share(self, cameras: Iterable[str]) -> None:
        """From now on among these, too."""
        with self._lock:
            names = list(dict.fromkeys([*self._next, *cameras]))
            if len(names) == len(self._next):
                return
            given, self._step = max(self._next.values(), default=1) - 1, len(names)
            base = -(-given // self._step) * self._step
            self._next = {name: base + place for place, name in enumerate(names, 1)}

    def of(self, camera: str) -> NextIds:
        """Where that camera gets its ids, once it was among those of `share`."""
        return partial(self._take, camera)

    def _take(self, camera: str, count: int) -> NDArray[np.int64]:
        with self._lock:
            first = self._next[camera]
            self._next[camera] += self._step * count
            return first + self._step * np.arange(count, dtype=np.int64)


def counted() -> NextIds:
    """1, 2, 3, ...: of a camera that is alone."""
    ids = TrackIds()
    ids.share([""])
    return ids.of("")
