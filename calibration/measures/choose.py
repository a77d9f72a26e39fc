"""The measure that fits a model and what is known of the pictures."""

from __future__ import annotations

from collections.abc import Sequence

from calibration.measures import Measure
from calibration.pictures import Sample
from calibration.truth import Truth
from engines.card import Card
from engines.results import Result
from engines.tasks import Options, TaskConfig


def reading(config: TaskConfig) -> Options:
    """How a task is opened whose results are measured: everything that counts, whatever users are shown."""
    raise NotImplementedError


def measure_for(
    card: Card,
    samples: Sequence[Sample],
    truth: Truth | None = None,
    reference: Sequence[Result] | None = None,
    reference_name: str = "FP32",
) -> Measure:
    """Top-1 or AP where the truth is given; else agreement with the reference: its results on these samples.

    Raises DatasetError where the pictures cannot say anything, MissingExtra for AP without pycocotools, ValueError for
    neither truth nor reference.
    """
    raise NotImplementedError
