"""Pictures of incidents, where the configuration asks for them.

`settings` what the configuration says of it · `choosing` which frame waits to become an incident's picture ·
`jpeg` from a frame to its bytes · `book` all cameras' albums and the one thread that encodes
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence

from agent.frame import Frame
from engines.results import Result


class Album(ABC):
    """Keeps the best picture of each incident of one camera."""

    @abstractmethod
    def saw(self, frame: Frame) -> None:
        """The newest frame of the camera, masked already: for who asks for a picture now. Returns at once."""

    @abstractmethod
    def offer(
        self, incident: str, frame: Frame, result: Result, row: int | None, score: float, labels: Sequence[str] = ()
    ) -> str | None:
        """Offer a frame for an incident; the name its picture has (or will have), None if there is none.

        Returns at once: encoding is another thread's work. `frame` is masked already. Offer every frame that shows the
        incident: which is best is decided here. `labels` are what the result's indices stand for.
        """

    @abstractmethod
    def ended(self, incident: str) -> str | None:
        """The incident is over; the name of its best picture."""
