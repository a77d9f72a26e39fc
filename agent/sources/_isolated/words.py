"""What both processes know of each other."""

from __future__ import annotations

from dataclasses import dataclass

from agent.errors import AgentError, ConfigError, Refused, SourceError
from agent.sources import SourceConfig

MOST_BYTES = 1 << 17
"""Of a packet."""
KINDS: dict[str, type[AgentError]] = {kind.__name__: kind for kind in (Refused, SourceError, ConfigError)}
"""Errors that arrive as what they were; each before what it derives from."""


@dataclass(frozen=True)
class Order:
    """What the agent wants read; it is pickled, because a source's config is more than what can be written in YAML."""

    source: SourceConfig
    folder: str
    """Where relative paths begin."""
    log_level: int
