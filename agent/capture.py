"""The loop of a camera's thread: open, read, offer; on a fault say so, wait and try again."""

from __future__ import annotations

import logging
import threading

from agent.camera import Camera
from agent.errors import ConfigError, Refused, SourceError
from agent.frame import Frame
from agent.sources import Intake, SourceConfig
from agent.workers import Backoff

log = logging.getLogger(__name__)


class Capture:
    """Reads one source for one camera; `run` is the thread's work."""

    def __init__(self, source: SourceConfig, camera: Camera) -> None:
        self._source, self._camera = source, camera
        self._seq = 0
        self._complained = ""

    def run(self, stop: threading.Event) -> None:
        """Until `stop`, or until a recording is at its end."""
        backoff, refused = Backoff(0.5, 10), Backoff(60, 600)
        while not stop.is_set():
            self._camera.say("connecting")
            before = self._seq
            try:
                self._read(stop)
            except (SourceError, ConfigError) as error:  # a password file may be away for a moment, as a camera may
                self._complain(error)
                if stop.is_set():
                    return
                if self._seq > before:
                    backoff.reset()
                self._camera.say("lost", str(error))
                # A camera that refuses us may lock the account after a few tries.
                stop.wait((refused if isinstance(error, Refused) else backoff).next_s())
            else:
                if not stop.is_set():
                    self._camera.say("ended")
                return

    def _read(self, stop: threading.Event) -> None:
        intake = Intake()
        unreadable = self._camera.unreadable_frames
        with self._source.open(stop, intake) as pictures:
            first = True
            for captured, image in pictures:
                if first:
                    first = False
                    self._camera.connects += 1
                    self._complained = ""
                    self._camera.say("streaming", facts=intake.facts)
                    log.info("%s: streaming %s", self._camera.name, self._source.label)
                self._camera.offer(Frame(self._camera.name, self._seq, captured, image))
                self._seq += 1
                if intake.unreadable and self._camera.unreadable_frames != unreadable + intake.unreadable:
                    self._note_unreadable(intake, unreadable)
                if stop.is_set():
                    return
        if intake.unreadable:
            self._note_unreadable(intake, unreadable)

    def _note_unreadable(self, intake: Intake, before: int) -> None:
        if self._camera.unreadable_frames == before:
            log.warning("%s: a frame cannot be read and is skipped: %s", self._camera.name, intake.last_error)
        self._camera.unreadable_frames = before + intake.unreadable

    def _complain(self, error: Exception) -> None:
        if str(error) != self._complained:
            self._complained = str(error)
            log.warning("%s: %s; trying again", self._camera.name, error)
