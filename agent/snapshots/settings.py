"""`snapshots:` of a camera."""

from __future__ import annotations

from agent.values import Section


class SnapshotSection(Section):
    """`snapshots: {boxes: true}`."""

    boxes: bool = True
    """Draw what was found."""
