"""The loop of a source's thread: open, read, offer; on a fault say so, wait and try again.

A thread that hangs in a driver, a decoder or a resolver cannot be ended. It is abandoned: another thread, with a
connection of its own, takes its place (`successor`). When the abandoned one comes back, it finds that out at the first
thing that it would do to the world, and ends; all that it does until then is close what it has opened.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from typing import Any

from agent.camera import Camera, State
from agent.clips.tap import PacketTap
from agent.errors import ConfigError, Refused, SourceError
from agent.frame import Frame
from agent.sources import Intake, Pictures, SourceConfig
from agent.sources._isolated import as_read
from agent.supervision.progress import Progress
from agent.workers import Backoff

log = logging.getLogger(__name__)

ENABLED_LOOK_S = 0.1
"""How often the thread of a disabled camera looks whether it is enabled again."""
CREDENTIALS_LOOK_S = 1.0
"""How often it is looked whether there is another password, while a camera refuses the one that we have."""
MOST_APART_S = 3.0
"""Between the beginnings of two tries: a camera that is back is noticed within five seconds."""
LEAST_WAIT_S = 0.25
REFUSED_S = 60.0, 600.0
"""At least so long is a camera left alone that refuses us: many lock the account after a few tries."""
STEADY_S = 10.0
"""A connection that lasts so long was a good one: after it, the waits are short again."""


class Abandoned(Exception):
    """This thread was given up while it hung; another one has its place."""


class _Gate:
    """Lets a source's packets through to the tap while the source is its reader's. See sources.Tap."""

    def __init__(self, tap: PacketTap, ours: Callable[[], AbstractContextManager[None]]) -> None:
        self._tap, self._ours = tap, ours

    def opened(self, stream: Any) -> None:
        with self._ours():
            self._tap.opened(stream)

    def packet(self, packet: Any) -> None:
        with self._ours():
            self._tap.packet(packet)


class Capture:
    """Reads one source for the cameras that look at it; `run` is the thread's work."""

    def __init__(self, source: SourceConfig, cameras: Sequence[Camera], tap: PacketTap | None = None) -> None:
        self._source, self._tap = as_read(source), tap
        self.look_for(cameras)
        self._times = self._source.times
        self._complained = self._skip_said = ""
        self._backoff, self._refused = Backoff(0.5, MOST_APART_S), Backoff(*REFUSED_S, jitter=(1, 1.25))
        self._noted = 0, 0
        """How many of the open connection's unreadable frames, and of those left out, are counted."""
        self._seq = 0
        self.progress = Progress()
        self._lock = threading.RLock()
        # What follows is guarded by _lock.
        self._abandoned = False
        self._state: State | None = None
        """What was said last; None: nothing, or that it does not matter."""
        self._reason: str | None = None
        self._since_ns: int | None = None
        """When the last picture came, or we began to wait for the first; None: none is awaited."""

    def look_for(self, cameras: Sequence[Camera]) -> None:
        """From the next frame on these look at the source."""
        self._cameras, self.names = list(cameras), ", ".join(camera.name for camera in cameras)

    def run(self, stop: threading.Event) -> None:
        """Until `stop`, or until a recording is at its end."""
        try:
            self._run(stop)
        except Abandoned:
            log.info("%s: the reader that was given up has come back, and ends", self.names)
        finally:
            self.progress.done()

    def successor(self) -> Capture | None:
        """Who reads from now on, if the thread of this one is stuck; None if it is not. Any thread but its own."""
        with self._lock:
            if self.progress.overdue_s() <= 0 or self._abandoned:
                return None
            self._abandoned = True
            if self._tap:
                self._tap.closed()
        after = Capture(self._source, self._cameras, self._tap)
        after._seq, after._backoff, after._refused = self._seq, self._backoff, self._refused
        after._state, after._reason, after._since_ns = self._state, self._reason, self._since_ns
        after._complained, after._skip_said = self._complained, self._skip_said
        return after

    def look(self) -> None:
        """Tell the camera as lost if it is time. Any thread but its own; returns at once."""
        if self._times is None or not self._lock.acquire(blocking=False):  # it is saying something itself
            return
        try:
            since_ns = self._since_ns
            waited_s = 0.0 if since_ns is None else (time.monotonic_ns() - since_ns) / 1e9
            if self._state != "lost" and waited_s > self._times.picture_s:
                self._lost(f"{self._source.label}: no picture for {self._times.picture_s:g} s")
        finally:
            self._lock.release()

    def say_stuck(self, hung: int) -> None:
        """So many readers hang, and no more are begun: the camera stays lost until one of them comes back."""
        with self._lock:
            self._lost(f"{self._source.label}: {hung} readers hang, and no more are begun before one comes back")

    def _run(self, stop: threading.Event) -> None:
        while self._wait_enabled(stop):
            self._await_picture()
            before, began = self._seq, time.monotonic()
            password = self._source.credentials()
            try:
                at_its_end = self._read(stop)
            except (SourceError, ConfigError) as error:  # a password file may be away for a moment, as a camera may
                if stop.is_set():
                    self._complain(str(error))
                    return
                self._lost(str(error))
                if self._seq > before and time.monotonic() - began > STEADY_S:
                    self._backoff.reset()
                if isinstance(error, Refused):
                    self._wait_refused(stop, password)
                else:
                    # What a try took counts: one that was not answered has waited already.
                    spent_s = 0.0 if self._seq > before else time.monotonic() - began
                    stop.wait(max(LEAST_WAIT_S, self._backoff.next_s() - spent_s))
            else:
                if at_its_end:
                    self._say("ended")
                    return
                if not stop.is_set():
                    self._say("connecting")  # is what a camera says first that is enabled again

    def _wait_refused(self, stop: threading.Event, password: str | None) -> None:
        """Wait for long, or until there is another password than the one that was refused."""
        until = time.monotonic() + self._refused.next_s()
        while (left_s := until - time.monotonic()) > 0:
            if stop.wait(min(left_s, CREDENTIALS_LOOK_S)):
                return
            if self._source.credentials() != password:
                log.info("%s: there is another password; trying that", self.names)
                self._refused.reset()
                return

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
        intake, self._noted = Intake(alive=self._alive), (0, 0)
        intake.tap = self._tap and _Gate(self._tap, self._ours)
        intake.skipped = lambda: self._note_missed(intake)
        try:
            self._begin("open")
            with self._source.open(stop, intake) as pictures:
                self._back()
                try:
                    going_on = self._read_on(pictures, intake, stop)
                finally:
                    self._begin("close")
        finally:
            self._back()
            with self._ours():
                if self._tap:
                    self._tap.closed()
                self._since_ns = None
        self._note_missed(intake)
        return not (going_on or stop.is_set())

    def _read_on(self, pictures: Pictures, intake: Intake, stop: threading.Event) -> bool:
        """Offer what comes; True where more might have come, False at the source's end."""
        streaming = False
        while True:
            self._begin("read")
            taken = next(pictures, None)
            with self._ours():
                self.progress.done()
                if taken is None:
                    return False
                captured, image = taken
                self._since_ns = time.monotonic_ns()
                if not streaming or self._state != "streaming":
                    streaming = True
                    self._streams(intake)
                if self._tap:
                    self._tap.picture(captured, image.size)
            for camera in self._cameras:
                camera.offer(Frame(camera.name, self._seq, captured, image))
            self._seq += 1
            self._note_missed(intake)  # a source of others may count without a call
            if stop.is_set() or not self._enabled():
                return True

    def _begin(self, what: str) -> None:
        """The thread goes into the source, which may hang."""
        if self._times is None:
            return
        within_s = self._times.step_s if what == "read" else self._times.open_s
        self.progress.begin(what, within_s)

    def _alive(self) -> None:
        """The source waits, but does not hang: its time begins anew."""
        if (doing := self.progress.doing) is not None:
            self.progress.begin(doing.what, doing.within_s)

    def _back(self) -> None:
        """The thread is back. Raises Abandoned if it is not wanted any more."""
        with self._ours():
            self.progress.done()

    @contextmanager
    def _ours(self) -> Iterator[None]:
        """While the source is this thread's: nobody else gets it meanwhile. Raises Abandoned if it is not."""
        with self._lock:
            if self._abandoned:
                raise Abandoned
            yield

    def _note_missed(self, intake: Intake) -> None:
        """Count what was left out or could not be read since the last call; say the first of the latter."""
        now, before = (intake.unreadable, intake.left_out), self._noted
        if now == before:
            return
        with self._ours():
            self._noted = now
            for camera in self._cameras:
                camera.unreadable_frames += now[0] - before[0]
                camera.left_out_frames += now[1] - before[1]
            # What is tried again and again fails in the same words.
            if now[0] and not before[0] and str(intake.last_error) != self._skip_said:
                self._skip_said = str(intake.last_error)
                log.warning("%s: a frame cannot be read and is skipped: %s", self.names, intake.last_error)

    def _await_picture(self) -> None:
        """From now on; what is lost stays so until one comes."""
        with self._ours():
            if self._state != "lost":
                self._say("connecting")
            self._since_ns = time.monotonic_ns()

    def _streams(self, intake: Intake) -> None:
        self._complained = self._skip_said = ""
        self._refused.reset()
        self._say("streaming", facts=intake.facts)
        log.info("%s: streaming %s", self.names, self._source.label)

    def _lost(self, reason: str) -> None:
        with self._lock:
            self._complain(reason)
            self._say("lost", reason)

    def _say(self, state: State, reason: str | None = None, facts: dict[str, str] | None = None) -> None:
        with self._lock:
            if (state, reason) == (self._state, self._reason) and state == "lost":
                return
            self._state, self._reason = state, reason
            for camera in self._cameras:
                camera.say(state, reason, facts)

    def _complain(self, reason: str) -> None:
        if reason != self._complained:
            self._complained = reason
            log.warning("%s: %s; trying again", self.names, reason)
