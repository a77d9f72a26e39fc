"""The faults: one small class each, tried in the order of `FAULTS`."""

from __future__ import annotations

from agent.chaos.faults._fault import Fault, Outcome, Seen
from agent.chaos.faults.agent import Killed, Told
from agent.chaos.faults.broker import Frozen, Stopped
from agent.chaos.faults.cameras import Cut, Stalled, Standing
from agent.chaos.faults.clock import Skewed
from agent.chaos.faults.engine import Hung
from agent.chaos.faults.outbox import Full

FAULTS: tuple[type[Fault], ...] = (
    Cut, Stalled, Standing, Stopped, Frozen, Full, Killed, Skewed, Hung, Told,
)  # fmt: skip

__all__ = ["FAULTS", "Fault", "Outcome", "Seen"]
