"""Another backend in place of one whose engines hang or fail, which is tried again later, and later."""

from __future__ import annotations

from pathlib import Path

from engines.backends import BackendConfig
from engines.base import Engine
from engines.card import Card, Precision
from engines.errors import EngineError
from engines.handover import HandoverEngine


class StandIn(BackendConfig):
    """Made by who found out; nobody configures it."""

    wanted: BackendConfig
    serves: BackendConfig
    name: str
    """What status calls the one that is wanted."""
    because: str
    again_s: float
    """When that is tried again, doubled with each time."""

    def build(self, card: Card, model: Path, precision: Precision) -> Engine:
        """Raises what the one that serves does."""
        return HandoverEngine(
            self.name,
            lambda: self.serves.build(card, model, precision),
            lambda _report, _stop: self.wanted.build(card, model, precision),
            passing=(EngineError,),
            again_s=2 * self.again_s,
            later_s=2 * self.again_s,
            wait_s=self.again_s,
            because=self.because,
        )
