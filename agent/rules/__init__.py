"""What makes events of results: one file a kind of rule, each with one `Config` class that is its factory.

A rule belongs to one camera and looks at one use of it, frame by frame in capture order. It knows no clock but the
camera's own, so that a recording gives the same events every time, and says only what it found: incidents get their
names, pictures and paths in `agent.watching.incidents`. What each rule means is written for users in `docs/events.md`.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Collection, Hashable, Iterable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from agent.messages import Phase
from agent.values import Section
from engines.results import Detections, Result


@dataclass(frozen=True, eq=False)
class Seen:
    """What one use of a camera saw in one frame."""

    use: str
    at_ns: int
    """The camera's own time: position in a recording, or the monotonic receive time."""
    size: tuple[int, int]
    """(width, height) of the picture, pixels."""
    labels: tuple[str, ...]
    """Of the model; results have indices into them."""
    result: Result
    track: NDArray[np.int64] | None = None
    """(N,) of Detections: the object each row is, 0 for none; None where this use is not tracked."""
    present: tuple[int, ...] = ()
    """All confirmed tracks that are followed now, also those that this frame does not show (hidden for a moment)."""

    @cached_property
    def followed(self) -> Followed:
        """The rows with a track; made once for all rules that ask."""
        if self.track is None or not isinstance(self.result, Detections):
            return Followed([], [], [], np.empty((0, 4)))
        rows = self.track.nonzero()[0]
        boxes = self.result.xyxy[rows].astype(np.float64)
        return Followed(rows.tolist(), self.track[rows].tolist(), self.result.label[rows].tolist(), boxes)


@dataclass(frozen=True, eq=False)
class Followed:
    """Objects in a frame that are followed, (M)."""

    row: list[int]
    track: list[int]
    label: list[int]
    xyxy: NDArray[np.float64]
    """(M, 4) their boxes, pixels."""

    def only(self, at: list[int]) -> Followed:
        """Some of them."""
        row, track, label = ([column[n] for n in at] for column in (self.row, self.track, self.label))
        return Followed(row, track, label, self.xyxy[at])


@dataclass(frozen=True)
class Finding:
    """A rule's word: something began, changed or ended, or happened in a moment."""

    phase: Phase
    key: Hashable
    """Which incident of this rule: a track, a label, or nothing but the rule itself."""
    row: int | None = None
    """The row of the result that shows it."""
    reason: str | None = None
    """Of an end."""
    data: dict[str, Any] = field(default_factory=dict)
    since_ns: int | None = None
    """Of a start without an object: when what it is about was seen first, if before this frame."""


class Rule(ABC):
    """One rule of one camera at work."""

    name: str
    """In the configuration."""
    kind: str
    """In events: `zone`, `line`, `presence`, ..."""
    use: str
    """What it looks at."""

    @abstractmethod
    def see(self, seen: Seen) -> Iterable[Finding]:
        """Look at the next frame, in capture order.

        Of one key, a `start` comes before its `update`s and its `end`, and no second `start` before that.
        """

    @abstractmethod
    def forget(self) -> None:
        """The camera was lost: what was open has been ended by others; begin anew with the next frame."""

    def counts(self) -> dict[str, Any]:
        """What the camera's counts say of this rule; empty for nothing."""
        return {}

    @property
    def inside(self) -> Collection[int]:
        """The tracks that are where this rule looks; for rules that are places."""
        return ()

    @property
    def showing(self) -> Mapping[Hashable, int]:
        """Key of what is open, and no object -> the row of the newest frame that shows it; for what lasts."""
        return {}


Kinds = tuple[type[Result], ...]


class RuleConfig(Section):
    """Base of every rule's config: the config is the factory."""

    labels: tuple[str, ...] | None = None
    """Only these count; default: all."""

    @abstractmethod
    def build(self, name: str, tracked: str | None) -> Rule:
        """Build the rule of that name. `tracked`: the camera's tracked use; a configuration that needs one has it."""

    @property
    def needs_tracks(self) -> bool:
        """Whether the camera must have `track:`."""
        return False

    @property
    def looks_at(self) -> str | None:
        """The use it names; None: the tracked one."""
        return None

    @property
    def understands(self) -> Kinds:
        """The kinds of results it can look at."""
        return (Detections,)
