"""Devices that run networks: one file a kind, each with one `Config` class that is its factory."""

from __future__ import annotations

from abc import abstractmethod
from pathlib import Path

from pydantic import BaseModel, ConfigDict

from engines.base import Engine
from engines.card import Card, Precision


class BackendConfig(BaseModel):
    """Base of every backend's config: the config is the factory."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    @abstractmethod
    def build(self, card: Card, model: Path, precision: Precision) -> Engine:
        """Compile the ONNX file `model` of `card`. Raises BackendError with what to do."""
