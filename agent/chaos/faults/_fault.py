"""What a fault is, and what came of one."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass, field
from typing import ClassVar, Literal

from agent.chaos.children import ChaosError
from agent.chaos.stage import Stage

WELL_S = 40.0
"""So long may it take until all is well before a fault: a pause between tries of the one before may still last."""
GRACE = 3.0
"""What is not there in time is waited for so many times as long, so that it can be said how long it took."""


@dataclass
class Seen:
    """What happened."""

    where: str
    happened: list[str] = field(default_factory=list)
    wrong: list[str] = field(default_factory=list)
    """What did not hold."""
    found_s: float | None = None
    """From the fault until the agent said so."""
    back_s: float | None = None
    """From the end of the fault, or for what the agent must mend itself from its beginning, until all was well."""

    def found(self, what: str, began_s: float, at_s: float | None, within_s: float) -> None:
        """Note when the agent noticed; `at_s` None: not at all."""
        if at_s is None:
            self.wrong.append(f"not found within {within_s * GRACE:g} s")
            return
        self.found_s = at_s - began_s
        self.happened.append(what)
        if self.found_s > within_s:
            self.wrong.append(f"found after {self.found_s:.1f} s")

    def back(self, began_s: float, at_s: float | None, within_s: float) -> None:
        """Note when all was well again; `at_s` None: never."""
        if at_s is None:
            self.wrong.append(f"not back within {within_s * GRACE:g} s")
            return
        self.back_s = at_s - began_s
        if self.back_s > within_s:
            self.wrong.append(f"back after {self.back_s:.1f} s")


@dataclass(frozen=True)
class Outcome:
    """A row of the table."""

    fault: str
    where: str
    expected: str
    happened: str
    found_s: float | None
    back_s: float | None
    result: Literal["held", "not held", "not possible"]


class Fault(ABC):
    """One thing that goes wrong, and is put right again."""

    name: ClassVar[str]
    """What `--only` calls it."""
    does: ClassVar[str]

    @abstractmethod
    def expected(self, stage: Stage) -> str:
        """What must happen, with its limits."""

    def impossible(self, stage: Stage) -> str | None:  # noqa: ARG002 - most are always possible
        """Why it cannot be done here."""
        return None

    @abstractmethod
    def strike(self, stage: Stage) -> Seen:
        """Do it, wait, put it right, wait; what happened."""

    def undo(self, stage: Stage) -> None:  # noqa: B027 - some end by themselves
        """Put right what may still be wrong, whatever `strike` came to."""

    def tried(self, stage: Stage) -> Outcome:
        """All of it."""
        stage.say(f"{self.name}: waiting until all is well")
        if why_not := self.impossible(stage):
            return self._outcome(stage, Seen(stage.camera, [why_not]), possible=False)
        if unwell := stage.is_well(WELL_S):
            return self._outcome(stage, Seen(stage.camera, [], [f"not tried: {unwell}"]))
        stage.say(f"{self.name}: {self.does}")
        try:
            seen = self.strike(stage)
        except ChaosError as error:
            seen = Seen("", [], [str(error)])
        finally:
            self.undo(stage)
        return self._outcome(stage, seen)

    def _outcome(self, stage: Stage, seen: Seen, *, possible: bool = True) -> Outcome:
        return Outcome(
            fault=self.name,
            where=seen.where,
            expected=self.expected(stage),
            happened="; ".join([*seen.happened, *(wrong.upper()[:1] + wrong[1:] for wrong in seen.wrong)]),
            found_s=None if seen.found_s is None else round(seen.found_s, 2),
            back_s=None if seen.back_s is None else round(seen.back_s, 2),
            result="not possible" if not possible else "not held" if seen.wrong else "held",
        )
