"""Events that their sink did not want, or that nobody heard: when each is tried again."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from typing import Literal


@dataclass
class _Line:
    """Of one camera."""

    numbers: deque[int] = field(default_factory=deque)
    state: Literal["closed", "probe", "asked", "open"] = "closed"
    """Nothing is tried; one is; its answer is awaited; all are, as that one went through."""


class Aside:
    """A line a camera. One event at a time finds out whether the rest would go through.

    What is put aside again goes to the end, so that one that never goes through does not stand before the others.
    """

    def __init__(self) -> None:
        self._lines: dict[str | None, _Line] = {}

    def __len__(self) -> int:
        return sum(len(line.numbers) for line in self._lines.values())

    def put(self, camera: str | None, number: int) -> None:
        """It did not go through; the camera's others wait for `retry`."""
        line = self._lines.setdefault(camera, _Line())
        line.numbers.append(number)
        line.state = "closed"

    def retry(self) -> None:
        """One of each camera may be tried."""
        for line in self._lines.values():
            if line.state != "open":
                line.state = "probe"

    def asked(self, camera: str | None) -> None:
        """What `take` returned was handed over; others follow if it goes through."""
        line = self._lines.get(camera)
        if line is not None and line.state == "probe":
            line.state = "asked"

    def give_back(self, camera: str | None, number: int) -> None:
        """What `take` returned has no answer: it is the next again."""
        line = self._lines.setdefault(camera, _Line())
        line.numbers.appendleft(number)
        if line.state in ("closed", "asked"):
            line.state = "probe"

    def went_through(self, camera: str | None) -> None:
        """One of the camera's did: all others may be tried."""
        line = self._lines.get(camera)
        if line is not None:
            line.state = "open"

    def take(self) -> int | None:
        """The next to be tried now."""
        for camera, line in list(self._lines.items()):
            if line.state in ("probe", "open"):
                if line.numbers:
                    return line.numbers.popleft()
                del self._lines[camera]
        return None
