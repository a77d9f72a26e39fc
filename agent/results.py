"""From results to payloads: one entry a kind of result."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

import numpy as np
from numpy.typing import NDArray

from agent.flow import Request
from agent.messages import (
    ClassificationPayload,
    ClassScore,
    Detection,
    DetectionsPayload,
    ResultPayload,
    Size,
    Timing,
    rfc3339,
)
from agent.sinks import Message
from agent.tracking import Tracked
from agent.tracking.prediction import Ahead
from agent.uses import Use
from engines.results import Classification, Detections, Result

Kind = TypeVar("Kind", bound=Result)
Attributes = list[dict[str, Any]]


@dataclass(frozen=True)
class Content(Generic[Kind]):
    """How one kind of result is published."""

    topic: str
    """Last level of the topic, and the payload's field that holds the rows."""
    field: str
    payload: type[ResultPayload]
    rows: Callable[[Kind, tuple[str, ...], Attributes, NDArray[np.int64] | None], list[Any]]

    @staticmethod
    def of(result: Result | None, labels: tuple[str, ...]) -> list[dict[str, Any]]:
        """The rows of a result as plain values: what a cascade leaves in its parent's attributes."""
        if result is None:
            return []
        return [row.model_dump() for row in CONTENTS[type(result)].rows(result, labels, [], None)]


def _classes(found: Classification, labels: tuple[str, ...], *_: object) -> list[ClassScore]:
    return [
        ClassScore.model_construct(label=labels[label], score=round(score, 4))
        for label, score in zip(found.label.tolist(), found.score.tolist(), strict=True)
    ]


def _objects(
    found: Detections, labels: tuple[str, ...], attributes: Attributes, track: NDArray[np.int64] | None
) -> list[Detection]:
    boxes = found.xyxy.round(1).tolist()
    tracks: list[dict[str, Any]] = [{}] * len(found)
    if track is not None:
        tracks = [{"track": number or None} for number in track.tolist()]
    return [
        Detection.model_construct(
            label=labels[label],
            score=round(score, 4),
            box=[round(edge, 1) for edge in box],
            **tracks[row],
            attributes=attributes[row] if attributes else {},
        )
        for row, (label, score, box) in enumerate(zip(found.label.tolist(), found.score.tolist(), boxes, strict=True))
    ]


CONTENTS: dict[type[Result], Content[Any]] = {
    Classification: Content("classification", "classes", ClassificationPayload, _classes),
    Detections: Content("detections", "detections", DetectionsPayload, _objects),
}


def attributes_of(tracked: Tracked, attributes: Sequence[dict[str, Any]]) -> Attributes:
    """The attributes of the rows that a tracker tells, from those of all rows that it was given."""
    return [attributes[row] for row in tracked.rows.tolist()] if attributes else []


def message_for(
    agent: str,
    use: Use,
    request: Request,
    result: Result,
    attributes: Attributes,
    *,
    tracked: Tracked | None = None,
    lossless: bool,
) -> Message:
    """The message that says what a model saw in one frame of one camera.

    `tracked`: what its objects are, where this use is tracked; `result` are its rows then.
    """
    frame, timing = request.frame, request.timing
    captured = frame.captured
    content = CONTENTS[type(result)]
    received: dict[str, Any] = {} if captured.received_ns is None else {"received_at": rfc3339(captured.received_ns)}
    rows: list[Any] = content.rows(result, use.labels, attributes, tracked.track if tracked else None)
    fields: dict[str, Any] = {content.field: rows}
    ahead = None
    if use.predict and tracked and captured.live:
        ahead = Ahead(rows, tracked.found.xyxy, tracked.velocity, frame.image.size)
    payload = content.payload.model_construct(
        schema_=content.payload.model_fields["schema_"].default,
        agent=agent,
        camera=frame.camera,
        use=use.name,
        model=request.model,
        seq=frame.seq,
        captured_at=rfc3339(captured.wall_ns),
        **received,
        clock=captured.clock,
        age_ms=0.0 if captured.live else None,
        frame=Size.model_construct(width=frame.image.size[0], height=frame.image.size[1]),
        timing_ms=Timing.model_construct(
            wait=_ms(timing.wait), prepare=_ms(timing.prepare), infer=_ms(timing.infer), read=_ms(timing.read)
        ),
        **fields,
    )
    return Message(
        f"{frame.camera}/{use.name}/{content.topic}",
        payload,
        retain=use.retain,
        born_ns=captured.monotonic_ns if captured.live else time.monotonic_ns(),
        max_age_ns=use.max_age_ns,
        lossless=lossless,
        later=ahead,
    )


def _ms(nanoseconds: int) -> float:
    return round(nanoseconds / 1e6, 2)
