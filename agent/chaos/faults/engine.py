"""An engine that does not come back from a call."""

from __future__ import annotations

import time
from typing import Any

from agent.chaos.faults._fault import GRACE, Fault, Seen
from agent.chaos.stage import Stage

FOUND_S = 5.0
BACK_S = 10.0
"""From the beginning: found, and another one opened."""
CAUGHT_S = 10.0
"""So soon a batch must be submitted that can hang."""
BATCH_S = 0.1
"""What was under way when it hung may still come."""


class Hung(Fault):
    """A driver that hangs, a GPU that fell off the bus."""

    name = "engine-hang"
    does = "a call into an engine does not come back"

    def expected(self, stage: Stage) -> str:
        """See Fault."""
        return f"found and said within {FOUND_S:g} s, results from another engine within {BACK_S + stage.pause_s:g} s"

    def strike(self, stage: Stage) -> Seen:
        """See Fault."""
        heard, camera = stage.heard, stage.camera
        use, _ = stage.use(camera)
        seen, back_s, caught_s = Seen(f"models.{use}"), BACK_S + stage.pause_s, CAUGHT_S + 2 * stage.pause_s
        before = stage.heard.status()["engines"][use]

        def differs(status: dict[str, Any]) -> bool:
            return bool(status["engines"][use] != before)

        stage.agent.ask("hang", engine=use, seconds=back_s * GRACE + 10)
        hung_s: float | None = None
        asked_s = time.monotonic()
        while hung_s is None and time.monotonic() < asked_s + caught_s:
            hung_s = stage.agent.ask("hangs")["since_s"]
            stage.last(time.monotonic(), 0.05)
        if hung_s is None:
            seen.wrong.append(f"models.{use} was asked nothing for {caught_s:g} s")
            return seen
        since_s = hung_s
        said = heard.wait(lambda: heard.status_since(since_s, differs), FOUND_S * GRACE)
        now = said.said["engines"][use] if said else {}
        why = now.get("because") or now.get("last_fault") or "said"
        seen.found(str(why), since_s, said.at_s if said else None, FOUND_S)
        # What is found late, or not at all, has had its time.
        left_s = back_s * GRACE if said else back_s - (time.monotonic() - since_s)
        result = heard.wait(lambda: heard.result_of(camera, since_s + BATCH_S, use), left_s)
        seen.back(since_s, result.arrived_s if result else None, back_s)
        return seen

    def undo(self, stage: Stage) -> None:
        """See Fault."""
        if stage.agent.running:
            stage.agent.ask("release")
