"""How far a build is, from the phases that TensorRT says it begins and ends."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

OnProgress = Callable[[float, str], None]
"""Share of the work that is done, 0 to 1, never falling, and what is being done; may be called from other threads."""

_STEP = 0.005
"""Less is not worth saying."""


class Phases:
    """Phases within phases, each with a number of steps -> one share. How long a step takes is not known to anybody."""

    def __init__(self, on_progress: OnProgress) -> None:
        self._on_progress = on_progress
        self._open: dict[str, list[int]] = {}
        """Phase -> steps done and steps in all; the first is the outermost, each lies in the one before."""
        self._said = 0.0
        self.failed: Exception | None = None
        """What `on_progress` raised: nothing may pass through TensorRT's own code."""

    def start(self, phase: str, steps: int) -> None:
        """Begin a phase of so many steps, within the last that began."""
        self._open[phase] = [0, max(steps, 1)]
        self._tell(phase)

    def step(self, phase: str, step: int) -> bool:
        """Step number `step` is done. Returns False if the build should stop."""
        if phase in self._open:
            self._open[phase][0] = step + 1
        self._tell(phase)
        return self.failed is None

    def finish(self, phase: str) -> None:
        """End a phase."""
        self._open.pop(phase, None)

    def _tell(self, phase: str) -> None:
        share = 0.0
        for done, steps in reversed(list(self._open.values())):
            share = min(1.0, (done + share) / steps)
        if self.failed is None and share >= self._said + _STEP:
            self._said = share
            try:
                self._on_progress(share, phase)
            except Exception as error:  # noqa: BLE001  # kept, and raised when TensorRT has returned
                self.failed = error


def monitor(trt: Any, phases: Phases) -> Any:
    """Return an IProgressMonitor that tells `phases`."""

    class Monitor(trt.IProgressMonitor):  # type: ignore[misc]  # its base is only known when TensorRT is
        def __init__(self) -> None:
            trt.IProgressMonitor.__init__(self)

        def phase_start(self, phase_name: str, parent_phase: str | None, num_steps: int) -> None:  # noqa: ARG002
            phases.start(phase_name, num_steps)

        def phase_finish(self, phase_name: str) -> None:
            phases.finish(phase_name)

        def step_complete(self, phase_name: str, step: int) -> bool:
            return phases.step(phase_name, step)

    return Monitor()
