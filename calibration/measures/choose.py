"""The measure that fits a model and what is known of the pictures."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from calibration.errors import DatasetError
from calibration.measures import Measure
from calibration.measures.average import AveragePrecision, own_objects
from calibration.measures.shares import Agreement, Top1
from calibration.pictures import Sample
from calibration.truth import Classes, Objects, Truth
from engines.card import Card
from engines.model import task_config
from engines.results import Result
from engines.tasks import Options, TaskConfig

TOP1_BUDGET = 0.5
AP_BUDGET = 1.5
AGREEMENT_BUDGET = 3.0
OWN_AP_BUDGET = 5.0
"""FP32 has 100 against its own detections; INT8 shall have 95."""

_LEAST = 0.01
"""Least score that counts for average precision; a detector's own threshold is for users."""
_BOXES = 100
"""Detections of a picture, as COCO has it."""
_CLASSES = 20
"""Of a picture: 5 for top-5, the others so that differences of scores are seen nearly whole."""


def reading(config: TaskConfig) -> Options:
    """How a task is opened whose results are measured: everything that counts, whatever users are shown."""
    if config.finds_boxes:
        return Options(threshold=min(_LEAST, config.threshold), top=_BOXES)
    return Options(threshold=0.0, top=_CLASSES)


def measure_for(
    card: Card,
    samples: Sequence[Sample],
    truth: Truth | None = None,
    reference: Sequence[Result] | None = None,
    name: str = "FP32",
) -> Measure:
    """Top-1 or AP where the truth is given, else agreement with the reference, results on these samples.

    `name` is the reference's, for people. With both, the reference must not be wrong everywhere: a model of which
    nothing is left to lose proves nothing. Raises DatasetError for that, and where the pictures cannot say anything;
    MissingExtra for AP without pycocotools; ValueError for neither truth nor reference.
    """
    config, labels = task_config(card), card.labels
    if not samples:
        raise DatasetError(f"{card.name}: there are no pictures to measure with")
    if reference is not None and len(reference) != len(samples):
        raise ValueError(f"{len(reference)} results of {len(samples)} pictures")
    if truth is None:
        if reference is None:
            raise ValueError("a measure needs the truth or a reference")
        if config.finds_boxes:
            objects = own_objects(reference, config.threshold)
            if not any(len(boxes.label) for boxes in objects):
                raise DatasetError(
                    f"{name} finds nothing over its threshold, {config.threshold}, in the {len(samples)} pictures: "
                    "they say nothing of this model; show it what it knows"
                )
            return AveragePrecision(
                f"AP .50:.95 against {name}'s own detections", OWN_AP_BUDGET, objects, labels, config.threshold
            )
        return Agreement(AGREEMENT_BUDGET, reference, labels, name)
    measure = _against(truth, config, labels, samples)
    if reference is not None and measure.score(reference) <= 0:
        raise DatasetError(
            f"{name} has {measure.name} 0 on the {len(samples)} pictures: their labels are wrong, or they show nothing "
            "that this model knows"
        )
    return measure


def _against(truth: Truth, config: TaskConfig, labels: Sequence[str], samples: Sequence[Sample]) -> Measure:
    if isinstance(truth, Objects) != config.finds_boxes:
        raise ValueError("the truth is of another task than the model")
    missing = [sample.name for sample in samples if sample.name not in truth.of]
    if missing:
        raise DatasetError(f"{len(missing)} of {len(samples)} pictures have no label, the first is {missing[0]!r}")
    if isinstance(truth, Classes):
        return Top1(TOP1_BUDGET, np.array([truth.of[sample.name] for sample in samples], np.int64), labels)
    objects = [truth.of[sample.name] for sample in samples]
    return AveragePrecision("AP .50:.95", AP_BUDGET, objects, labels, config.threshold)
