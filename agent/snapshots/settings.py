"""`snapshots:` of a camera."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from pydantic import Field, model_validator

from agent.durations import Seconds
from agent.values import Count, Section


class KeptSection(Section):
    """How much of what is kept stays: the oldest goes first."""

    folder: Path | None = None
    """Files lie in `<folder>/<agent>/<camera>/`. Default: in the user's or the service's state folder."""
    limit: Annotated[int, Field(gt=0, le=100_000)] = 1000
    """Files of this camera."""
    max_mb: Count = 200
    """Of this camera's files together."""
    max_age: Seconds = 30 * 86400.0


class SnapshotSection(KeptSection):
    """`snapshots: {boxes: true, publish: true}`; without it no picture is made."""

    boxes: bool = True
    """Draw what was found."""
    max_width: Annotated[int, Field(ge=64, le=7680)] = 1280
    """Wider pictures are made smaller, pixels."""
    quality: Annotated[int, Field(ge=10, le=100)] = 80
    """Of the JPEG."""
    every: Seconds = 1.0
    """Between two pictures of this camera at least; what waits meanwhile is replaced by what is better."""
    publish: bool = False
    """Also as `<camera>/snapshot`, raw JPEG bytes."""
    retain: bool = False
    """The broker keeps the newest one, for whoever subscribes later."""

    @model_validator(mode="after")
    def _fits_together(self) -> SnapshotSection:
        if self.retain and not self.publish:
            raise ValueError("retain: only with 'publish: true'")
        return self
