"""The agent itself: killed, and told to end."""

from __future__ import annotations

import time

from agent.chaos.faults._fault import GRACE, Fault, Seen
from agent.chaos.faults.broker import EVENTS
from agent.chaos.stage import Stage

BACK_S = 20.0
"""It is started at once, as systemd does; engines are opened anew, and with a cold cache compiled."""
END_S = 10.0
COMMITTED_S = 0.5
"""What happened so long ago is on the disk."""


class Killed(Fault):
    """The kernel's out-of-memory killer, a crash in a driver."""

    name = "agent-kill"
    does = "the agent is killed (SIGKILL) with events that wait, and started again"

    def expected(self, stage: Stage) -> str:
        """See Fault."""
        return f"results again within {BACK_S + stage.pause_s:g} s of its start, every event delivered, in order"

    def strike(self, stage: Stage) -> Seen:
        """See Fault."""
        heard, seen = stage.heard, Seen("agent")
        before = len(heard.delivered.boots)
        stage.door.cut()
        stage.agent.ask("put", count=EVENTS)
        heard.wait(lambda: False, COMMITTED_S)
        stage.agent.kill()
        stage.door.mend()
        began_s = time.monotonic()
        stage.agent.start()
        back_s = BACK_S + stage.pause_s
        result = heard.wait(lambda: heard.result_of(stage.camera, began_s), back_s * GRACE)
        seen.back(began_s, result.arrived_s if result else None, back_s)
        seen.wrong += stage.drained()
        if (came := len(heard.delivered.boots) - before) < EVENTS:
            seen.wrong.append(f"{EVENTS} events waited, {came} came")
        seen.happened.append(f"{EVENTS} events waited, {came} delivered after it")
        return seen

    def undo(self, stage: Stage) -> None:
        """See Fault."""
        stage.door.mend()
        if not stage.agent.running:
            stage.agent.kill()
            stage.agent.start()


class Told(Fault):
    """The end of the play, where everything is counted."""

    name = "agent-stop"
    does = "the agent is told to end (SIGTERM)"

    def expected(self, stage: Stage) -> str:  # noqa: ARG002
        """See Fault."""
        return f"ends within {END_S:g} s with status 0; every frame and every event is accounted for"

    def strike(self, stage: Stage) -> Seen:
        """See Fault."""
        heard, seen = stage.heard, Seen("agent")
        began_s = time.monotonic()
        status = stage.agent.end(END_S * GRACE)
        seen.back(began_s, time.monotonic(), END_S)
        if status != 0:
            seen.wrong.append(f"status {status}")
        metrics, frames = heard.metrics, 0
        if heard.status().get("state") != "offline":
            seen.wrong.append("no last word")
        for camera, counts in metrics.get("cameras", {}).items():
            for use, account in counts["uses"].items():
                frames += account["offered"]
                if left := account["waiting"]:
                    seen.wrong.append(f"{camera}/{use}: {left} of {account['offered']} frames without outcome")
        events = metrics.get("events", {}).get("mqtt", {})
        if left := events.get("waiting"):
            seen.wrong.append(f"{left} events wait")
        if heard.delivered.lost > 0:
            seen.wrong.append(f"{heard.delivered.lost} events are lost")
        came = len(heard.delivered.boots)
        seen.happened.append(
            f"{frames} frames and {came} events accounted for, {heard.delivered.again} delivered twice"
        )
        return seen
