"""`clips:` of a camera."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field, model_validator

from agent.durations import Seconds
from agent.snapshots.settings import KeptSection
from agent.values import Count


class ClipSection(KeptSection):
    """`clips: {before: 5s, after: 10s}`; without it no packet of the stream is kept."""

    before: Annotated[Seconds, Field(le=60)] = 5.0
    """Shown before the incident, at least: a clip begins with a key frame."""
    after: Annotated[Seconds, Field(le=600)] = 5.0
    """Shown after its end."""
    longest: Annotated[Seconds, Field(gt=0, le=3600)] = 120.0
    """A clip ends then, whatever happens."""
    buffer_mb: Count = 16
    """Memory for what came before: where `before` needs more, a clip begins later."""
    limit: Annotated[int, Field(gt=0, le=100_000)] = 200
    max_mb: Count = 2000

    @model_validator(mode="after")
    def _fits_together(self) -> ClipSection:
        if self.longest <= self.before:
            raise ValueError("longest: must be more than 'before'")
        return self
