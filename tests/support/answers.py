"""Answers that a sink gave to events, in the order in which they came."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

from agent.sinks import Answer
from tests.support.patience import PATIENCE_S


class Answers:
    """`of(n)` is what to hand to `deliver` with event n."""

    def __init__(self) -> None:
        self.given: list[tuple[int, Answer, str | None]] = []
        self._changed = threading.Condition()

    def of(self, number: int) -> Callable[[Answer, str | None], None]:
        """What to hand to `deliver`."""

        def answered(answer: Answer, reason: str | None) -> None:
            with self._changed:
                self.given.append((number, answer, reason))
                self._changed.notify_all()

        return answered

    def wait_for(
        self, wanted: Callable[[list[tuple[int, Answer, str | None]]], Any], deadline_s: float = PATIENCE_S
    ) -> None:
        """Until it is true of what was given. Raises TimeoutError."""
        with self._changed:
            if not self._changed.wait_for(lambda: wanted(self.given), deadline_s):
                raise TimeoutError(f"{len(self.given)} answers, the last: {self.given[-3:]}")

    @property
    def words(self) -> dict[int, Answer]:
        """Event -> answer. Raises AssertionError where one was answered twice."""
        found = {number: answer for number, answer, _ in self.given}
        assert len(found) == len(self.given), "an event was answered twice"
        return found
