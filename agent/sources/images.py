"""Folders of images: all of them in the order of their names, and whatever is put there later."""

from __future__ import annotations

import errno
import os
import re
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from threading import Event
from typing import Literal

from pydantic import Field, model_validator

from agent.errors import SourceError
from agent.frame import Timestamp
from agent.sources import Intake, Pictures, SourceConfig
from agent.sources._exif import taken_ns
from agent.sources._recording import Pace, paced
from engines.errors import PictureError
from engines.picture_files import ENDINGS, read
from engines.pixels import Image

_POLL_S = 0.2
_PATIENCE = 25
"""Looks (five seconds) at a watched file that cannot be decoded and does not change: then it is damaged."""


class Config(SourceConfig):
    """`{type: images, path: inbox, pattern: "*.jpg", watch: true}`, or just the folder."""

    type: Literal["images"] = "images"
    path: Path
    pattern: str = Field(default="*", min_length=1)
    """Which names: of `*`, those that end like an image."""
    recursive: bool = False
    """Folders in it as well."""
    watch: bool = False
    """Go on with what is put there (or written anew) later."""
    pace: Pace = "lossless"
    rate: float = Field(default=1.0, gt=0, le=1000)
    """Images that are a second: of the recording that they make up, and with `pace: live` in reality."""
    loop: bool = False
    """Start again at the end."""

    @model_validator(mode="after")
    def _has_an_end_to_begin_after(self) -> Config:
        if self.watch and self.loop:
            raise ValueError("watch and loop exclude each other: a watched folder has no end")
        return self

    @property
    def lossless(self) -> bool:
        """See SourceConfig."""
        return self.pace == "lossless"

    @property
    def may_be_quiet(self) -> bool:
        """See SourceConfig."""
        return self.watch

    @property
    def label(self) -> str:
        """The folder."""
        return str(self.path)

    @contextmanager
    def open(self, stop: Event, intake: Intake) -> Iterator[Pictures]:
        """See SourceConfig."""
        folder = _Folder(self, intake)
        folder.look()
        yield folder.pictures(stop)


@dataclass
class _Entry:
    """A file as it was when it was last looked at."""

    version: tuple[int, int]
    """Time of the last change, ns, and size in bytes."""
    looks: int = 0
    """How often it has been found unchanged."""
    done: bool = False


class _Folder:
    """What is in a folder, and what of it has been read."""

    def __init__(self, config: Config, intake: Intake) -> None:
        self._config, self._intake = config, intake
        self._known: dict[Path, _Entry] = {}
        self._step_ns = round(1e9 / config.rate)
        intake.facts["rate"] = f"{config.rate:g}"

    def pictures(self, stop: Event) -> Pictures:
        """Each image once it is complete."""
        if self._config.pace == "lossless":
            for position_ns, (written_ns, image) in self._numbered(stop):
                yield Timestamp(written_ns, position_ns, "file", None), image
        else:
            yield from paced(((position_ns, image) for position_ns, (_, image) in self._numbered(stop)), stop)

    def look(self) -> list[Path]:
        """The files that are to be read now, in the order of their names. Raises SourceError."""
        found = self._listed()
        ready = []
        for path, version in found.items():
            entry = self._known.get(path)
            if entry is None or entry.version != version:
                entry = self._known[path] = _Entry(version)
            else:
                entry.looks += 1
            # While watched, a file is complete when it has stopped to change.
            if not entry.done and (entry.looks or not self._config.watch):
                ready.append(path)
        self._known = {path: entry for path, entry in self._known.items() if path in found}
        return sorted(ready, key=_natural)

    def _numbered(self, stop: Event) -> Iterator[tuple[int, tuple[int, Image]]]:
        for index, what in enumerate(self._read(stop)):
            yield index * self._step_ns, what

    def _read(self, stop: Event) -> Iterator[tuple[int, Image]]:
        """(when it was taken, Unix ns; image)"""
        config = self._config
        while not stop.is_set():
            count = 0
            for path in self.look():
                if stop.is_set():
                    return
                if (read := self._image(path)) is not None:
                    count += 1
                    yield read
            if config.watch:
                stop.wait(_POLL_S)
                continue
            if not count and not stop.is_set():
                unreadable = self._intake.last_error
                raise SourceError(
                    f"{config.label}: " + ("no image in it can be read" if unreadable else self._nothing())
                )
            if not config.loop:
                return
            self._known.clear()

    def _nothing(self) -> str:
        which = "that ends like an image" if self._config.pattern == "*" else f"named {self._config.pattern}"
        return f"has no file {which}"

    def _listed(self) -> dict[Path, tuple[int, int]]:
        folder, pattern = self._config.path, self._config.pattern
        found = {}
        try:
            os.scandir(folder).close()  # globbing would pass over a folder that is gone or locked
            for path in folder.rglob(pattern) if self._config.recursive else folder.glob(pattern):
                if pattern == "*" and path.suffix.lower() not in ENDINGS:
                    continue
                try:
                    state = path.stat()
                except OSError as error:
                    if error.errno in (errno.ENOENT, errno.ELOOP):  # gone since, as temporary files are; a dead link
                        continue
                    raise
                if stat.S_ISREG(state.st_mode):
                    found[path] = (state.st_mtime_ns, state.st_size)
        except (OSError, ValueError, NotImplementedError) as error:
            raise SourceError(f"{folder}: cannot be read: {getattr(error, 'strerror', None) or error}") from None
        return found

    def _image(self, path: Path) -> tuple[int, Image] | None:
        """None: not yet, or never."""
        entry = self._known[path]
        try:
            data = path.read_bytes()
        except FileNotFoundError:
            return None
        except OSError as error:
            self._skip(path, entry, f"cannot be read: {error.strerror}")
            return None
        try:
            image = read(data, str(path))
        except PictureError:
            if not self._config.watch or entry.looks >= _PATIENCE:
                self._skip(path, entry, "is damaged, or no image")
            return None
        entry.done = True
        self._intake.facts.update(codec=path.suffix[1:].lower() or "unknown", size="{}x{}".format(*image.size))
        return taken_ns(data) or entry.version[0], image

    def _skip(self, path: Path, entry: _Entry, why: str) -> None:
        entry.done = True
        self._intake.skip(f"{path}: {why}")


def _natural(path: Path) -> list[tuple[int, str]]:
    """img_2 before img_10."""
    return [(int(part), "") if part.isdecimal() else (-1, part) for part in re.split(r"(\d+)", str(path)) if part]
