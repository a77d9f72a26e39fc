"""The part of a file that has come so far: kept between tries, written by one process at a time."""

from __future__ import annotations

import fcntl
import json
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from engines.errors import FetchError

_PREFIX = ".download-"
_KEPT_S = 7 * 24 * 3600


class Partial:
    """The first bytes of a file, and beside them a note of the URL and version they are of."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._note = path.with_name(f"{path.name}.from")

    @property
    def length(self) -> int:
        """Bytes that have come."""
        return self.path.stat().st_size if self.path.is_file() else 0

    def version(self, url: str) -> str | None:
        """Return what was noted of the bytes, if they are of this URL and anything was."""
        try:
            note = json.loads(self._note.read_text(encoding="utf-8"))
            return str(note["version"]) if note["url"] == url and note["version"] else None
        except (OSError, ValueError, KeyError, TypeError):
            return None

    def note(self, url: str, version: str | None) -> None:
        """Note which version of which URL's file is being written."""
        self._note.write_text(json.dumps({"url": url, "version": version}), encoding="utf-8")

    def complete(self) -> None:
        """Need the note no more."""
        self._note.unlink(missing_ok=True)

    def empty(self) -> None:
        """Start over; in place, since the lock is on the file."""
        self.path.open("wb").close()
        self._note.unlink(missing_ok=True)

    def remove(self) -> None:
        """Leave nothing."""
        self.path.unlink(missing_ok=True)
        self._note.unlink(missing_ok=True)


def _nobody() -> None:
    """Tell nobody that we wait."""


@contextmanager
def reserve(folder: Path, sha256: str, waiting: Callable[[], None] = _nobody) -> Iterator[Partial]:
    """Yield the place in `folder` for a file, while no other process has it; `waiting` is called if one has it now.

    What has come stays for the next try if the block raises FetchError or is interrupted, for a week; else it goes.
    """
    folder.mkdir(parents=True, exist_ok=True)
    for stale in folder.glob(f"{_PREFIX}*"):
        with suppress(FileNotFoundError):
            if time.time() - stale.stat().st_mtime > _KEPT_S:
                stale.unlink()
    partial = Partial(folder / f"{_PREFIX}{sha256[:16]}")
    with _locked(partial.path, waiting):
        try:
            yield partial
        except (FetchError, KeyboardInterrupt):
            if partial.length == 0:
                partial.remove()
            raise
        except BaseException:
            partial.remove()
            raise
        partial.remove()


@contextmanager
def _locked(path: Path, waiting: Callable[[], None]) -> Iterator[None]:
    """Hold the lock of a file that its last holder may have removed while we waited."""
    while True:
        with path.open("ab") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                waiting()
                fcntl.flock(file, fcntl.LOCK_EX)
            if _is_at(path, file.fileno()):
                yield
                return


def _is_at(path: Path, descriptor: int) -> bool:
    try:
        return os.path.samestat(path.stat(), os.fstat(descriptor))
    except FileNotFoundError:
        return False
