"""`track:` of a camera."""

from __future__ import annotations

from agent.values import Section


class TrackSection(Section):
    """`track: {use: people, labels: [person]}`."""

    use: str
    labels: tuple[str, ...] | None = None
    """Only these are followed; default: all."""
    predict: bool = False
    """Published boxes are where the object will be when the message leaves."""
