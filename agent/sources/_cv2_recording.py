"""Reading video files through OpenCV."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from threading import Event
from typing import Any

from agent.errors import SourceError
from agent.sources import Intake, Pictures
from agent.sources._cv2 import MOST_FAILURES, bgr_image, fourcc, too_large
from agent.sources._recording import Pace, paced, played, recorded
from engines.pixels import Image
from engines.quiet import quiet_opencv


class Recording:
    """A video file, over and over if it loops. `rate`: frames a second, where the file does not say."""

    def __init__(self, path: Path, rate: float, intake: Intake, *, pace: Pace, loop: bool) -> None:
        self._cv2 = quiet_opencv()
        self._path, self._intake, self._pace, self._loop = path, intake, pace, loop
        self._capture = self._open()
        said = self._capture.get(self._cv2.CAP_PROP_FPS)
        rate = said if 0 < said < 1000 else rate
        self._frame_ns = round(1e9 / rate)
        intake.facts.update(codec=fourcc(self._capture.get(self._cv2.CAP_PROP_FOURCC)), rate=f"{rate:g}")

    def close(self) -> None:
        """Close the file; pictures already read stay valid."""
        self._capture.release()

    def pictures(self, stop: Event) -> Pictures:
        """Every picture, or in real time."""
        again = self._again if self._loop else None
        frames = played(self._once, again, stop, str(self._path), self._frame_ns)
        return paced(frames, stop) if self._pace == "live" else recorded(frames, self._path.stat().st_mtime_ns)

    def _open(self) -> Any:
        cv2 = self._cv2
        # The prefix keeps FFmpeg from taking a name such as `a:b.mp4` for a protocol.
        threads = [cv2.CAP_PROP_N_THREADS, 1]  # the engines have the other cores
        capture = cv2.VideoCapture(f"file:{self._path}", cv2.CAP_FFMPEG, threads)
        if not capture.isOpened():
            capture.release()
            raise SourceError(f"{self._path}: cannot be opened: {self._why_not()}")
        if why := too_large(capture):
            capture.release()
            raise SourceError(f"{self._path}: {why}")
        return capture

    def _why_not(self) -> str:
        try:
            with self._path.open("rb"):
                return "has no video in it that can be decoded"
        except (OSError, ValueError) as error:  # ValueError: a name that can be none
            return getattr(error, "strerror", None) or str(error)

    def _again(self) -> None:
        self._capture.release()
        self._capture = self._open()

    def _once(self, stop: Event) -> Iterator[tuple[int, Image]]:
        index = failures = 0
        while not stop.is_set() and failures < MOST_FAILURES:
            whole, plane = self._capture.read()
            if not whole:
                failures += 1
                continue
            if failures:
                self._intake.skip(f"{self._path}: a picture cannot be decoded", failures)
            index, failures = index + failures, 0
            position_ms = self._capture.get(self._cv2.CAP_PROP_POS_MSEC)
            position_ns = round(position_ms * 1e6) if position_ms >= 0 else index * self._frame_ns
            yield position_ns, bgr_image(plane, self._intake)
            index += 1
