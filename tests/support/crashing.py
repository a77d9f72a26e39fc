"""A source that does to its process what bad decoders do."""

from __future__ import annotations

import ctypes
import logging
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import Event
from typing import Literal

from agent.errors import ConfigError, Refused
from agent.frame import Timestamp
from agent.sources import Intake, Pictures, SourceConfig, Times
from agent.sources.synthetic import picture
from engines.pixels import Image

Way = Literal["goes on", "crashes", "hangs", "refused", "misconfigured", "raises", "changes its size", "skips", "exits"]


class Config(SourceConfig):
    """Gives `good` pictures, and then has its way."""

    way: Way = "goes on"
    good: int = 3
    password: str = "hunter2"

    @property
    def label(self) -> str:
        """See SourceConfig."""
        return "crashing"

    @property
    def times(self) -> Times | None:
        """See SourceConfig."""
        return Times(5.0, 0.5, 60.0)

    @contextmanager
    def open(self, stop: Event, intake: Intake) -> Iterator[Pictures]:
        """See SourceConfig."""
        logging.getLogger("agent.sources.crashing").warning("opening rtsp://me:%s@camera/", self.password)
        if self.way == "refused":
            raise Refused(f"{self.label}: wants another password")
        if self.way == "misconfigured":
            raise ConfigError("/absent: cannot be read")
        intake.facts["folder"] = str(Path.cwd())
        yield self._pictures(stop, intake)

    def _pictures(self, stop: Event, intake: Intake) -> Pictures:
        for number in range(self.good):
            yield _live(number, 320)
        if self.way == "crashes":
            ctypes.string_at(0)
        elif self.way == "hangs":
            ctypes.PyDLL(None).pause()  # with Python's lock in its hand, as none of its threads can be asked to end
        elif self.way == "raises":
            raise RuntimeError(f"no such thing:\nrtsp://me:{self.password}@camera/")
        elif self.way == "exits":
            os._exit(3)
        elif self.way == "skips":
            for _ in range(5):
                intake.skip("damaged")
            yield _live(0, 320)
        elif self.way == "changes its size":
            for number, width in enumerate((640, 320, 640, 320) * 4):
                yield _live(number, width)
        while self.way == "goes on" and not stop.wait(0.02):
            yield _live(0, 320)


def _live(number: int, width: int) -> tuple[Timestamp, Image]:
    now_ns = time.monotonic_ns()
    return Timestamp(time.time_ns(), now_ns, "receive", time.time_ns()), picture(number, width, 48, "i420")
