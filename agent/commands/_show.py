"""What a broker delivers, shown: a dashboard, lines, or JSON."""

from __future__ import annotations

import contextlib
import json
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from rich.console import Console
from rich.live import Live

from agent.commands._board import Board, Subject, draw, has_objects, line, summary
from agent.sinks._link import Link
from agent.sinks.mqtt import Config
from agent.subscriber import Heard, Listener

FRAME_S = 0.125
QUIET_S = 1.0
"""Scrolling: a use is repeated at most this often while it says the same."""


@dataclass
class Seen:
    """What `show` saw."""

    messages: int = 0
    connected: bool = False
    reason: str | None = None
    """Why not, if not."""
    first_detection_ns: int | None = None
    """`time.monotonic_ns` when the first message with an object in it arrived."""


def show(
    url: str,
    *,
    stop: threading.Event,
    seconds: float | None = None,
    agent: str = "+",
    topic: str | None = None,
    prefix: str = "sightwire",
    as_json: bool = False,
    console: Console | None = None,
    on_first: Callable[[int], None] | None = None,
    **access: Any,
) -> Seen:
    """Show what the broker delivers until `stop` is set or `seconds` have passed.

    A dashboard on a terminal, else lines; JSON lines with `as_json`. `on_first(monotonic_ns)` is called when the first
    detection with an object in it arrives. `access`: username, ca, proxy, client_id and others as in the config.
    Raises pydantic's ValidationError or ConfigError for settings that cannot be used.
    """
    config = Config(url=url, prefix=prefix, **access)
    listener = Listener(config, topic or f"{prefix}/{agent}/#", config.client_id)
    console = console or Console()
    board = Board(prefix)
    view: _View
    if as_json:
        view = _JsonLines()
    elif console.is_terminal:
        view = _Dashboard(board, url, listener.link, console)
    else:
        view = _Lines(console)
    seen = Seen()
    end_s = time.monotonic() + (seconds if seconds is not None else float("inf"))
    listener.link.start()
    try:
        with contextlib.suppress(BrokenPipeError), view:
            while not stop.is_set() and (left_s := end_s - time.monotonic()) > 0:
                for heard in listener.heard(min(FRAME_S, left_s)):
                    about = board.take(heard)
                    if about and seen.first_detection_ns is None and has_objects(about[0].kind, about[1]):
                        seen.first_detection_ns = heard.arrived_ns
                        if on_first is not None:
                            on_first(heard.arrived_ns)
                    view.message(heard, about)
                view.refresh()
    finally:
        seen.connected, seen.reason = listener.was_up, listener.link.reason
        listener.link.close(1.0)
        seen.messages = board.messages
    return seen


class _View(contextlib.AbstractContextManager["_View"]):
    """One way to show messages."""

    def message(self, heard: Heard, about: tuple[Subject, dict[str, Any]] | None) -> None:
        """A message arrived; `about` is None where it is not from an agent."""

    def refresh(self) -> None:
        """Called several times a second."""

    def __exit__(self, *_: object) -> None:
        return None


class _JsonLines(_View):
    """Every message, with its topic first."""

    def message(self, heard: Heard, about: tuple[Subject, dict[str, Any]] | None) -> None:
        data = about[1] if about and about[1] else {"bytes": len(heard.payload)}
        print(json.dumps({"topic": heard.topic, **data}, ensure_ascii=False), flush=True)


class _Lines(_View):
    """A line when a use says something new, or a second later."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._said: dict[Subject, tuple[str, int]] = {}

    def message(self, heard: Heard, about: tuple[Subject, dict[str, Any]] | None) -> None:
        if about is None:
            return
        subject, data = about
        # Scores waver with every frame: what counts as new is who is seen and how many.
        words = "".join(c for c in summary(subject.kind, data) if not c.isdigit())
        said, said_ns = self._said.get(subject, ("", 0))
        since_s = (heard.arrived_ns - said_ns) / 1e9
        quiet = since_s < QUIET_S and (said == words or since_s < QUIET_S / 4)
        if quiet and subject.kind != "events":  # each of these is news
            return
        self._said[subject] = words, heard.arrived_ns
        print(line(subject, data, time.time()), file=self._console.file, flush=True)


class _Dashboard(_View):
    """Redraws itself in place."""

    def __init__(self, board: Board, url: str, link: Link, console: Console) -> None:
        self._board, self._url, self._link = board, url, link
        self._live = Live(console=console, auto_refresh=False, transient=False)
        self._next_s = 0.0

    def __enter__(self) -> _Dashboard:
        self._live.__enter__()
        self.refresh()
        return self

    def refresh(self) -> None:
        now_s = time.monotonic()
        if now_s < self._next_s:
            return
        self._next_s = now_s + FRAME_S
        link = self._link
        state = f"MQTT {link.protocol}" if link.state == "connected" else f"{link.state}: {link.reason or '…'}"
        self._live.update(draw(self._board, self._url, state, time.monotonic_ns()), refresh=True)

    def __exit__(self, *_: object) -> None:
        self._live.__exit__(None, None, None)
