"""A wall clock that jumps."""

from __future__ import annotations

import time

from agent.chaos.faults._fault import Fault, Seen
from agent.chaos.faults.broker import EVENTS
from agent.chaos.faults.cameras import HICCUP_S
from agent.chaos.stage import Stage

JUMPS_S = (3600.0, -3600.0, 0.0)
"""Ahead of the truth, one after the other; the last sets it right."""


class Skewed(Fault):
    """A machine without a battery, whose clock is set an hour after the start, and back."""

    name = "clock-skew"
    does = "the clock jumps an hour ahead, then two back, then to the truth"

    def expected(self, stage: Stage) -> str:  # noqa: ARG002
        """See Fault."""
        return "results go on and none is older than its limit, every event is delivered"

    def strike(self, stage: Stage) -> Seen:
        """See Fault."""
        heard, seen, began_s = stage.heard, Seen("agent"), time.monotonic()
        for ahead_s in JUMPS_S:
            jumped_s = time.monotonic()
            stage.agent.ask("skew", seconds=ahead_s)
            stage.agent.ask("put", count=EVENTS)
            stage.last(jumped_s, stage.patience.outage_s / len(JUMPS_S))
        use, pause_s = stage.use(stage.camera)[0], stage.pause_s
        gap_s = heard.longest_gap_s(stage.camera, use, began_s, time.monotonic())
        oldest = heard.oldest_ms(began_s)
        limits = stage.max_age_ms()
        most_ms = max(oldest.values(), default=0.0)
        seen.happened.append(f"longest pause {gap_s:.1f} s, oldest result {most_ms:.0f} ms")
        if gap_s > pause_s + HICCUP_S:
            seen.wrong.append("results were away")
        for key, age_ms in oldest.items():
            if age_ms > limits.get(key, age_ms):
                seen.wrong.append(f"{'/'.join(key)}: {age_ms:.0f} ms old")
        if any(result.age_ms < 0 for result in heard.results):
            seen.wrong.append("a result is younger than nothing")
        seen.wrong += stage.drained()
        return seen

    def undo(self, stage: Stage) -> None:
        """See Fault."""
        if stage.agent.running:
            stage.agent.ask("skew", seconds=0.0)
