"""What a camera is used for: one model, how often, on which part of the picture, and what looks at its objects."""

from __future__ import annotations

from dataclasses import dataclass, field

from agent.flow import Account, Mailbox
from agent.frame import Timestamp


@dataclass(eq=False)
class Use:
    """One model on one camera."""

    name: str
    model: str
    """As it stands in payloads: `person-ssdlite@int8`."""
    labels: tuple[str, ...]
    mailbox: Mailbox
    every_ns: int = 0
    roi: tuple[float, float, float, float] | None = None
    """left, top, right, bottom, 0 to 1 of the picture."""
    threshold: float = 0.0
    max_age_ns: int = 1_000_000_000
    retain: bool = False
    cascades: list[Cascade] = field(default_factory=list)
    account: Account = field(default_factory=Account)
    due_ns: int | None = None

    def due(self, captured: Timestamp) -> bool:
        """Whether this frame is wanted; counted in capture time, so that a recording always gives the same frames."""
        if not self.every_ns:
            return True
        now_ns = captured.monotonic_ns
        if self.due_ns is not None and now_ns < self.due_ns and self.due_ns - now_ns <= self.every_ns:
            return False
        # On the grid of the first frame, unless the camera was away for longer than a step.
        late = self.due_ns is None or abs(now_ns - self.due_ns) > self.every_ns
        self.due_ns = (now_ns if late or self.due_ns is None else self.due_ns) + self.every_ns
        return True


@dataclass(eq=False)
class Cascade:
    """A use that looks at the objects another one found."""

    use: Use
    labels: frozenset[int] | None
    """The parent's labels it wants; None: all."""
    pad: float
    """Added on each side, as a share of the box."""
    most: int
    """Objects of one frame, best first."""
