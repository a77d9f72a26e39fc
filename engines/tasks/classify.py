"""Classification: scores of all classes -> the best of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from engines.base import Raw
from engines.errors import CardError
from engines.pixels import Geometry
from engines.results import Classification, Result
from engines.tasks import Options, Task, TaskConfig
from engines.tasks.activation import sigmoid, softmax
from engines.tasks.limits import Limits, resolve


class Config(TaskConfig):
    """`{type: classify, scores: logits, activation: softmax}`."""

    type: Literal["classify"] = "classify"
    scores: str
    """Output with one value a class, (N, C)."""
    activation: Literal["softmax", "sigmoid", "none"] = "softmax"
    embedding: str | None = None
    """Output with the features before the last layer, (N, D), where the graph has one."""
    top: int = Field(default=5, gt=0)

    def outputs(self, labels: int, size: tuple[int, int]) -> dict[str, tuple[int, ...]]:  # noqa: ARG002  # of any size
        """See TaskConfig."""
        return {self.scores: (labels,)}

    def open(self, labels: Sequence[str], options: Options) -> Classify:
        """See TaskConfig."""
        for name in ("iou", "agnostic"):
            if getattr(options, name) is not None:
                raise CardError(f"{name}: a classifier finds no boxes that could overlap")
        if isinstance(options.top, Mapping):
            raise CardError("top: a classifier names each label once; give one number")
        return Classify(self, resolve(self, labels, options))


class Classify(Task):
    """Top-k over a threshold."""

    def __init__(self, config: Config, limits: Limits) -> None:
        self._config, self._limits = config, limits

    def read(self, raw: Raw, geometries: Sequence[Geometry]) -> list[Result]:
        """See Task."""
        values = raw[self._config.scores][: len(geometries)].astype(np.float32)
        with np.errstate(over="ignore", invalid="ignore"):  # as for detectors: what is not a number passes no threshold
            scores = _activated(values, self._config.activation)
        return [self._best(row) for row in scores]

    def _best(self, scores: NDArray[np.float32]) -> Classification:
        allowed = np.flatnonzero(scores >= self._limits.thresholds)
        count = self._limits.top
        if count < len(allowed):
            allowed = allowed[np.argpartition(scores[allowed], -count)[-count:]]
        best = allowed[np.argsort(-scores[allowed], kind="stable")]
        return Classification(label=best.astype(np.int32), score=scores[best])


def _activated(values: NDArray[np.float32], activation: str) -> NDArray[np.float32]:
    return {"softmax": softmax, "sigmoid": sigmoid}[activation](values) if activation != "none" else values
