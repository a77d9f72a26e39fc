"""What is kept on disk of a camera, pictures or clips: files of ours in a folder, bounded, while it can be used."""

from __future__ import annotations

import contextlib
import logging
import os
import re
import stat
import time
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import Any

log = logging.getLogger(__name__)


class Shelf:
    """Files of one camera, named after incidents. Belongs to one thread. What touches the folder raises OSError.

    A file is there whole or not at all, but for what a power cut takes: nothing waits for the disk. Whatever has
    another name than ours is left alone.
    """

    def __init__(
        self, folder: Path, camera: str, suffixes: tuple[str, ...], limit: int, max_bytes: int, max_age_s: float
    ) -> None:
        self.folder = folder
        self._limit, self._max_bytes, self._max_age_s = limit, max_bytes, max_age_s
        ends = "|".join(re.escape(suffix) for suffix in suffixes)
        self._ours = re.compile(rf"([0-9a-f]{{8}}|asked)-{re.escape(camera)}-\d+({ends})")
        self._kept: OrderedDict[str, tuple[int, float]] = OrderedDict()
        """Name -> bytes and Unix time, oldest first."""
        self._bytes = 0

    def standing(self) -> dict[str, int]:
        """How many files there are, and their size."""
        return {"files": len(self._kept), "bytes": self._bytes}

    def open(self) -> None:
        """Make the folder if it is not there, look what earlier runs left, and remove what is too much or half."""
        self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        found: list[tuple[float, str, int]] = []
        for entry in os.scandir(self.folder):
            if entry.name.startswith(".") and self._is_ours(entry.name[1:].removesuffix(".part")):
                Path(entry.path).unlink()
            elif self._is_ours(entry.name):
                with contextlib.suppress(FileNotFoundError):  # somebody deletes it just now
                    facts = entry.stat(follow_symlinks=False)
                    if stat.S_ISREG(facts.st_mode):
                        found.append((facts.st_mtime, entry.name, facts.st_size))
        self._kept = OrderedDict((name, (size, at)) for at, name, size in sorted(found))
        self._bytes = sum(size for size, _ in self._kept.values())
        self.trim()

    def part(self, name: str) -> Path:
        """Where a file is written until it is whole."""
        return self.folder / f".{name}.part"

    def write(self, name: str, data: bytes) -> None:
        """Keep a file of that content; in place of the one of that name, if there is one."""
        part = self.part(name)
        try:
            with os.fdopen(os.open(part, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600), "wb") as file:
                file.write(data)
        except OSError:
            self.give_up(name)
            raise
        self.finish(name)

    def finish(self, name: str) -> None:
        """What was written to `part(name)` is whole: keep it."""
        part = self.part(name)
        size = part.stat().st_size
        part.replace(self.folder / name)
        before, _ = self._kept.pop(name, (0, 0.0))
        self._kept[name] = (size, time.time())
        self._bytes += size - before
        self.trim()

    def give_up(self, name: str) -> None:
        """What was written to `part(name)` is of no use."""
        with contextlib.suppress(OSError):
            self.part(name).unlink()

    def trim(self) -> None:
        """Delete the oldest until the rest is within all limits."""
        oldest = time.time() - self._max_age_s
        while self._kept:
            name, (size, at) = next(iter(self._kept.items()))
            if len(self._kept) <= self._limit and self._bytes <= self._max_bytes and at >= oldest:
                return
            (self.folder / name).unlink(missing_ok=True)
            del self._kept[name]
            self._bytes -= size

    def _is_ours(self, name: str) -> bool:
        return self._ours.fullmatch(name) is not None


class FolderState:
    """Whether a folder can be used, and why not; each change is logged once, and told."""

    def __init__(self, where: str, what: str, folder: Path, on_state: Callable[[], None]) -> None:
        """`where`: who speaks in the log; `what` is kept there: `clip`. `on_state`: the state has changed."""
        self._reason: str | None = None
        self._where, self._what, self._folder, self._on_state = where, what, folder, on_state

    def failed(self, error: OSError) -> None:
        """It cannot be used."""
        what = "is not a folder" if isinstance(error, FileExistsError) else (error.strerror or str(error)).lower()
        self.say(f"{self._folder}: {what}")

    def say(self, reason: str | None) -> None:
        """Why nothing can be kept; None: it can be."""
        if reason == self._reason:
            return
        self._reason = reason
        if reason:
            log.warning("%s: no %s can be kept: %s; trying again", self._where, self._what, reason)
        else:
            log.info("%s: %ss are kept in %s again", self._where, self._what, self._folder)
        self._on_state()

    def told(self, well: str = "keeping") -> dict[str, Any]:
        """For the agent's status."""
        reason = self._reason
        return {"folder": str(self._folder), "state": "failing" if reason else well, "reason": reason}


class Keeper:
    """A shelf that is opened at its first use, and anew after it failed. `attempt` is called by one thread."""

    def __init__(self, shelf: Shelf, state: FolderState) -> None:
        self.shelf, self.state = shelf, state
        self.standing = shelf.standing()
        """Of the shelf, for other threads; replaced, never changed."""
        self._open = False

    def attempt(self, act: Callable[[Shelf], None]) -> bool:
        """Do something with the shelf; False, and said once, where it fails."""
        try:
            if not self._open:
                self.shelf.open()
                self._open = True
            act(self.shelf)
        except OSError as error:
            self._open = False  # it may be another folder when it is back
            self.state.failed(error)
            return False
        finally:
            self.standing = self.shelf.standing()
        self.state.say(None)
        return True
