"""A camera's owner: offers its frames to its uses, and turns what comes back into messages, in capture order.

A result with cascades waits until each of its objects has been looked at (or that was dropped and counted), so that
the attributes are complete when the message is sent.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from agent.collecting import Candidates
from agent.flow import Outcome, Request
from agent.frame import Frame
from agent.messages import CameraStatus, rfc3339
from agent.publishing import Outlets
from agent.results import Content, message_for
from agent.sinks import Message
from agent.uses import Cascade, Use
from agent.view import View
from engines.pixels import Box
from engines.results import Detections, Result

State = Literal["streaming", "connecting", "lost", "ended", "disabled"]

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
        view: View | None = None,
        candidates: Candidates | None = None,
        lossless: bool = False,
        on_state: Callable[[], None] = lambda: None,
    ) -> None:
        self.name, self.uses, self.lossless = name, list(uses), lossless
        self.frames = 0
        self.unreadable_frames = 0
        self.connects = 0
        self._agent, self._source, self._outlets, self._on_state = agent, source, outlets, on_state
        self._view, self._candidates = view or View(), candidates
        self._lock = threading.RLock()
        self._idle = threading.Condition(self._lock)
        self._under_way = 0
        self._stopped = False
        self._lines: dict[str, deque[_Answer]] = {use.name: deque() for use in uses}
        self.enabled = True
        """While not, its frames are counted and nothing looks at them."""
        self._connection: tuple[State, str | None, dict[str, str], str] = ("connecting", None, {}, rfc3339(0))
        """What its capture says: state, reason, facts and since when; told while it is enabled."""

    def offer(self, frame: Frame) -> None:
        """Offer a frame to every use that wants it. Waits while too much of a recording is under way."""
        self.frames += 1
        if not self.enabled:
            for use in self.uses:
                use.account.offered()
                use.account.ended("disabled")
            return
        wanted = []
        for use in self.uses:
            use.account.offered()
            if use.due(frame.captured):
                wanted.append(use)
            else:
                use.account.ended("not_due")
        candidate = self._candidates if self._candidates and self._candidates.due(frame.captured) else None
        if not wanted and not candidate:
            return
        frame = replace(frame, image=self._view.of(frame.image))
        if candidate:
            candidate.offer(frame)
        for use in wanted:
            answer = _Answer(self._request(frame, use, use.regions(frame.image.size), self._ended), use)
            with self._lock:
                if self.lossless:
                    self._idle.wait_for(lambda: self._under_way < LOSSLESS_DEPTH or self._stopped)
                self._under_way += 1
                self._lines[use.name].append(answer)
            use.mailbox.offer(answer.request)

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
        return self._connection[0] if self.enabled else "disabled"

    @property
    def uses_by_name(self) -> dict[str, Use]:
        """All of them, cascades included."""
        return {use.name: use for use in (*self.uses, *(c.use for use in self.uses for c in use.cascades))}

    def say(self, state: State, reason: str | None = None, facts: dict[str, str] | None = None) -> None:
        """Publish the camera's state."""
        with self._lock:
            self.connects += state == "streaming"
            self._connection = (state, reason, facts or {}, rfc3339(time.time_ns()))
            if self.enabled:
                self._publish_state(*self._connection)

    def switch(self, *, on: bool) -> bool:
        """Enable the camera, or disable it; False if it is so already."""
        with self._lock:
            if on == self.enabled:
                return False
            self.enabled = on
            if on:
                self._publish_state(*self._connection)
            else:
                self._publish_state("disabled", "by a command", {}, rfc3339(time.time_ns()))
            return True

    def _publish_state(self, state: State, reason: str | None, facts: dict[str, str], since: str) -> None:
        """With the lock: the last word said is the last one published."""
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

    def counts(self) -> dict[str, Any]:
        """Frames, and the account of each use (law 7), cascades included."""
        return {
            "frames": self.frames,
            "unreadable": self.unreadable_frames,
            "reconnects": max(0, self.connects - 1),
            "state": self.state,
            "uses": {name: use.account.counts() for name, use in self.uses_by_name.items()},
        }

    def _request(
        self, frame: Frame, use: Use, regions: tuple[Box | None, ...], ended: Callable[[Request, Outcome], None]
    ) -> Request:
        return Request((self.name, use.name), frame, regions, self.lossless, use.max_age_ns, ended)

    def _ended(self, request: Request, outcome: Outcome) -> None:
        """An engine (or the mailbox) is done with a frame."""
        with self._lock:
            answer = self._answer(request)
            answer.use.account.ended(outcome)
            if outcome == "inferred":
                answer.result = answer.use.result(request.regions, request.results)
                self._cascade(answer)
            if not answer.open_cascades:
                answer.complete = True
            self._flush(answer.use)

    def _answer(self, request: Request) -> _Answer:
        return next(a for a in self._lines[request.key[1]] if a.request is request)

    def _cascade(self, answer: _Answer) -> None:
        """Ask the cascades about the objects that were found."""
        if not isinstance(answer.result, Detections):
            return
        answer.attributes = [{} for _ in range(len(answer.result))]
        offers = []
        for cascade in answer.use.cascades:
            rows = _wanted(answer.result, cascade)
            if not len(rows):
                continue
            frame = answer.request.frame
            regions = tuple(_crop(answer.result.xyxy[row], cascade.pad, frame.image.size) for row in rows)
            cascade.use.account.offered()
            answer.open_cascades += 1
            offers.append(
                (cascade, self._request(frame, cascade.use, regions, self._attributes_of(answer, cascade, rows)))
            )
        for cascade, request in offers:
            cascade.use.mailbox.offer(request)

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
                    self._flush(answer.use)

        return ended

    def _flush(self, use: Use) -> None:
        """Publish what is complete, in capture order."""
        line = self._lines[use.name]
        while line and line[0].complete:
            answer = line.popleft()
            if answer.result is not None:
                message = message_for(
                    self._agent, use, answer.request, answer.result, answer.attributes, lossless=self.lossless
                )
                self._under_way += 1
                self._outlets.publish(message, self._done)
            self._done()

    def _done(self) -> None:
        with self._lock:
            self._under_way -= 1
            self._idle.notify_all()


def _wanted(found: Detections, cascade: Cascade) -> list[int]:
    """Rows for a cascade, best first (as tasks return them)."""
    rows = range(len(found))
    wanted = rows if cascade.labels is None else [r for r in rows if int(found.label[r]) in cascade.labels]
    return list(wanted)[: cascade.most]


def _crop(xyxy: Any, pad: float, size: tuple[int, int]) -> Box:
    """A box grown by `pad` on each side, cut at the picture's edges, at least two pixels wide and high."""
    left, top, right, bottom = (float(v) for v in xyxy)
    x, y = (right - left) * pad, (bottom - top) * pad
    width, height = size
    x0, y0 = min(max(0, int(left - x)), max(0, width - 2)), min(max(0, int(top - y)), max(0, height - 2))
    x1, y1 = min(width, max(x0 + 2, round(right + x))), min(height, max(y0 + 2, round(bottom + y)))
    return x0, y0, x1, y1
