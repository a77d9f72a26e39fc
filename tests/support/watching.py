"""One camera's watch for tests, told what was seen frame by frame."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from agent.flow import Mailbox, Request
from agent.frame import Frame, Timestamp
from agent.messages import CountsPayload, EventPayload
from agent.rules import Finding, Rule, Seen
from agent.snapshots import Album
from agent.tracking import Tracked, Tracker
from agent.uses import Use
from agent.watching.counts import Counts
from agent.watching.incidents import Incidents
from agent.watching.watch import Watch
from engines.pixels import Image
from engines.results import Detections

SIZE = (640, 480)
RATE = 10
"""Frames a second of `moment`."""


def moment(seq: int) -> Timestamp:
    """When frame `seq` of a recording was taken."""
    at_ns = round(seq / RATE * 1e9)
    return Timestamp(at_ns, at_ns, "file", None)


class Told(Tracker):
    """A tracker that is told who is who: a box's track is the whole hundreds of its label."""

    def __init__(self) -> None:
        self.forgot = 0

    def update(self, found: Detections, at_ns: int) -> Tracked:
        track = found.label.astype(np.int64) + 1
        still = np.zeros((len(found), 4), np.float32)
        return Tracked(found, track, still, tuple(track.tolist()), np.arange(len(found)))

    def forget(self) -> None:
        self.forgot += 1


class Scripted(Rule):
    """Finds what it is told to find in each frame, by the frame's number."""

    def __init__(self, name: str, script: dict[int, Sequence[Finding]], *, kind: str = "zone", use: str = "things"):
        self.name, self.kind, self.use = name, kind, use
        self._script = script
        self.forgot = 0

    def see(self, seen: Seen) -> Iterable[Finding]:
        return self._script.get(round(seen.at_ns / 1e9 * RATE), ())

    def forget(self) -> None:
        self.forgot += 1

    def counts(self) -> dict[str, Any]:
        return {}


class Scene:
    """A watch, its frames, and what came of them."""

    def __init__(
        self,
        rules: Sequence[Rule],
        *,
        tracker: Tracker | None = None,
        labels: Sequence[str] = ("a", "b", "c"),
        labels_told: Sequence[str] = (),
        album: Album | None = None,
    ) -> None:
        self.events: list[EventPayload] = []
        self.counts: list[CountsPayload] = []
        self.use = Use("things", tuple(labels), Mailbox())
        incidents = Incidents("test", "dock", "0123456789abcdef", self.events.append, album=album)
        self.watch = Watch(
            "dock",
            incidents,
            Counts("test", "dock", rules, incidents, labels=labels_told),
            rules,
            tracked="things" if tracker else None,
            tracker=tracker,
            on_counts=self.counts.append,
        )
        self._seq = 0

    def frame(self, *boxes: tuple[int, float, float, float], **more: Any) -> Tracked | None:
        """The next frame shows boxes: (label, score, x and y of its foot)."""
        rows = [(x - 10, y - 40, x + 10, y) for _, _, x, y in boxes]
        found = Detections(
            xyxy=np.array(rows, np.float32).reshape(-1, 4),
            score=np.array([score for _, score, _, _ in boxes], np.float32),
            label=np.array([label for label, _, _, _ in boxes], np.int32),
        )
        picture = Frame("dock", self._seq, moment(self._seq), grey(SIZE))
        self._seq += 1
        request = Request(("dock", "things"), picture, (None,), True, 0, lambda *_: None, model="fake@int8")
        return self.watch.see(request, self.use, found, **more)

    def told(self, *names: str) -> list[tuple[Any, ...]]:
        """Those fields of every event."""
        return [tuple(getattr(event, name, None) for name in names) for event in self.events]


def grey(size: tuple[int, int]) -> Image:
    """A picture of one colour."""
    return Image((np.full((size[1], size[0]), 128, np.uint8),), "gray", "bt601", "full", size)
