"""`events:` of the configuration."""

from __future__ import annotations

from pathlib import Path

from agent.values import Section


class EventsSection(Section):
    """`events: {path: /var/lib/sightwire/events.db}`."""

    path: Path | None = None
    """Default: `events/<agent>.db` in the user's or the service's state folder."""

    def file(self, agent: str) -> Path:
        """Where."""
        return self.path or Path("/nonexistent") / agent
