"""Commands that came in: bounded in number and rate, obeyed by one thread, each answered."""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from datetime import datetime, timezone
from typing import Any, Literal

from agent.remote.acts import Acts, Denied
from agent.remote.answers import Answers, what, who
from agent.remote.payloads import Asked, Fault, ReplyPayload, fault, read
from agent.remote.settings import CommandsSection
from agent.sinks import Request
from agent.workers import Worker

log = logging.getLogger(__name__)

MOST_WAITING = 64
BURST_S = 5.0
BUSY_PER_SECOND = 10.0
"""Answers that say `busy`; beyond, nothing is said: a flood is not to be doubled by its answers."""

Fate = Literal["obeyed", "refused", "repeated", "busy", "dropped"]


class _Bucket:
    """So many a second, and some seconds' worth at once."""

    def __init__(self, per_second: float, most: float) -> None:
        self._per_second, self._most = per_second, max(1.0, most)
        self._left = self._most
        self._at_s = time.monotonic()

    def take(self) -> bool:
        now_s = time.monotonic()
        self._left = min(self._most, self._left + (now_s - self._at_s) * self._per_second)
        self._at_s = now_s
        if self._left < 1:
            return False
        self._left -= 1
        return True


class Remote:
    """Where requests go: `received == obeyed + refused + repeated + busy + dropped + waiting`.

    `on_request` is called by any thread and never waits; one thread of its own obeys.
    """

    def __init__(self, agent: str, settings: CommandsSection, acts: Acts, answers: Answers) -> None:
        self._agent, self._answers = agent, answers
        self._changed = threading.Condition()
        # What follows is guarded by _changed.
        self._waiting: deque[Request] = deque()
        self._closed = False
        self.follow(settings, acts)
        self._busy_rate = _Bucket(BUSY_PER_SECOND, BUSY_PER_SECOND)
        self._received = 0
        self._fates: dict[Fate, int] = {"obeyed": 0, "refused": 0, "repeated": 0, "busy": 0, "dropped": 0}
        self._worker = Worker("commands", self._run)

    def start(self) -> None:
        """Begin to obey."""
        self._worker.start()

    def follow(self, settings: CommandsSection, acts: Acts) -> None:
        """From now on these are allowed, and this obeys."""
        with self._changed:
            self._allowed, self._acts = settings.allow, acts
            self._rate = _Bucket(settings.per_second, settings.per_second * BURST_S)

    def on_request(self, request: Request) -> None:
        """Take a request, or say that there are too many."""
        with self._changed:
            self._received += 1
            if not self._closed and len(self._waiting) < MOST_WAITING and self._rate.take():
                self._waiting.append(request)
                self._changed.notify_all()
                return
            answered = self._busy_rate.take()
            self._fates["busy" if answered else "dropped"] += 1
        if answered:
            self._answer(request, read(request.payload), fault("busy", "too many commands; ask again later"))

    def close(self, deadline_s: float) -> None:
        """Take no more requests, and wait for the end of what is being done."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()
        if self._worker.alive and not self._worker.join(deadline_s):
            log.warning("a command does not end; left behind")

    def counts(self) -> dict[str, int]:
        """What came in, and what became of it."""
        with self._changed:
            waiting = self._received - sum(self._fates.values())
            return {"received": self._received, **{str(k): n for k, n in self._fates.items()}, "waiting": waiting}

    def _run(self, stop: threading.Event) -> None:  # noqa: ARG002  # ends with `close`
        """Obey, one after the other, until `close`; what waits then is answered `busy`."""
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._waiting or self._closed)
                if not self._waiting:
                    return
                request, closed = self._waiting.popleft(), self._closed
            fate: Fate = "refused"
            try:
                if closed:
                    fate = "busy"
                    self._answer(request, read(request.payload), fault("busy", "the agent stops; ask again later"))
                else:
                    fate = self._settle(request)
            finally:
                with self._changed:
                    self._fates[fate] += 1

    def _settle(self, request: Request) -> Fate:
        """Obey one request, or say why not."""
        asked = read(request.payload)
        its, itself = who(request, asked.id), what(request)
        if its is not None:
            try:
                given = self._answers.given(its, itself)
            except ValueError as error:
                self._answer(request, asked, fault("id_reused", str(error)))
                return "refused"
            if given is not None:
                request.reply(given)
                return "repeated"
        camera, wrong = self._target(request, asked)
        if wrong is None:
            wrong = self._forbidden(request, asked)
        if wrong is not None or asked.command is None:
            self._answer(request, asked, wrong, camera)
            return "refused"
        result: dict[str, Any] = {}
        try:
            result = self._acts.obey(asked.command, camera)
        except Denied as denied:
            wrong = fault(denied.code, str(denied))
        except Exception:  # whatever a command meets, the next one is heard
            log.exception("%s: a fault of ours", asked.name)
            wrong = fault("failed", "a fault of the agent; its log says more")
        answer = self._reply(asked, wrong, camera, result)
        if its is not None:
            self._answers.keep(its, itself, answer)
        request.reply(answer)
        return "obeyed" if wrong is None else "refused"

    def _target(self, request: Request, asked: Asked) -> tuple[str | None, Fault | None]:
        """Which camera is meant, and what is wrong with the command as it stands."""
        topic = request.topic.rpartition("/")[0] or None
        named = asked.command.camera if asked.command else None
        if request.fault is not None:
            return topic, fault("malformed", request.fault)
        if asked.fault is None and topic and named and topic != named:
            return topic, fault("malformed", f"the topic says {topic}, the command {named!r}")
        return topic or named, asked.fault

    def _forbidden(self, request: Request, asked: Asked) -> Fault | None:
        """Why this may not be done now, or at all."""
        if asked.name not in self._allowed:
            allowed = ", ".join(self._allowed)
            return fault("not_allowed", f"allowed: {allowed}; the agent's configuration says so in commands: allow:")
        until = asked.command.expires_at if asked.command else None
        if (request.expires_ns is not None and time.monotonic_ns() > request.expires_ns) or (
            until is not None and datetime.now(timezone.utc) > until
        ):
            return fault("expired", "it came too late")
        return None

    def _answer(self, request: Request, asked: Asked, wrong: Fault | None, camera: str | None = None) -> None:
        request.reply(self._reply(asked, wrong, camera, {}))

    def _reply(self, asked: Asked, wrong: Fault | None, camera: str | None, result: dict[str, Any]) -> ReplyPayload:
        return ReplyPayload.model_construct(
            schema_="sightwire.reply/1",
            agent=self._agent,
            id=asked.id,
            command=asked.name,
            camera=camera,
            ok=wrong is None,
            error=wrong,
            result=result,
        )
