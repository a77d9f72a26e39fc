"""Whether one camera still sees: all judgements together, a few times a second."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from agent.every import Every
from agent.frame import Timestamp
from agent.rules._held import Held
from agent.sight.frozen import Frozen
from agent.sight.glance import Glance, Lens
from agent.sight.levels import extreme
from agent.sight.scene import Scene
from agent.sight.settings import BlindSection, Reason
from agent.view import Region
from engines.pixels import Image

LOOK_NS = 500_000_000
"""A frame is judged at most so often."""
BACK_S = 2.0
"""A camera sees again when nothing has been wrong for so long."""
FORGET_NS = 600_000_000_000
"""A camera that was away for so long may show another time of day."""
JUMP_NS = 2_000_000_000
JUMP = 12.0
"""Levels: if the whole picture's brightness changes by more in `JUMP_NS`, it is another light."""
COLOUR, GREY = 3.0, 1.0
"""Mean distance of chroma from grey, levels: who switches to infrared, or back, goes from one to the other."""
SWITCHED_NS = 10_000_000_000
"""So long after that the picture may become another one at once."""
EXTREMES: tuple[Literal["black", "white"], ...] = ("black", "white")

Way = Literal["over", "accepted"]


@dataclass(frozen=True)
class Blindness:
    """What has come or gone."""

    reason: Reason
    since_ns: int
    """When it was seen first, the camera's own time."""
    ended: Way | None = None
    """None: it has begun."""


class Sight:
    """Judges the frames of one camera. Used by its capture thread."""

    def __init__(
        self,
        settings: BlindSection,
        crop: Region | None = None,
        masks: Sequence[Sequence[tuple[float, float]]] = (),
    ) -> None:
        self._settings, self._lens = settings, Lens(crop, masks)
        self._every = Every(LOOK_NS)
        self._frozen, self._scene = Frozen(settings), Scene()
        self._last_ns: int | None = None
        self._lights: deque[tuple[int, float, float]] = deque()
        """(time, level, colour) of the last looks."""
        self._switched_ns = -SWITCHED_NS
        self._reset()

    def _reset(self) -> None:
        after_s = self._settings.after
        self._held = {name: Held(after_s, BACK_S) for name in (*EXTREMES, "scene")}
        self._told: Blindness | None = None
        """What is wrong now."""
        self._scene_reason: Reason | None = None
        self._other = False
        """Whether the last look did not show what it should, for however short."""
        self._lights.clear()

    def begin_anew(self) -> None:
        """What this camera shows from now on is what it shall show."""
        self._reset()
        self._frozen.begin_anew()
        self._scene.begin_anew()

    def away(self) -> None:
        """No frames for now. What the camera shall show is still known."""
        self._reset()

    def look(self, image: Image, captured: Timestamp) -> list[Blindness]:
        """Judge the next frame, if it is due: what ends, what begins."""
        if not self._every.due(captured):
            return []
        glance = self._lens.glance(image, captured.monotonic_ns)
        if glance is None:
            return []
        last_ns, self._last_ns = self._last_ns, glance.at_ns
        if last_ns is not None and abs(glance.at_ns - last_ns) > FORGET_NS:
            self._frozen.begin_anew()
            self._scene.begin_anew()
            self._held["scene"].forget()
        step_s = 0.0 if last_ns is None else min(1.0, max(0, glance.at_ns - last_ns) / 1e9)
        now = self._judged(glance, step_s)
        told = self._told
        if told is not None and now != told.reason:
            changes = [Blindness(told.reason, told.since_ns, "over")]
        elif told is not None and told.reason == "moved" and self._accepted(glance.at_ns, told):
            self._scene.begin_anew()
            self._held["scene"].forget()
            changes, now = [Blindness(told.reason, told.since_ns, "accepted")], None
        else:
            changes = []
        if now is not None and (told is None or changes):
            changes.append(Blindness(now, self._since_ns(now, glance)))
        if changes:
            self._told = changes[-1] if changes[-1].ended is None else None
        return changes

    def _accepted(self, at_ns: int, told: Blindness) -> bool:
        return at_ns - told.since_ns >= self._settings.accept * 1e9

    def _judged(self, glance: Glance, step_s: float) -> Reason | None:
        """What is wrong for long enough. What has been told stays the word for it as long as that is wrong."""
        level = extreme(glance)
        self._light(glance)
        scene = self._scene_wrong(glance, step_s, judge=level is None)
        found: list[Reason] = []
        # A black picture has no noise, and no edges: it is neither frozen nor covered.
        if level is None and self._settings.watches("frozen") and self._frozen.sees(glance, other=self._other):
            found.append("frozen")
        for name in EXTREMES:
            held = self._held[name]
            held.turns(level == name and self._settings.watches(name), glance.at_ns)
            if held.yes:
                found.append(name)
        if scene:
            found.append(scene)
        if self._told is not None and self._told.reason in found:
            return self._told.reason
        return found[0] if found else None

    def _scene_wrong(self, glance: Glance, step_s: float, *, judge: bool) -> Reason | None:
        held = self._held["scene"]
        watches = self._settings.watches
        wrong = self._scene.sees(glance, step_s, learn=not held.yes, watches=watches) if judge else None
        if wrong and not held.yes and glance.at_ns - self._switched_ns < SWITCHED_NS and self._scene.textured:
            self._scene.begin_anew()
            wrong = None
        self._other = wrong is not None
        held.turns(self._other, glance.at_ns)
        if not held.yes:
            self._scene_reason = None
        # While a camera is being turned, or a crowd passes close by, nobody knows yet.
        elif self._scene_reason is None and (wrong != "moved" or self._scene.steady):
            self._scene_reason = wrong
        return self._scene_reason

    def _light(self, glance: Glance) -> None:
        """Whether the light has become another one at once."""
        lights, at_ns = self._lights, glance.at_ns
        while lights and not 0 <= at_ns - lights[0][0] <= JUMP_NS:
            lights.popleft()
        lights.append((at_ns, glance.level, glance.colour))
        _, level, colour = lights[0]
        switched = min(colour, glance.colour) < GREY and max(colour, glance.colour) > COLOUR
        if switched:
            self._switched_ns = at_ns
        if switched or abs(glance.level - level) > JUMP:
            self._frozen.begin_anew()

    def _since_ns(self, reason: Reason, glance: Glance) -> int:
        """When what is told now was seen first."""
        if reason == "frozen":
            return glance.at_ns - round(self._frozen.still_s * 1e9)
        return self._held[reason if reason in EXTREMES else "scene"].since_ns
