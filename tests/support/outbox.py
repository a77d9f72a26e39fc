"""Events to put into an outbox, and couriers that only read."""

from __future__ import annotations

from typing import Any

from agent.messages import EventPayload, Phase
from agent.outbox.outbox import Outbox, Stored
from tests.support.waiting import until


def event(n: int = 0, phase: Phase = "moment", *, kind: str = "zone", **more: Any) -> EventPayload:
    """As a camera's incidents make them; `data` has the number `n`."""
    return EventPayload.model_construct(
        agent="gatehouse",
        boot_id="",
        event_seq=0,
        id=f"0a1b2c3d-dock-{n}",
        kind=kind,
        phase=phase,
        camera="dock",
        captured_at="2026-11-22T08:00:00.123456Z",
        data={"n": n},
        **more,
    )


class ByHand(Outbox):
    """Has no thread: the test says when it writes."""

    def _write_on(self) -> None:
        pass

    def write(self) -> None:
        """Commit, deletes too."""
        self._dirty_s = 0.0
        assert self._turn()


def read(outbox: Outbox, sink: str = "mqtt", after: int = 0, timeout_s: float = 5.0) -> list[Stored]:
    """All that waits for the sink and is committed; waits for the first."""
    found: list[Stored] = []
    while part := outbox.next(sink, after, 500, timeout_s if not found else 0.0):
        found += part
        after = part[-1].seq
    return found


def settle_all(outbox: Outbox, sink: str = "mqtt", timeout_s: float = 0.3) -> list[Stored]:
    """Acknowledge everything until nothing comes any more."""
    settled: list[Stored] = []
    while part := outbox.next(sink, 0, 500, timeout_s):
        for stored in part:
            outbox.settle(sink, stored.seq, "acknowledged")
        settled += part
    return settled


def committed(outbox: Outbox) -> None:
    """Wait until all that was put is on the disk."""
    until(lambda: outbox.unwritten == 0)


def lawful(outbox: Outbox) -> bool:
    """Whether, for each sink, made == acknowledged + expired + dropped + what it still finds waiting."""
    rows = outbox._ledger.rows.values()
    return all(
        account["made"] == account["acknowledged"] + account["expired"] + account["dropped"] + account["waiting"]
        and account["waiting"] == sum(bool(row.owed & outbox._ledger.bits[name]) for row in rows)
        for name, account in outbox.counts().items()
    )
