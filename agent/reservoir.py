"""A fair sample of everything that a camera has ever shown, in a folder, never larger than was said.

Algorithm R (Vitter, "Random Sampling with a Reservoir", ACM TOMS 11(1), 1985): of n candidates so far each is among
the kept with probability limit / n. The n is kept beside the pictures, so that it holds across restarts.

Each picture lies in a place, `dock-00001.planes.png`, and is replaced by renaming another onto it: whenever the agent
is killed, every place has one whole picture or none.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import random
import re
from collections.abc import Mapping
from pathlib import Path

from engines.stored import SUFFIX

log = logging.getLogger(__name__)

SCHEMA = "sightwire.collected/1"
MOST = 2**53
"""Candidates: up to here a float tells them apart, which at a thousand a second takes 285,000 years."""


class Reservoir:
    """The pictures of one camera. Belongs to one thread. What touches the folder raises OSError."""

    def __init__(self, folder: Path, camera: str, limit: int) -> None:
        self.limit = limit
        self.considered = 0
        """Candidates so far, in the agent's life."""
        self.camera = camera
        self._folder = folder
        self._count, self._part = folder / f".{camera}.json", folder / f".{camera}.part"
        self._named = re.compile(rf"{re.escape(camera)}-(\d*[1-9]\d*){re.escape(SUFFIX)}")
        self._kept: dict[int, int] = {}
        self._saved: int | None = None

    @property
    def kept(self) -> Mapping[int, int]:
        """Place, from 1 -> bytes of the picture in it."""
        return self._kept

    def standing(self) -> dict[str, int]:
        """How many are kept, of how many, and their size."""
        return {
            "kept": len(self._kept),
            "limit": self.limit,
            "bytes": sum(self._kept.values()),
            "candidates": self.considered,
        }

    def open(self) -> None:
        """Make the folder if it is not there, and look."""
        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        self.look()

    def look(self) -> None:
        """See what the folder holds. A picture too many, of a higher limit, is deleted.

        Where no picture is left, the count begins anew: whoever empties the folder wants other pictures.
        """
        self._part.unlink(missing_ok=True)
        self._kept, self._saved = {}, None
        for path in self._folder.iterdir():
            match = self._named.fullmatch(path.name)
            if match and path == self._path(int(match[1])):
                with contextlib.suppress(FileNotFoundError):  # somebody deletes it just now
                    self._kept[int(match[1])] = path.stat().st_size
        if self._kept:
            self.considered = max(self.considered, self._stated(), len(self._kept))
        else:
            self._count.unlink(missing_ok=True)
            self.considered = 0
        self._shrink()

    def place(self, chance: float) -> int | None:
        """Where the next candidate belongs; None: nowhere. `chance`, uniform in [0, 1), is drawn once a candidate."""
        number = self.considered + 1
        if number <= self.limit:
            return next(place for place in range(1, self.limit + 1) if place not in self._kept)
        drawn = int(chance * number) + 1
        return drawn if drawn <= self.limit else None

    def put(self, place: int, picture: bytes, captured_ns: int) -> None:
        """Write the next candidate into its place; the file's time is when it was captured, Unix ns."""
        self._write(self._path(place), picture, captured_ns)
        self._kept[place] = len(picture)
        self.considered += 1

    def pass_over(self) -> None:
        """The next candidate is not kept."""
        self.considered += 1

    def save(self) -> None:
        """Write the count, if it is another than the file says."""
        if self.considered != self._saved:
            self._write(self._count, json.dumps({"schema": SCHEMA, "considered": self.considered}).encode() + b"\n")
            self._saved = self.considered

    def _stated(self) -> int:
        """The count that was written; 0 where there is none, or none that can be read."""
        try:
            stated = json.loads(self._count.read_bytes())
            count = stated["considered"]
            if stated["schema"] != SCHEMA or type(count) is not int or not 0 <= count <= MOST:
                raise ValueError("of another kind")
        except FileNotFoundError:
            return 0
        except (ValueError, KeyError, TypeError, RecursionError):
            log.warning(
                "%s: damaged; the count of %s's candidates begins anew, its pictures stay", self._count, self.camera
            )
            return 0
        return count

    def _shrink(self) -> None:
        """Down to the limit. Which ones go is drawn: the places of a sample that was never full are in time order."""
        for place in random.sample(sorted(self._kept), max(0, len(self._kept) - self.limit)):
            self._path(place).unlink(missing_ok=True)
            del self._kept[place]
        free = (place for place in range(1, self.limit + 1) if place not in self._kept)
        for place in [place for place in self._kept if place > self.limit]:
            to = next(free)
            self._path(place).replace(self._path(to))
            self._kept[to] = self._kept.pop(place)

    def _path(self, place: int) -> Path:
        return self._folder / f"{self.camera}-{place:05}{SUFFIX}"

    def _write(self, path: Path, data: bytes, time_ns: int | None = None) -> None:
        """All of it or nothing, readable by the owner alone, also after a power cut."""
        self._part.unlink(missing_ok=True)
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
        try:
            with os.fdopen(os.open(self._part, flags, 0o600), "wb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            if time_ns is not None:
                os.utime(self._part, ns=(time_ns, time_ns))
            self._part.replace(path)
        except OSError:
            with contextlib.suppress(OSError):
                self._part.unlink()
            raise
