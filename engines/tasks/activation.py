"""What graphs may leave out at their end: sigmoid and softmax, and the way back."""

from __future__ import annotations

from typing import cast

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]


def sigmoid(logits: Floats) -> Floats:
    """1 / (1 + e^-x)."""
    return cast(Floats, 1 / (1 + np.exp(-logits)))


def logit(share: float) -> float:
    """Inverse of sigmoid: scores are compared as logits, so that only what passes needs a sigmoid."""
    if share <= 0:
        return -np.inf
    return float(np.log(share / (1 - share))) if share < 1 else np.inf


def softmax(logits: Floats) -> Floats:
    """Along the last axis."""
    powers = np.exp(logits - logits.max(axis=-1, keepdims=True))
    shares: Floats = powers / powers.sum(axis=-1, keepdims=True)
    return shares
