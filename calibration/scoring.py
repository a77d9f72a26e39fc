"""How good one model is on labelled pictures."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

from calibration.errors import DatasetError
from calibration.evaluation import Choice, Stages, chosen, engine_in_words, evaluate, unnamed
from calibration.measures.choose import measure_for
from calibration.pictures import Sample, set_hash
from calibration.proof import Set
from calibration.truth import Boxes, Classes, Truth
from calibration.truth.folders import label_file
from calibration.truth.read import read_truth
from calibration.versions import versions
from engines.errors import EngineError
from engines.model import task_config
from engines.results import Classification, Detections, Result


class Scored(BaseModel):
    """What `sightwire eval` prints as JSON."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    schema_: Literal["sightwire.evaluation/1"] = Field(default="sightwire.evaluation/1", alias="schema")
    model: str
    """As it was given."""
    sha256: str
    """Of the model file."""
    engine: str
    """What ran it: `openvino 2026.4.0, f32, AMD EPYC`."""
    source: str
    """Folder of the pictures."""
    labels: str
    """Where the truth was read."""
    set_: Set = Field(alias="set")
    """The pictures that were looked at."""
    unlabelled: int
    """Pictures of the folder that the labels do not name: left out."""
    metric: str
    points: float
    """Of 100."""
    interval: tuple[float, float]
    """95 % of the points of sets drawn anew from these pictures lie within."""
    details: dict[str, Any]
    """Further figures in points: `top-5`, `AP .50`, AP by size."""
    worst_classes: tuple[dict[str, Any], ...]
    """Label, its points, and the number of its pictures or objects; those that cost most first."""
    per_second: float
    """Pictures a second, from the file to the result, all threads."""
    versions: dict[str, str]


def scored(
    choice: Choice,
    samples: Sequence[Sample],
    source: str,
    truth: Path,
    most: int | None = None,
    stages: Stages = unnamed,
) -> Scored:
    """Run the model on the samples and compare what it says with what `read_truth` finds in `truth`.

    Samples that it does not label are left out; `most`: and look at no more than that. Raises CalibrationError,
    EngineError.
    """
    card = choice.card
    known = read_truth(truth, samples, card.labels, task_config(card).finds_boxes, partial=True)
    unlabelled = len(samples) - len(known.of)
    samples = chosen(samples, known, most)
    measure = measure_for(card, samples, known)
    model = choice.open()
    began = time.perf_counter()
    try:
        results = evaluate(model, samples, stages(choice.name))
    except EngineError as error:
        raise type(error)(f"{choice.name}: {error}") from None
    finally:
        took = time.perf_counter() - began
        model.close()
    # What a model loses against one that says the truth is what it lacks of all points; the same holds for the
    # interval, for classes and for further figures.
    compared = measure.compare(told(known, samples), results)
    low, high = compared.interval
    details = {name: own for name, value in compared.details.items() if (own := _own(value)) is not None}
    worst = compared.details.get("worst classes", ())
    return Scored(
        model=choice.name,
        sha256=card.files[choice.precision].sha256,
        engine=engine_in_words(model),
        source=source,
        labels=str(truth),
        set=Set(pictures=len(samples), hash=set_hash(samples)),
        unlabelled=unlabelled,
        metric=compared.metric,
        points=compared.b,
        interval=(compared.a - high, compared.a - low),
        details=details,
        worst_classes=tuple(
            {"label": row["label"], "points": row["b"]}
            | {key: value for key, value in row.items() if key in ("pictures", "objects")}
            for row in worst
        ),
        per_second=round(len(samples) / took, 1),
        versions=versions(),
    )


def labels_inside(folder: Path, samples: Sequence[Sample]) -> Path:
    """Where `read_truth` finds labels in a folder of pictures: a file in it, or the folder itself, one per class.

    Raises DatasetError if there are neither.
    """
    inside = label_file(folder)
    if inside is None and not any("/" in sample.name for sample in samples):
        raise DatasetError(f"{folder}: has no folder per class, no CSV and no COCO json: give the labels by --labels")
    return inside or folder


def told(truth: Truth, samples: Sequence[Sample]) -> list[Result]:
    """The truth as a model would say it: of classes the right one, of objects all that count, each with score 1."""
    if isinstance(truth, Classes):
        sure = np.ones(1, np.float32)
        return [Classification(label=np.array([truth.of[sample.name]], np.int32), score=sure) for sample in samples]
    return [_found(truth.of[sample.name]) for sample in samples]


def _found(objects: Boxes) -> Detections:
    counts = ~objects.crowd
    xyxy, label = objects.xyxy[counts].astype(np.float32), objects.label[counts]
    return Detections(xyxy=xyxy, score=np.ones(len(label), np.float32), label=label)


def _own(value: Any) -> float | None:
    """The model's own figure of a pair; what is no pair says how much it differs from the truth, which is no news."""
    if isinstance(value, Mapping) and isinstance(value.get("b"), int | float):
        return float(value["b"])
    return None
