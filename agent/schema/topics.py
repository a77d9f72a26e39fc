"""Every topic of our own: which payload, which way, how. (Dialects have others: docs/dialects.md.)"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from agent.messages import (
    AboutPayload,
    AgentStatus,
    CameraStatus,
    ClassificationPayload,
    CountsPayload,
    DetectionsPayload,
    EventPayload,
    Metrics,
)
from agent.remote.payloads import AnyCommand, ReplyPayload

PAYLOADS: dict[str, Any] = {
    "status": AgentStatus,
    "camera": CameraStatus,
    "classification": ClassificationPayload,
    "detections": DetectionsPayload,
    "event": EventPayload,
    "counts": CountsPayload,
    "about": AboutPayload,
    "metrics": Metrics,
    "command": AnyCommand,
    "reply": ReplyPayload,
}
"""By the name in their `schema`: `sightwire.<name>/1`."""


@dataclass(frozen=True)
class Topic:
    """One channel."""

    address: str
    """Below `<prefix>/<agent>/`, with `{camera}` and `{use}`."""
    payload: str | None
    """Of PAYLOADS; None: a picture."""
    summary: str
    qos: int = 0
    retain: bool = False
    asked: bool = False
    """The agent listens here; everywhere else it speaks."""

    @property
    def name(self) -> str:
        """`cameraUseDetections`, `status`."""
        first, *rest = self.address.replace("{", "").replace("}", "").split("/")
        return first + "".join(part.capitalize() for part in rest)


TOPICS = (
    Topic("status", "status", "Whether the agent is there, and how it is", qos=1, retain=True),
    Topic("metrics", "metrics", "Counters, each 10 s and at the end"),
    Topic("about", "about", "What the agent is set up for", qos=1, retain=True),
    Topic("events", "event", "Events about the agent itself, such as gaps", qos=1),
    Topic("{camera}/status", "camera", "Whether a camera delivers", qos=1, retain=True),
    Topic("{camera}/{use}/classification", "classification", "Best classes of a frame, each frame"),
    Topic("{camera}/{use}/detections", "detections", "Objects in a frame, each frame"),
    Topic("{camera}/events", "event", "Incidents, each sent until it is acknowledged", qos=1),
    Topic("{camera}/counts", "counts", "How many of what are there, on change", qos=1, retain=True),
    Topic("{camera}/snapshot", None, "A picture, where the configuration publishes them"),
    Topic("command", "command", "What is asked of the agent or a camera", qos=1, asked=True),
    Topic("{camera}/command", "command", "What is asked of a camera", qos=1, asked=True),
    Topic("reply", "reply", "Answers to those who gave no response topic", qos=1),
    Topic("{camera}/reply", "reply", "Answers to those who gave no response topic", qos=1),
)
