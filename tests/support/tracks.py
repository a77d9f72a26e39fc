"""Frames as rules see them, made of what a test says is in the picture."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from pydantic import TypeAdapter

from agent.config import AnyRule
from agent.rules import Finding, Rule, Seen
from engines.results import Classification, Detections

SIZE = (1000, 500)
"""Of the picture: not square, so that shares and pixels cannot be confused unseen."""
LABELS = ("person", "car", "dog")
CLASSES = ("open", "closed", "blocked")
HEIGHT = 100
"""Of every box, pixels."""

_rules: TypeAdapter[Any] = TypeAdapter(AnyRule)


def rule(kind: str, name: str = "rule", tracked: str | None = "people", **keys: Any) -> Rule:
    """A rule as a configuration makes it."""
    built: Rule = _rules.validate_python({"type": kind, **keys}).build(name, tracked)
    return built


def objects(
    at_s: float,
    where: Mapping[int, tuple[float, float]],
    *,
    hidden: Iterable[int] = (),
    label: str | Mapping[int, str] = "person",
    score: float | Mapping[int, float] = 0.9,
    tracked: bool = True,
) -> Seen:
    """Tracks with their feet at x, y (0 to 1 of the picture); `hidden` ones are followed, but not in this frame."""
    feet = np.array(list(where.values()), np.float64).reshape(-1, 2) * SIZE
    xyxy = np.concatenate([np.subtract(feet, (20, HEIGHT)), np.add(feet, (20, 0))], axis=1)
    scores = [score if isinstance(score, float) else score[track] for track in where]
    labels = [LABELS.index(label if isinstance(label, str) else label[track]) for track in where]
    tracks = np.array(list(where), np.int64)
    return Seen(
        use="people",
        at_ns=round(at_s * 1e9),
        size=SIZE,
        labels=LABELS,
        result=Detections(xyxy, np.array(scores), np.array(labels)),
        track=tracks if tracked else None,
        present=tuple(sorted({*where, *hidden} - {0})) if tracked else (),
    )


def classes(at_s: float, **scores: float) -> Seen:
    """A picture's classes, as a task gives them: best first."""
    best = sorted(scores, key=lambda name: -scores[name])
    label, score = np.array([CLASSES.index(name) for name in best], int), np.array([scores[name] for name in best])
    return Seen("scene", round(at_s * 1e9), SIZE, CLASSES, Classification(label, score))


def told(judge: Rule, frames: Iterable[Seen]) -> list[tuple[float, Finding]]:
    """What a rule says, with the second at which it says it."""
    return [(seen.at_ns / 1e9, finding) for seen in frames for finding in judge.see(seen)]


def said(judge: Rule, frames: Iterable[Seen]) -> list[tuple[float, str, Any]]:
    """As `told`, only when, phase and key."""
    return [(at, finding.phase, finding.key) for at, finding in told(judge, frames)]


def walk(
    points: Sequence[tuple[float, float]], *, rate: float = 10.0, seconds: float = 10.0, track: int = 1, **more: Any
) -> list[Seen]:
    """One object that goes from point to point at an even pace."""
    times = np.arange(0, seconds + 1e-9, 1 / rate)
    legs = np.linspace(0, seconds, len(points))
    x, y = (np.interp(times, legs, [point[axis] for point in points]) for axis in (0, 1))
    frames = zip(times.tolist(), x.tolist(), y.tolist(), strict=True)
    return [objects(round(at, 6), {track: (px, py)}, **more) for at, px, py in frames]
