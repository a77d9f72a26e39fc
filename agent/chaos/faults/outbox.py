"""More events than may wait."""

from __future__ import annotations

from agent.chaos.faults._fault import Fault, Seen
from agent.chaos.stage import KEEP, Stage

TIMES = 3


class Full(Fault):
    """A broker that is away for a week."""

    name = "outbox-full"
    does = f"without a broker there are {TIMES} times as many events as may wait"

    def expected(self, stage: Stage) -> str:  # noqa: ARG002
        """See Fault."""
        return f"at most {KEEP} wait, the oldest are dropped, and as many are announced as are missing"

    def strike(self, stage: Stage) -> Seen:
        """See Fault."""
        heard, seen = stage.heard, Seen("outbox")
        announced, missing = heard.delivered.announced, heard.delivered.missing
        stage.stop_broker()
        for _ in range(TIMES):  # some are on the disk when they are dropped, some are not
            stage.agent.ask("put", count=KEEP)
            heard.wait(lambda: False, 0.2)
        account = stage.agent.ask("account")["mqtt"]
        stage.start_broker()
        seen.wrong += stage.drained()
        dropped = heard.delivered.missing - missing
        said = heard.delivered.announced - announced
        seen.happened.append(
            f"{TIMES * KEEP} offered, {account['waiting']} waited, {dropped} dropped, {said} announced"
        )
        if account["waiting"] > KEEP + 1:  # the word on what was dropped is one more
            seen.wrong.append(f"{account['waiting']} waited")
        if not dropped or said != dropped:
            seen.wrong.append(f"{dropped} are missing, {said} were announced")
        return seen

    def undo(self, stage: Stage) -> None:
        """See Fault."""
        stage.door.mend()
