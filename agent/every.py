"""At most so often, in capture time."""

from __future__ import annotations

from dataclasses import dataclass

from agent.frame import Timestamp


@dataclass
class Every:
    """Which frames of a camera are wanted where one each `step_ns` is enough."""

    step_ns: int = 0
    """0: every frame."""
    due_ns: int | None = None

    def due(self, captured: Timestamp) -> bool:
        """Whether this frame is wanted; counted in capture time, so that a recording always gives the same frames."""
        if not self.step_ns:
            return True
        now_ns = captured.monotonic_ns
        if self.due_ns is not None and now_ns < self.due_ns and self.due_ns - now_ns <= self.step_ns:
            return False
        # On the grid of the first frame, unless the camera was away for longer than a step.
        late = self.due_ns is None or abs(now_ns - self.due_ns) > self.step_ns
        self.due_ns = (now_ns if late or self.due_ns is None else self.due_ns) + self.step_ns
        return True
