"""Frames of a video or of a camera for commands that calibrate and compare: chosen here, stored by who asks."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime, timezone
from pathlib import Path
from typing import TYPE_CHECKING

from agent.errors import SourceError

if TYPE_CHECKING:
    from agent.frame import Timestamp
    from agent.sources import SourceConfig
    from engines.pixels import Image

_SILENT_S = 15.0
"""A camera that brings no picture for so long is given up; a key frame may take ten seconds."""

_LONGEST_NAME = 100
"""Letters: names of files end at 255 bytes."""


@contextmanager
def video_frames(path: Path, count: int) -> Iterator[Iterator[tuple[str, Image]]]:
    """At most `count` frames, evenly spread over a video file: the same ones each time.

    Each comes with a name that is one of a file: the video's and the frame's number, from 0. Raises SourceError.
    """
    from agent.sources import Intake
    from agent.sources.file import Config

    source = Config(path=path)
    total = max(1, source.frames())
    chosen = min(count, total)
    name = path.stem.lstrip(".")[:_LONGEST_NAME]
    with source.open(threading.Event(), Intake()) as pictures:
        yield (
            (f"{name}-{index:06}", image)
            for index, (_, image) in enumerate(pictures)
            if (index + 1) * chosen // total > index * chosen // total
        )


@contextmanager
def camera_frames(
    source: SourceConfig, every_s: float, silent_s: float = _SILENT_S
) -> Iterator[Iterator[tuple[str, Image]]]:
    """Frames of a camera, at least `every_s` seconds apart, without end.

    Each comes with the time at which it was taken for a name. Raises SourceError where the camera cannot be opened or
    read, and where it brings no picture for `silent_s`; never with credentials.
    """
    from agent.sources import Intake

    with _Watch(silent_s) as watch, source.open(watch.stop, Intake()) as pictures:
        yield _each(pictures, every_s, source.label, watch)


def camera_source(text: str) -> SourceConfig:
    """The source that a text stands for in a configuration. Raises SourceError where it stands for none."""
    from pydantic import ValidationError

    from agent.secrets import redact
    from agent.sources import SourceConfig
    from agent.sources._shorthand import from_text
    from engines.parts import find_part

    try:
        mapping = from_text(text)
        part = find_part("agent.sources", "sightwire.sources", mapping["type"])
        source = None if part is None else part.model_validate(mapping)
    except ValidationError as error:
        raise SourceError(f"{redact(text)}: {redact(error.errors()[0]['msg'])}") from None
    except ValueError as error:
        raise SourceError(f"{redact(text)}: {redact(str(error))}") from None
    if not isinstance(source, SourceConfig):
        raise SourceError(f"{redact(text)}: names no camera that can be read here")
    return source


def _each(
    pictures: Iterator[tuple[Timestamp, Image]], every_s: float, label: str, watch: _Watch
) -> Iterator[tuple[str, Image]]:
    due_ns = None
    watch.wait_for_it()
    for captured, image in pictures:
        if due_ns is None or captured.monotonic_ns >= due_ns:
            due_ns = captured.monotonic_ns + round(every_s * 1e9)
            watch.pause()
            yield _stamp(captured.wall_ns), image
        watch.wait_for_it()
    if watch.stop.is_set():
        raise SourceError(f"{label}: the camera has sent no picture for {watch.silent_s:g} s; do others see one?")


def _stamp(wall_ns: int) -> str:
    return datetime.fromtimestamp(wall_ns / 1e9, timezone.utc).strftime("%Y%m%dT%H%M%S.%fZ")


class _Watch:
    """Sets `stop` when a picture is waited for in vain: sources without a timeout of their own would wait for ever."""

    def __init__(self, silent_s: float) -> None:
        self.stop, self.silent_s = threading.Event(), silent_s
        self._done = threading.Event()
        self._since_s: float | None = None
        self._thread = threading.Thread(target=self._run, name="camera-watch", daemon=True)

    def __enter__(self) -> _Watch:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop.set()
        self._done.set()
        self._thread.join()

    def wait_for_it(self) -> None:
        """From now on, the next picture is waited for."""
        self._since_s = time.monotonic()

    def pause(self) -> None:
        """A picture is being looked at, for as long as it takes."""
        self._since_s = None

    def _run(self) -> None:
        while not self._done.wait(self.silent_s / 10):
            since_s = self._since_s
            if since_s is not None and time.monotonic() - since_s >= self.silent_s:
                self.stop.set()
                return
