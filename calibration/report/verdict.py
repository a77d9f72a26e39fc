"""The verdict in a sentence, and what is to blame for a refusal."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from calibration.proof import Layer, Measured, Proof
from calibration.report.compared import Compared
from calibration.report.words import count, decibels, interval, noise, number, points

State = Literal["inside", "unsure", "outside", "plain"]


@dataclass(frozen=True)
class Scores:
    """What a verdict needs of a proof or a comparison; `a` is what `b` is measured against."""

    names: tuple[str, str]
    metric: str
    a: float
    b: float
    loss: float
    interval: tuple[float, float]
    pictures: int
    kind: str
    """`held-out picture` where some were held out."""
    budget: float | None
    inside: bool | None
    resolved: bool | None
    resolution: float
    """Points: smaller losses cannot be told from chance."""
    needed: int | None
    """Pictures that would resolve the budget, if that is known."""
    details: Mapping[str, Any]

    @classmethod
    def of(cls, made: Proof | Compared) -> Scores:
        """The scores in a proof or in a comparison."""
        if isinstance(made, Compared):
            return cls(
                (made.a.name, made.b.name), made.metric, made.a_points, made.b_points, made.loss, made.interval,
                made.pictures, "picture", made.budget, made.inside, made.resolved,
                _resolution(made), made.pictures_needed, made.details,
            )  # fmt: skip
        measured = made.measured
        return cls(
            ("FP32", "INT8"), measured.metric, measured.fp32, measured.int8, measured.loss, measured.interval,
            measured.pictures, "held-out picture", measured.budget, measured.inside, measured.resolved,
            _resolution(measured), measured.pictures_needed, measured.details,
        )  # fmt: skip


@dataclass(frozen=True)
class Verdict:
    """What a worried engineer reads first."""

    state: State
    headline: str
    sentence: str
    certainty: str | None
    """Whether the pictures were enough; None where there is no budget to resolve."""


def verdict(scores: Scores) -> Verdict:
    """Inside the budget or not, by how much, and how sure that is."""
    return Verdict(_state(scores), _headline(scores), _sentence(scores), _certainty(scores))


def _state(scores: Scores) -> State:
    if scores.inside is None:
        return "plain"
    if not scores.inside:
        return "outside"
    return "unsure" if scores.resolved is False else "inside"


def _headline(scores: Scores) -> str:
    if scores.inside is None:
        return f"{scores.names[1]} {_change(scores.loss)} against {scores.names[0]}"
    if not scores.inside:
        return "Outside the budget"
    return "Inside the budget" if scores.resolved is not False else "Inside the budget, on too few pictures to be sure"


def _change(loss: float) -> str:
    if number(loss) == number(0):
        return "loses nothing"
    return f"loses {points(loss)} points" if loss > 0 else f"gains {points(-loss)} points"


def _sentence(scores: Scores) -> str:
    first, second = scores.names
    budget = "" if scores.budget is None else f" The budget is {points(scores.budget)} points."
    metric = scores.metric[:1].upper() + scores.metric[1:]
    return (
        f"{metric}: {first} {points(scores.a)}, {second} {points(scores.b)}. {second} {_change(scores.loss)} "
        f"(95 % interval of the loss {interval(scores.interval)}), measured on {count(scores.pictures, scores.kind)}."
        f"{budget}"
    )


def _certainty(scores: Scores) -> str | None:
    if scores.budget is None or scores.resolved is None:
        return None
    chance = f"chance alone moves the loss by ±{points(scores.resolution)} points"
    if scores.resolved:
        beyond = scores.inside and scores.interval[1] > scores.budget
        more = " Yet the interval ends above the budget: the true loss may be outside." if beyond else ""
        return f"The set is large enough to tell a loss of the budget from chance: {chance}.{more}"
    enough = f"About {scores.needed} {scores.kind}s would do." if scores.needed else f"More {scores.kind}s would tell."
    return f"The set is too small to resolve the budget: {chance}. {enough}"


def _resolution(of: Measured | Compared) -> float:
    """What it says, or half its interval."""
    return (of.interval[1] - of.interval[0]) / 2 if of.resolution is None else of.resolution


def by_sensitivity(layers: Sequence[Layer]) -> list[Layer]:
    """Layers with a measurement, the one that INT8 hurts most first: alone where that was measured, else as it is."""
    alone = any(layer.alone_db is not None for layer in layers)

    def worth(layer: Layer) -> float | None:
        value = layer.alone_db if alone else layer.signal_to_noise_db
        return None if value is None or math.isnan(value) else value

    known = [(value, index) for index, layer in enumerate(layers) if (value := worth(layer)) is not None]
    return [layers[index] for _, index in sorted(known)]


@dataclass(frozen=True)
class Culprit:
    """A layer that INT8 hurts, and how that is known."""

    layer: Layer
    why: str


def culprits(layers: Sequence[Layer], most: int = 5) -> list[Culprit]:
    """Layers in INT8 that hurt most: what a refusal names."""
    return [
        Culprit(layer, _why(layer)) for layer in by_sensitivity([la for la in layers if la.precision == "int8"])[:most]
    ]


def _why(layer: Layer) -> str:
    said = []
    if layer.alone_db is not None:
        said.append(f"INT8 in it alone leaves the outputs at {decibels(layer.alone_db)}, {noise(layer.alone_db)}")
    if layer.signal_to_noise_db is not None:
        said.append(f"its own output is at {decibels(layer.signal_to_noise_db)}")
    if layer.depthwise:
        said.append("depthwise: channels of different ranges share one scale")
    return "; ".join(said)
