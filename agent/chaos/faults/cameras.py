"""A camera that is gone, that is silent, and whose picture stands still."""

from __future__ import annotations

import time
from abc import abstractmethod

from agent.chaos.faults._fault import GRACE, Fault, Seen
from agent.chaos.stage import Stage
from agent.chaos.ways import STILL, watched

BLIND_S = 10.0
HICCUP_S = 2.0
"""Longer than its pause, another camera's results must not be away."""


class _OfConnection(Fault):
    """The way to the camera is what suffers."""

    def impossible(self, stage: Stage) -> str | None:
        """See Fault."""
        return stage.way.why_not

    def expected(self, stage: Stage) -> str:
        """See Fault."""
        return f"lost within {stage.lost_s:g} s, results again within {stage.back_s:g} s; no other camera waits"

    @abstractmethod
    def do(self, stage: Stage) -> None:
        """Begin."""

    def strike(self, stage: Stage) -> Seen:
        """See Fault."""
        heard, camera, seen = stage.heard, stage.camera, Seen(stage.camera)
        began_s = time.monotonic()
        self.do(stage)
        said = heard.wait(lambda: heard.state_since(camera, began_s, "lost", "connecting"), stage.lost_s * GRACE)
        # The source's name comes first in it, which here is our proxy's.
        reason = f": {said.reason.rpartition(': ')[2]}" if said and said.reason else ""
        seen.found(f"{said.state}{reason}" if said else "", began_s, said.at_s if said else None, stage.lost_s)
        stage.last(began_s)
        mended_s = time.monotonic()
        self.undo(stage)
        result = heard.wait(lambda: heard.result_of(camera, mended_s), stage.back_s * GRACE)
        seen.back(mended_s, result.arrived_s if result else None, stage.back_s)
        _look_at_others(stage, seen, began_s)
        return seen

    def undo(self, stage: Stage) -> None:
        """See Fault."""
        if stage.way.proxy:
            stage.way.proxy.mend()


class Cut(_OfConnection):
    """Power or cable."""

    name = "camera-cut"
    does = "the camera is gone: its connection is reset, and new ones are refused"

    def do(self, stage: Stage) -> None:
        """See Fault."""
        if stage.way.proxy:
            stage.way.proxy.cut()


class Stalled(_OfConnection):
    """A switch that drops, a camera that hangs."""

    name = "camera-stall"
    does = "the camera is silent: connections stay, nothing comes"

    def do(self, stage: Stage) -> None:
        """See Fault."""
        if stage.way.proxy:
            stage.way.proxy.hold()


class Standing(Fault):
    """A sensor or an encoder that hangs."""

    name = "camera-freeze"
    does = "the picture stands still while the stream goes on"

    def impossible(self, stage: Stage) -> str | None:
        """See Fault."""
        if stage.way.film:
            wanted = watched(stage.document["cameras"][stage.camera].get("blind")) is not None
            return None if wanted else "the configuration says that it is not to be told"
        return "only the camera itself can do that; it is done to recordings, which we show"

    def expected(self, stage: Stage) -> str:  # noqa: ARG002
        """See Fault."""
        return f"blind (`frozen: {STILL}`) within {BLIND_S:g} s, and seeing again within {BLIND_S:g} s"

    def strike(self, stage: Stage) -> Seen:
        """See Fault."""
        heard, camera, seen = stage.heard, stage.camera, Seen(stage.camera)
        began_s = time.monotonic()
        if stage.way.film:
            stage.way.film.stand()
        said = heard.wait(lambda: heard.state_since(camera, began_s, "blind"), BLIND_S * GRACE)
        seen.found(f"blind: {said.reason}" if said else "", began_s, said.at_s if said else None, BLIND_S)
        mended_s = time.monotonic()
        self.undo(stage)
        if said:
            sees = heard.wait(lambda: heard.state_since(camera, mended_s, "streaming"), BLIND_S * GRACE)
            seen.back(mended_s, sees.at_s if sees else None, BLIND_S)
        return seen

    def undo(self, stage: Stage) -> None:
        """See Fault."""
        if stage.way.film:
            stage.way.film.move()


def _look_at_others(stage: Stage, seen: Seen, since_s: float) -> None:
    """One camera's fault never delays another's frames."""
    now_s = time.monotonic()
    for camera in stage.others:
        use, pause_s = stage.use(camera)
        gap_s = stage.heard.longest_gap_s(camera, use, since_s, now_s)
        if gap_s > pause_s + HICCUP_S:
            seen.wrong.append(f"{camera} had no results for {gap_s:.1f} s meanwhile")
