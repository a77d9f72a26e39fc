"""Classification: scores of all classes -> the best of them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from engines.base import Raw
from engines.pixels import Geometry
from engines.results import Classification, Result
from engines.tasks import Options, Task, TaskConfig


class Config(TaskConfig):
    """`{type: classify, scores: logits, activation: softmax}`."""

    type: Literal["classify"] = "classify"
    scores: str
    """Output with one value a class, (N, C)."""
    activation: Literal["softmax", "sigmoid", "none"] = "softmax"
    embedding: str | None = None
    """Output with the features before the last layer, (N, D), where the graph has one."""
    top: int = Field(default=5, gt=0)

    def outputs(self, labels: int) -> dict[str, tuple[int, ...]]:
        """See TaskConfig."""
        return {self.scores: (labels,)}

    def open(self, labels: int, options: Options) -> Classify:
        """See TaskConfig."""
        top = options.top or self.top
        return Classify(self, min(top, labels), self.threshold if options.threshold is None else options.threshold)


class Classify(Task):
    """Top-k over a threshold."""

    def __init__(self, config: Config, top: int, threshold: float) -> None:
        self._config, self._top, self._threshold = config, top, threshold

    def read(self, raw: Raw, geometries: Sequence[Geometry]) -> list[Result]:
        """See Task."""
        scores = _activated(raw[self._config.scores][: len(geometries)].astype(np.float32), self._config.activation)
        return [self._best(row) for row in scores]

    def _best(self, scores: NDArray[np.float32]) -> Classification:
        count = self._top
        best = np.argpartition(scores, -count)[-count:] if count < len(scores) else np.arange(len(scores))
        best = best[np.argsort(-scores[best], kind="stable")]
        best = best[scores[best] >= self._threshold]
        return Classification(label=best.astype(np.int32), score=scores[best])


def _activated(values: NDArray[np.float32], activation: str) -> NDArray[np.float32]:
    if activation == "softmax":
        values = np.exp(values - values.max(axis=1, keepdims=True))
        values /= values.sum(axis=1, keepdims=True)
    elif activation == "sigmoid":
        values = (1 / (1 + np.exp(-values))).astype(np.float32)
    return values
