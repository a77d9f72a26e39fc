"""A broker that is gone, and one that does not answer."""

from __future__ import annotations

import time
from abc import abstractmethod
from typing import Any

from agent.chaos.faults._fault import GRACE, Fault, Seen
from agent.chaos.faults.cameras import HICCUP_S
from agent.chaos.stage import Stage

FOUND_S = 5.0
BACK_S = 10.0
"""Its pauses between two tries double up to 30 s; after an outage of seconds they are not there yet."""
EVENTS = 20
"""So many happen meanwhile."""


def is_connected(status: dict[str, Any]) -> bool:
    """As the agent says."""
    return bool(status["sinks"]["mqtt"]["connected"] and not status["sinks"]["mqtt"].get("reason"))


class _OfBroker(Fault):
    def expected(self, stage: Stage) -> str:  # noqa: ARG002
        """See Fault."""
        return (
            f"said within {FOUND_S:g} s, connected again within {BACK_S:g} s, every event delivered, in order; "
            "recognition goes on"
        )

    @abstractmethod
    def do(self, stage: Stage) -> None:
        """Begin."""

    @abstractmethod
    def mend(self, stage: Stage) -> None:
        """End."""

    def strike(self, stage: Stage) -> Seen:
        """See Fault."""
        heard, seen = stage.heard, Seen("broker")
        before = heard.delivered.announced + len(heard.delivered.boots)
        began_s = time.monotonic()
        self.do(stage)
        stage.agent.ask("put", count=EVENTS)
        said = heard.wait(lambda: heard.status_since(began_s, lambda status: not is_connected(status)), FOUND_S * GRACE)
        reason = said.said["sinks"]["mqtt"].get("reason") if said else None
        seen.found(reason or "not connected", began_s, said.at_s if said else None, FOUND_S)
        stage.last(began_s)
        use, pause_s = stage.use(stage.camera)[0], stage.pause_s
        gap_s = heard.longest_gap_s(stage.camera, use, began_s, time.monotonic())
        if gap_s > pause_s + HICCUP_S:
            seen.wrong.append(f"{stage.camera} had no results for {gap_s:.1f} s meanwhile")
        self.mend(stage)
        mended_s = time.monotonic()
        again = heard.wait(lambda: heard.status_since(mended_s, is_connected), BACK_S * GRACE)
        seen.back(mended_s, again.at_s if again else None, BACK_S)
        seen.wrong += stage.drained()
        seen.happened.append(f"{heard.delivered.announced + len(heard.delivered.boots) - before} events delivered")
        return seen


class Stopped(_OfBroker):
    """A broker that is updated, or its machine."""

    name = "broker-stop"
    does = "the broker is stopped: connections end, new ones are refused"

    def do(self, stage: Stage) -> None:
        """See Fault."""
        stage.stop_broker()

    def mend(self, stage: Stage) -> None:
        """See Fault."""
        stage.start_broker()

    def undo(self, stage: Stage) -> None:
        """See Fault."""
        stage.door.mend()


class Frozen(_OfBroker):
    """A broker whose machine swaps, or a switch that drops."""

    name = "broker-freeze"
    does = "the broker does not answer any more, its connections stay"

    def do(self, stage: Stage) -> None:
        """See Fault."""
        stage.broker.freeze()

    def mend(self, stage: Stage) -> None:
        """See Fault."""
        stage.broker.thaw()

    def undo(self, stage: Stage) -> None:
        """See Fault."""
        stage.broker.thaw()
