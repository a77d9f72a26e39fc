"""`events:` of the configuration."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import BeforeValidator, Field

from agent.durations import Seconds
from agent.folders import state_folder
from agent.values import Count, Section

DEFAULT_EXPIRE_S = 7 * 86400.0


def _all_kinds(value: object) -> object:
    """One duration for all kinds of events instead of kind -> duration."""
    return value if isinstance(value, dict) else {"default": value}


class EventsSection(Section):
    """`events: {path: /var/lib/sightwire/events.db, expire: {default: 7d, line: 1h}}`."""

    path: Path | None = None
    """Default: `events/<agent>.db` in the user's or the service's state folder."""
    keep: Count = 100_000
    """At most so many events wait; then the oldest are dropped."""
    max_mb: Annotated[float, Field(gt=0)] = 64.0
    """At most so many MB of events wait."""
    expire: Annotated[dict[str, Annotated[Seconds, Field(gt=0)]], BeforeValidator(_all_kinds)] = Field(
        default_factory=lambda: {"default": DEFAULT_EXPIRE_S}
    )
    """What has waited for so long is dropped: of all kinds, or of those that are named and `default`."""
    no_subscriber: Literal["delete", "keep"] = "delete"
    """What becomes of an event that the broker acknowledged, saying that nobody listens."""

    def expire_s(self, kind: str) -> float:
        """How long an event of that kind may wait."""
        return self.expire.get(kind, self.expire.get("default", DEFAULT_EXPIRE_S))

    def file(self, agent: str) -> Path:
        """Where the events of the agent of that name are kept."""
        return self.path or state_folder() / "events" / f"{agent}.db"
