"""A camera's owner: offers its frames to its uses, and turns what comes back into messages, in capture order.

A result with cascades waits until each of its objects has been looked at (or that was dropped and counted), so that
the attributes are complete when the message is sent.

Of a live camera each use has a line of its own: a slow model does not keep a fast one's results back. All uses of a
recording share one line, so that whatever engine is faster, the watch sees the same and tells the same events.
What is complete is taken from the lines by one thread at a time, whichever comes by, and without the camera's lock.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any, Literal

from agent.collecting import Candidates
from agent.flow import Outcome, Request
from agent.frame import Frame
from agent.messages import CameraStatus, rfc3339
from agent.publishing import Outlets
from agent.results import Content, attributes_of, message_for
from agent.sight.motion import Gate
from agent.sight.sight import Blindness, Sight
from agent.sinks import Message
from agent.snapshots import Album
from agent.uses import Cascade, Use
from agent.view import View
from agent.watching.watch import Watch
from engines.pixels import Box
from engines.results import Detections, Result

log = logging.getLogger(__name__)

State = Literal["streaming", "connecting", "lost", "ended", "disabled", "blind"]

BROKEN_OFF: dict[State, str] = {"lost": "camera_lost", "ended": "recording_ended", "disabled": "camera_disabled"}
"""State after which no frame comes for now -> reason why incidents end."""
LOSSLESS_DEPTH = 6
"""Frames, requests and messages of a recording that may be under way: enough to keep two engines busy."""


@dataclass(eq=False)
class _Answer:
    """A result on its way to being published."""

    request: Request
    use: Use
    result: Result | None = None
    attributes: list[dict[str, Any]] = field(default_factory=list)
    open_cascades: int = 0
    complete: bool = False


@dataclass(eq=False)
class _Mark:
    """In every line at once: what is told to the watch between what was captured before and after."""

    tell: Callable[[Watch], None]


class Camera:
    """Owner of one camera. `offer` is called by its capture thread, everything else by any thread."""

    def __init__(
        self,
        agent: str,
        name: str,
        source: str,
        uses: Sequence[Use],
        outlets: Outlets,
        *,
        watch: Watch | None = None,
        view: View | None = None,
        candidates: Candidates | None = None,
        album: Album | None = None,
        sight: Sight | None = None,
        gate: Gate | None = None,
        lossless: bool = False,
        on_state: Callable[[], None] = lambda: None,
    ) -> None:
        self.name, self.uses, self.lossless = name, list(uses), lossless
        self.frames = 0
        self.unreadable_frames = self.left_out_frames = 0
        """That could not be decoded; that came faster than they were taken from their source."""
        self.connects = 0
        self.readers_abandoned = self.readers_hung = 0
        """Threads of its source that were given up since the start, and those of them that have not come back."""
        self._agent, self._source, self._outlets, self._on_state = agent, source, outlets, on_state
        self._watch, self._view, self._candidates = watch, view or View(), candidates
        self._album, self._sight, self._gate = album, sight, gate
        self._lock = threading.RLock()
        self._idle = threading.Condition(self._lock)
        self._under_way = 0
        self._stopped = self._retired = False
        one_line: deque[_Answer | _Mark] = deque()
        self._lines = {use.name: one_line if lossless else deque[_Answer | _Mark]() for use in uses}
        self._each_line = [one_line] if lossless else list(self._lines.values())
        self._flushing = False
        self.enabled = True
        """While not, its frames are counted and nothing looks at them."""
        self._connection: tuple[State, str | None, dict[str, str], str] = ("connecting", None, {}, rfc3339(0))
        """What its capture says: state, reason, facts and since when; told while it is enabled and sees."""
        self._blind: tuple[str, str] | None = None
        """While it streams and does not see: the reason and since when."""
        self._sight_was: Literal["away", "anew"] | None = None
        """What its sight must be told before the next frame: no frames came, or it shall begin anew."""

    def succeed(self, before: Camera, *, same_connection: bool) -> None:
        """Take the place of another one, before the first frame: what was counted goes on, what it was told holds.

        From now on this one speaks for the camera: of what the other one is in the middle of, only events are told.
        """
        with before._lock:
            before._retired = True
        self.frames, self.connects = before.frames, before.connects
        self.unreadable_frames, self.left_out_frames = before.unreadable_frames, before.left_out_frames
        self.readers_abandoned, self.readers_hung = before.readers_abandoned, before.readers_hung
        self.enabled = before.enabled
        theirs = before.uses_by_name
        for name, use in self.uses_by_name.items():
            if name in theirs:
                use.account = theirs[name].account
        if same_connection:
            self._connection = before._connection
            if self.enabled and before._blind is not None:  # it has to look for itself
                self._publish_state(*self._connection)

    def join(self, sibling: Camera) -> None:
        """Look at a source that another camera looks at already."""
        state, reason, facts, _ = sibling._connection
        self.say(state, reason, facts)

    def retire(self, reason: str, timeout_s: float) -> None:
        """Another one has its place, or none: what is open ends with that reason, after what is under way."""
        with self._lock:
            self._retired = True
        self.release()
        self.break_off(reason)
        self.wait_idle(timeout_s)
        self.close(reason)

    def collect_for(self, candidates: Candidates | None) -> None:
        """From now on leave pictures for calibration there."""
        self._candidates = candidates

    def offer(self, frame: Frame) -> None:
        """Offer a frame to every use that wants it. Waits while too much of a recording is under way."""
        self.frames += 1
        if not self.enabled:
            for use in self.uses:
                use.account.offered()
                use.account.ended("disabled")
            return
        if self._sight:
            self._look(self._sight, frame)
        wanted = []
        for use in self.uses:
            use.account.offered()
            if use.due(frame.captured) and not (self._gate and self._gate.still(use.name, frame)):
                wanted.append(use)
            else:
                use.account.ended("not_due")
        candidate = self._candidates if self._candidates and self._candidates.due(frame.captured) else None
        if not wanted and not candidate:
            return
        frame = replace(frame, image=self._view.of(frame.image))
        if candidate:
            candidate.offer(frame)
        if self._album:
            self._album.saw(frame)
        for use in wanted:
            answer = _Answer(self._request(frame, use, use.regions(frame.image.size), self._ended), use)
            if self._gate:
                answer.request.paused_ns = self._gate.paused_ns(use.name)
            if self._begin(answer):
                use.mailbox.offer(answer.request)
            else:
                use.account.ended("disabled")

    def _begin(self, answer: _Answer) -> bool:
        """Let an answer stand in its line, once there is room; False if the camera was disabled meanwhile."""
        with self._lock:
            if self.lossless:
                self._idle.wait_for(lambda: self._under_way < LOSSLESS_DEPTH or self._stopped)
            if self.enabled:
                self._under_way += 1
                self._lines[answer.use.name].append(answer)
            return self.enabled

    def release(self) -> None:
        """Let a capture thread go that waits in `offer`: the agent stops."""
        with self._lock:
            self._stopped = True
            self._idle.notify_all()

    def wait_idle(self, timeout_s: float) -> bool:
        """Wait until nothing of this camera is under way, in engines or in sinks; False after the timeout."""
        with self._lock:
            return self._idle.wait_for(lambda: not self._under_way, max(0.0, timeout_s))

    @property
    def state(self) -> State:
        """What its status says."""
        return self._word[0] if self.enabled else "disabled"

    @property
    def _word(self) -> tuple[State, str | None, dict[str, str], str]:
        """What there is to say of a camera that is enabled."""
        if self._blind is None:
            return self._connection
        reason, since = self._blind
        return "blind", reason, self._connection[2], since

    @property
    def uses_by_name(self) -> dict[str, Use]:
        """All of them, cascades included."""
        return {use.name: use for use in (*self.uses, *(c.use for use in self.uses for c in use.cascades))}

    def say(self, state: State, reason: str | None = None, facts: dict[str, str] | None = None) -> None:
        """Publish the camera's state."""
        with self._lock:
            self.connects += state == "streaming"
            self._connection = (state, reason, facts or {}, rfc3339(time.time_ns()))
            if state != "streaming":
                self._interrupted("away")
            if self.enabled:
                self._publish_state(*self._word)
        if state in BROKEN_OFF:
            self.break_off(BROKEN_OFF[state])

    def switch(self, *, on: bool) -> bool:
        """Enable the camera, or disable it; False if it is so already."""
        with self._lock:
            if on == self.enabled:
                return False
            self.enabled = on
            self._interrupted("anew")
            if on:
                self._publish_state(*self._word)
            else:
                self._publish_state("disabled", "by a command", {}, rfc3339(time.time_ns()))
        if not on:
            self.break_off(BROKEN_OFF["disabled"])
        return True

    def _publish_state(self, state: State, reason: str | None, facts: dict[str, str], since: str) -> None:
        """With the lock: the last word said is the last one published."""
        if self._retired:
            return
        payload = CameraStatus.model_construct(
            schema_="sightwire.camera/1",
            agent=self._agent,
            camera=self.name,
            state=state,
            reason=reason,
            since=since,
            source=self._source,
            facts=facts,
        )
        self._outlets.publish(Message(f"{self.name}/status", payload, retain=True, qos=1))
        self._on_state()

    def _interrupted(self, was: Literal["away", "anew"]) -> None:
        """With the lock: what its sight said is over, and its next frame is looked at anew."""
        self._blind = None
        self._sight_was = "anew" if "anew" in (was, self._sight_was) else was
        if self._gate:
            self._gate.away()

    def _look(self, sight: Sight, frame: Frame) -> None:
        """Whether the camera still sees: told if that has changed."""
        if self._sight_was:
            (sight.begin_anew if self._sight_was == "anew" else sight.away)()
            self._sight_was = None
        try:
            changes = sight.look(frame.image, frame.captured)
        except Exception:  # a fault of ours must not keep the camera's pictures from its models
            log.exception("%s: a fault of the program; whether it sees is not judged any more", self.name)
            self._sight = None
            return
        if not changes:
            return
        with self._lock:
            if not self.enabled or self._connection[0] != "streaming":
                return
            for change in changes:
                self._blind = None if change.ended else (change.reason, _when(change, frame))
                self._mark(partial(Watch.blind, change=change, frame=frame))
            self._publish_state(*self._word)
        self._flush()

    def break_off(self, reason: str) -> None:
        """No frames for now: what is open ends with that reason, after what has been offered until now."""
        with self._lock:
            self._mark(lambda watch: watch.lost(reason))
        self._flush()

    def _mark(self, tell: Callable[[Watch], None]) -> None:
        """With the lock: tell the watch after what has been offered until now."""
        if not self._watch:
            return
        self._under_way += 1
        mark = _Mark(tell)
        for line in self._each_line:
            line.append(mark)

    def close(self, reason: str = "agent_stopped") -> None:
        """The agent stops, and the engines have: what is open ends."""
        if self._watch:
            self._watch.close(reason)

    def counts(self) -> dict[str, Any]:
        """Frames, and the account of each use (law 7), cascades included."""
        return {
            "frames": self.frames,
            "unreadable": self.unreadable_frames,
            "left_out": self.left_out_frames,
            "reconnects": max(0, self.connects - 1),
            "abandoned": self.readers_abandoned,
            "hung": self.readers_hung,
            "state": self.state,
            "uses": {name: {**use.account.counts(), **self._still(name)} for name, use in self.uses_by_name.items()},
        }

    def _still(self, use: str) -> dict[str, int]:
        """Of those not due: in how many nothing had changed."""
        return {"still": self._gate.counts(use)} if self._gate else {}

    def _request(
        self, frame: Frame, use: Use, regions: tuple[Box | None, ...], ended: Callable[[Request, Outcome], None]
    ) -> Request:
        return Request((self.name, use.name), frame, regions, self.lossless, use.max_age_ns, ended, use.share)

    def _ended(self, request: Request, outcome: Outcome) -> None:
        """An engine (or the mailbox) is done with a frame."""
        offers: list[tuple[Cascade, Request]] = []
        with self._lock:
            answer = self._answer(request)
            answer.use.account.ended(outcome)
            if outcome == "inferred":
                answer.result = answer.use.result(request.regions, request.results)
                offers = self._cascade(answer)
            if not answer.open_cascades:
                answer.complete = True
        for cascade, asked in offers:
            cascade.use.mailbox.offer(asked)
        self._flush()

    def _answer(self, request: Request) -> _Answer:
        line = self._lines[request.key[1]]
        return next(a for a in line if isinstance(a, _Answer) and a.request is request)

    def _cascade(self, answer: _Answer) -> list[tuple[Cascade, Request]]:
        """What to ask the cascades about the objects that were found."""
        offers: list[tuple[Cascade, Request]] = []
        if not isinstance(answer.result, Detections):
            return offers
        answer.attributes = [{} for _ in range(len(answer.result))]
        for cascade in answer.use.cascades:
            rows = _wanted(answer.result, answer.use, cascade)
            if not len(rows):
                continue
            frame = answer.request.frame
            regions = tuple(_crop(answer.result.xyxy[row], cascade.pad, frame.image.size) for row in rows)
            cascade.use.account.offered()
            answer.open_cascades += 1
            offers.append(
                (cascade, self._request(frame, cascade.use, regions, self._attributes_of(answer, cascade, rows)))
            )
        return offers

    def _attributes_of(
        self, answer: _Answer, cascade: Cascade, rows: Sequence[int]
    ) -> Callable[[Request, Outcome], None]:
        def ended(request: Request, outcome: Outcome) -> None:
            with self._lock:
                cascade.use.account.ended(outcome)
                if outcome == "inferred":
                    for row, result in zip(rows, request.results, strict=True):
                        found = cascade.use.over(result)
                        answer.attributes[row][cascade.use.name] = Content.of(found, cascade.use.labels)
                answer.open_cascades -= 1
                if not answer.open_cascades:
                    answer.complete = True
            self._flush()

        return ended

    def _flush(self) -> None:
        """Publish what is complete, in capture order; one thread does, also what others complete meanwhile."""
        with self._lock:
            if self._flushing:
                return
            self._flushing = True
        try:
            while True:
                with self._lock:
                    head = self._next()
                    if head is None:
                        self._flushing = False
                        return
                try:
                    self._settle(head)
                finally:
                    self._done()
        except BaseException:
            self._flushing = False
            raise

    def _next(self) -> _Answer | _Mark | None:
        """Take the first answer of any line that is complete, or the mark that every line has come to."""
        for line in self._each_line:
            if line and isinstance(line[0], _Answer) and line[0].complete:
                return line.popleft()
        heads = {line[0] if line else None for line in self._each_line}
        if len(heads) == 1 and isinstance(head := heads.pop(), _Mark):
            for line in self._each_line:
                line.popleft()
            return head
        return None

    def _settle(self, head: _Answer | _Mark) -> None:
        """Tell the watch, and the world."""
        if isinstance(head, _Mark):
            if self._watch:
                head.tell(self._watch)
            return
        use, request, result, attributes = head.use, head.request, head.result, head.attributes
        if result is None:
            return
        tracked = self._watch.see(request, use, result, attributes) if self._watch else None
        if tracked:
            result, attributes = tracked.found, attributes_of(tracked, attributes)
        message = message_for(self._agent, use, request, result, attributes, tracked=tracked, lossless=self.lossless)
        with self._lock:
            self._under_way += 1
        self._outlets.publish(message, self._done)

    def _done(self) -> None:
        with self._lock:
            self._under_way -= 1
            self._idle.notify_all()


def _when(change: Blindness, frame: Frame) -> str:
    """When it was seen first, by our clock."""
    return rfc3339(time.time_ns() - (frame.captured.monotonic_ns - change.since_ns))


def _wanted(found: Detections, use: Use, cascade: Cascade) -> list[int]:
    """Rows of a use for its cascade, best first (as tasks return them)."""
    rows: list[int] = use.reported(found).tolist()
    wanted = rows if cascade.labels is None else [r for r in rows if int(found.label[r]) in cascade.labels]
    return wanted[: cascade.most]


def _crop(xyxy: Any, pad: float, size: tuple[int, int]) -> Box:
    """A box grown by `pad` on each side, cut at the picture's edges, at least two pixels wide and high."""
    left, top, right, bottom = (float(v) for v in xyxy)
    x, y = (right - left) * pad, (bottom - top) * pad
    width, height = size
    x0, y0 = min(max(0, int(left - x)), max(0, width - 2)), min(max(0, int(top - y)), max(0, height - 2))
    x1, y1 = min(width, max(x0 + 2, round(right + x))), min(height, max(y0 + 2, round(bottom + y)))
    return x0, y0, x1, y1
