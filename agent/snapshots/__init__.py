"""Pictures of incidents, where the configuration asks for them."""

from __future__ import annotations

from abc import ABC, abstractmethod

from agent.frame import Frame
from engines.results import Result


class Album(ABC):
    """Keeps the best picture of each incident of one camera."""

    @abstractmethod
    def offer(self, incident: str, frame: Frame, result: Result, row: int | None, score: float) -> str | None:
        """Offer a frame for an incident; the name its picture has (or will have), None if there is none.

        Returns at once: encoding is another thread's work. `frame` is masked already.
        """

    @abstractmethod
    def ended(self, incident: str) -> str | None:
        """The incident is over; the name of its best picture."""
