"""Reading video files and numbered pictures through OpenCV."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from threading import Event
from typing import Any

from agent.errors import SourceError
from agent.sources import Intake, Pictures
from agent.sources._cv2 import MOST_FAILURES, bgr_image, fourcc, quiet
from agent.sources._recording import Pace, paced, recorded
from agent.sources._shorthand import NUMBERED
from engines.pixels import Image


class Recording:
    """A file or numbered pictures, over and over if it loops. `rate`: of numbered pictures."""

    def __init__(self, path: Path, rate: float, intake: Intake, *, pace: Pace, loop: bool) -> None:
        self._cv2 = quiet()
        self._path, self._intake, self._pace, self._loop = path, intake, pace, loop
        self._numbered = NUMBERED.search(path.name) is not None
        self._capture = self._open()
        said = self._capture.get(self._cv2.CAP_PROP_FPS)
        self._rate = rate if self._numbered or not 0 < said < 1000 else said
        letters = self._capture.get(self._cv2.CAP_PROP_FOURCC)
        codec = path.suffix[1:].lower() if self._numbered else fourcc(letters)
        intake.facts.update(codec=codec, rate=f"{self._rate:g}")

    def close(self) -> None:
        """Close the file; pictures already read stay valid."""
        self._capture.release()

    def pictures(self, stop: Event) -> Pictures:
        """Every picture, or in real time."""
        frames = self._frames(stop)
        if self._pace == "live":
            return paced(frames, stop)
        written = self._path.parent if self._numbered else self._path
        return recorded(frames, written.stat().st_mtime_ns)

    def _open(self) -> Any:
        cv2 = self._cv2
        if self._numbered:
            capture = cv2.VideoCapture(str(self._path), cv2.CAP_IMAGES)
        else:
            # The prefix keeps FFmpeg from taking a name such as `a:b.mp4` for a protocol.
            threads = [cv2.CAP_PROP_N_THREADS, 1]  # the engines have the other cores
            capture = cv2.VideoCapture(f"file:{self._path}", cv2.CAP_FFMPEG, threads)
        if not capture.isOpened():
            capture.release()
            raise SourceError(f"{self._path}: {self._why_not()}")
        return capture

    def _why_not(self) -> str:
        if self._numbered:
            return "cannot be opened: no such pictures"
        try:
            with self._path.open("rb"):
                return "cannot be opened: has no video in it that can be decoded"
        except OSError as error:
            return f"cannot be opened: {error.strerror}"

    def _frames(self, stop: Event) -> Iterator[tuple[int, Image]]:
        """(position in ns, picture); positions go on over loops."""
        base_ns, last_ns, frame_ns = 0, -1, round(1e9 / self._rate)
        while not stop.is_set():
            before_ns = last_ns
            for position_ns, image in self._once(stop, frame_ns):
                # A file whose stamps jump back must not make time go back.
                last_ns = max(base_ns + position_ns, last_ns + 1)
                yield last_ns, image
            if last_ns == before_ns and not stop.is_set():
                raise SourceError(f"{self._path}: no frame of it can be decoded")
            if not self._loop:
                return
            base_ns = last_ns + frame_ns
            self._capture.release()
            self._capture = self._open()

    def _once(self, stop: Event, frame_ns: int) -> Iterator[tuple[int, Image]]:
        index = failures = 0
        while not stop.is_set() and failures < MOST_FAILURES:
            whole, plane = self._capture.read()
            index += 1
            if not whole:
                failures += 1
                continue
            if failures:
                self._intake.unreadable += failures
                self._intake.last_error = f"{self._path}: {failures} pictures cannot be decoded"
                failures = 0
            said_ms = -1.0 if self._numbered else self._capture.get(self._cv2.CAP_PROP_POS_MSEC)
            yield round(said_ms * 1e6) if said_ms >= 0 else (index - 1) * frame_ns, bgr_image(plane, self._intake)
