"""What a run has found out so far, so that one that was interrupted goes on where it stopped."""

from __future__ import annotations

import fcntl
import hashlib
import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from calibration.errors import CalibrationError

_FILE = "journal.jsonl"


def key_of(*parts: object) -> str:
    """Hex sha256 of what something depends on: JSON values."""
    text = json.dumps(parts, sort_keys=True, default=list)
    return hashlib.sha256(text.encode()).hexdigest()


class Journal:
    """Answers by key, in a file of the folder of a run. All that a run depends on must be in the folder's name."""

    def __init__(self, folder: Path) -> None:
        """Raise CalibrationError where the folder cannot be used."""
        self.folder = folder
        self._path = folder / _FILE
        try:
            folder.mkdir(parents=True, exist_ok=True)
            self._known = dict(_entries(self._path))
        except OSError as error:
            raise CalibrationError(f"{folder}: cannot keep the run's journal there ({error.strerror})") from None
        self.resumed = len(self._known)
        """Answers that an earlier run left."""

    def answer(self, key: str, work: Callable[[], Any]) -> Any:
        """What `work` gives, a JSON value; from the journal where it is known. Raises CalibrationError, disk full."""
        if key not in self._known:
            value = json.loads(json.dumps(work()))
            self._known[key] = value
            try:
                with self._path.open("a", encoding="utf-8") as file:
                    file.write(json.dumps([key, value]) + "\n")
            except OSError as error:
                raise CalibrationError(f"{self._path}: cannot be written ({error.strerror}): make room there") from None
        return self._known[key]


@contextmanager
def alone(folder: Path) -> Iterator[None]:
    """Have a folder to oneself, made if it is not there: two runs would take each other's files for their own.

    Raises CalibrationError where another process has it, and where it cannot be used.
    """
    path = folder / ".lock"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock = path.open("w")
    except OSError as error:
        raise CalibrationError(f"{folder}: cannot keep a run's work there ({error.strerror})") from None
    with lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise CalibrationError(f"{folder}: another run is at work there; wait until it has ended") from None
        yield


def _entries(path: Path) -> list[tuple[str, Any]]:
    """All whole lines; what a killed run left of its last one is cut off."""
    entries: list[tuple[str, Any]] = []
    if not path.exists():
        return entries
    data = path.read_bytes()
    sound = 0
    for line in data.splitlines(keepends=True):
        try:
            key, value = json.loads(line)
        except (ValueError, TypeError):
            break
        if not line.endswith(b"\n") or not isinstance(key, str):
            break
        entries.append((key, value))
        sound += len(line)
    if sound < len(data):
        with path.open("r+b") as file:
            file.truncate(sound)
    return entries
