"""The loop of a source's thread: open, read, offer; on a fault say so, wait and try again."""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from agent.camera import Camera, State
from agent.clips.tap import PacketTap
from agent.errors import ConfigError, Refused, SourceError
from agent.frame import Frame
from agent.sources import Intake, SourceConfig
from agent.supervision.progress import Progress
from agent.workers import Backoff

log = logging.getLogger(__name__)

ENABLED_LOOK_S = 0.1
"""How often the thread of a disabled camera looks whether it is enabled again."""


class Capture:
    """Reads one source for the cameras that look at it; `run` is the thread's work."""

    def __init__(self, source: SourceConfig, cameras: Sequence[Camera], tap: PacketTap | None = None) -> None:
        self._source, self._cameras, self._tap = source, list(cameras), tap
        self._names = ", ".join(camera.name for camera in cameras)
        self._seq = 0
        self.progress = Progress()
        self._complained = self._skip_said = ""
        self._noted = 0
        """How many of the open connection's unreadable frames are counted."""

    def run(self, stop: threading.Event) -> None:
        """Until `stop`, or until a recording is at its end."""
        backoff, refused = Backoff(0.5, 10), Backoff(60, 600)
        while self._wait_enabled(stop):
            self._say("connecting")
            before = self._seq
            try:
                at_its_end = self._read(stop)
            except (SourceError, ConfigError) as error:  # a password file may be away for a moment, as a camera may
                self._complain(error)
                if stop.is_set():
                    return
                if self._seq > before:
                    backoff.reset()
                self._say("lost", str(error))
                # A camera that refuses us may lock the account after a few tries.
                stop.wait((refused if isinstance(error, Refused) else backoff).next_s())
            else:
                if at_its_end:
                    self._say("ended")
                    return
                if not stop.is_set():
                    self._say("connecting")  # is what a camera says first that is enabled again

    def _wait_enabled(self, stop: threading.Event) -> bool:
        """Wait while none of its cameras is enabled; False once `stop` is set."""
        while not self._enabled():
            if stop.wait(ENABLED_LOOK_S):
                return False
        return not stop.is_set()

    def _enabled(self) -> bool:
        """Whether frames are wanted. A recording is read on: opened again, it would begin anew."""
        return self._source.lossless or any(camera.enabled for camera in self._cameras)

    def _read(self, stop: threading.Event) -> bool:
        """Read until the source is at its end (True), `stop` is set, or no camera wants it any more (False)."""
        intake, self._noted = Intake(tap=self._tap), 0
        intake.skipped = lambda: self._note_unreadable(intake)
        with self._tapped(), self._source.open(stop, intake) as pictures:
            first = True
            for captured, image in pictures:
                if first:
                    first = False
                    self._complained = self._skip_said = ""
                    self._say("streaming", facts=intake.facts)
                    log.info("%s: streaming %s", self._names, self._source.label)
                if self._tap:
                    self._tap.picture(captured, image.size)
                for camera in self._cameras:
                    camera.offer(Frame(camera.name, self._seq, captured, image))
                self._seq += 1
                self._note_unreadable(intake)  # a source of others may count without a call
                if stop.is_set() or not self._enabled():
                    return False
        self._note_unreadable(intake)
        return not stop.is_set()

    @contextmanager
    def _tapped(self) -> Iterator[None]:
        try:
            yield
        finally:
            if self._tap:
                self._tap.closed()

    def _note_unreadable(self, intake: Intake) -> None:
        """Count what could not be read since the last call, and say the first of a connection."""
        count, before = intake.unreadable - self._noted, self._noted
        if not count:
            return
        self._noted = intake.unreadable
        for camera in self._cameras:
            camera.unreadable_frames += count
        # What is tried again and again fails in the same words.
        if not before and str(intake.last_error) != self._skip_said:
            self._skip_said = str(intake.last_error)
            log.warning("%s: a frame cannot be read and is skipped: %s", self._names, intake.last_error)

    def _say(self, state: State, reason: str | None = None, facts: dict[str, str] | None = None) -> None:
        for camera in self._cameras:
            camera.say(state, reason, facts)

    def _complain(self, error: Exception) -> None:
        if str(error) != self._complained:
            self._complained = str(error)
            log.warning("%s: %s; trying again", self._names, error)
