"""Two models or engines on the same pictures, by the measures that prove an INT8 model."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from calibration.differing import Answers, threshold_of
from calibration.errors import CalibrationError, DatasetError
from calibration.evaluation import Choice, Stages, chosen, common_labels, engine_in_words, evaluate, relabelled, unnamed
from calibration.measures.choose import measure_for
from calibration.pictures import Progress, Sample, set_hash
from calibration.proof import Set
from calibration.report import Compared, Side, SideBySide
from calibration.timing import Timed, take_turns
from calibration.truth.read import read_truth
from calibration.versions import versions
from engines.errors import EngineError
from engines.model import task_config
from engines.pixels import Picture
from engines.results import Result


@dataclass(frozen=True, eq=False)
class Versus:
    """What a comparison found, and what a page needs to show its worst pictures."""

    compared: Compared
    labels: tuple[str, ...]
    """That both models have."""
    left_out: tuple[str, ...]
    """Labels that only one of them has."""
    answers: Answers

    def side_by_side(self) -> list[SideBySide]:
        """The worst pictures, worst first, read once more. Raises DatasetError."""
        return self.answers.side_by_side(self.compared.worst)


def versus(
    a: Choice,
    b: Choice,
    samples: Sequence[Sample],
    source: str,
    *,
    truth: Path | None = None,
    most: int | None = None,
    budget: float | None = None,
    stages: Stages = unnamed,
) -> Versus:
    """Measure how much worse `b` is than `a`, and how fast both are on one thread.

    `truth`: what `read_truth` reads; pictures that it does not label are left out. Without it `a` is what `b` is
    measured against. `most`: look at no more pictures than that. Where the models have different labels, those that
    both have are looked at. Raises CalibrationError, EngineError.
    """
    labels = labels_of_both(a, b)
    card = a.card.model_copy(update={"labels": labels})
    config = task_config(card)
    known = None if truth is None else read_truth(truth, samples, labels, config.finds_boxes, partial=True)
    unlabelled = 0 if known is None else len(samples) - len(known.of)
    samples = chosen(samples, known, most)
    found, engines = [], []
    for choice in (a, b):
        results, engine = _results(choice, labels, samples, stages(choice.name))
        found.append(results)
        engines.append(engine)
    measure = measure_for(card, samples, known, found[0], a.name)
    comparison = measure.compare(found[0], found[1])
    details = dict(comparison.details) | ({"pictures without a label": unlabelled} if unlabelled else {})
    if known is not None and config.finds_boxes:
        with contextlib.suppress(DatasetError):  # where `a` finds nothing that users see
            alike = measure_for(card, samples, None, found[0], a.name)
            details[alike.name] = round(alike.score(found[1]), 3)
    answers = Answers(samples, found[0], found[1], labels, known, threshold_of(config))
    timed = _timed(a, b, samples[0], stages("timing both by turns, one thread"))
    sides = [
        Side(
            name=choice.name,
            sha256=choice.card.files[choice.precision].sha256,
            engine=engine,
            ms=timed[choice.name].ms,
        )
        for choice, engine in zip((a, b), engines, strict=True)
    ]
    devices = dict.fromkeys(timed[choice.name].device for choice in (a, b))
    compared = Compared(
        a=sides[0],
        b=sides[1],
        source=source,
        set=Set(pictures=len(samples), hash=set_hash(samples)),
        metric=comparison.metric,
        a_points=comparison.a,
        b_points=comparison.b,
        loss=comparison.loss,
        interval=comparison.interval,
        pictures=comparison.pictures,
        details=details,
        budget=budget,
        inside=None if budget is None else comparison.loss <= budget,
        resolved=None if budget is None else comparison.resolves(budget),
        resolution=comparison.resolution,
        pictures_needed=None if budget is None else comparison.pictures_needed(budget),
        device=", ".join(devices),
        worst=answers.worst(measure),
        versions=versions(),
    )
    left_out = tuple(label for label in dict.fromkeys((*a.card.labels, *b.card.labels)) if label not in set(labels))
    return Versus(compared, labels, left_out, answers)


def labels_of_both(a: Choice, b: Choice) -> tuple[str, ...]:
    """Raise CalibrationError for two that are the same, that do different things, or that have no label in common."""
    same = [(of.card.files[of.precision].sha256, of.card.input, of.card.task, of.backend) for of in (a, b)]
    if same[0] == same[1]:
        raise CalibrationError(f"{a.name} and {b.name} are the same file on the same backend: nothing to compare")
    does = ["finds boxes" if task_config(choice.card).finds_boxes else "tells classes" for choice in (a, b)]
    if does[0] != does[1]:
        raise CalibrationError(f"{a.name} {does[0]} and {b.name} {does[1]}: they cannot be compared")
    labels = common_labels(a.card.labels, b.card.labels)
    if not labels:
        some = [", ".join(choice.card.labels[:3]) + ", …" * (len(choice.card.labels) > 3) for choice in (a, b)]
        raise CalibrationError(f"{a.name} ({some[0]}) and {b.name} ({some[1]}) have no label in common")
    return labels


def _results(
    choice: Choice, labels: Sequence[str], samples: Sequence[Sample], progress: Progress
) -> tuple[list[Result], str]:
    """Results by `labels`, and what they ran on."""
    own = choice.card.labels
    model = choice.open(only=None if tuple(labels) == own else labels)
    try:
        return relabelled(evaluate(model, samples, progress), own, labels), engine_in_words(model)
    except EngineError as error:
        raise type(error)(f"{choice.name}: {error}") from None
    finally:
        model.close()


def _timed(a: Choice, b: Choice, sample: Sample, progress: Progress) -> dict[str, Timed]:
    models = {}
    try:
        for choice in (a, b):
            models[choice.name] = choice.open(threads=1)
        return take_turns(models, Picture(sample.read()), progress)
    finally:
        for model in models.values():
            model.close()
