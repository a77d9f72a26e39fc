"""`blind:` and `motion:` of a camera."""

from __future__ import annotations

from contextlib import suppress
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field

from agent.durations import Seconds, seconds
from agent.values import Section

Reason = Literal["frozen", "black", "white", "defocused", "covered", "moved"]
REASONS: tuple[Reason, ...] = ("frozen", "black", "white", "defocused", "covered", "moved")

_WORDS = {"on": True, "off": False}


def _switch(value: object) -> object:
    """`off` is a word in YAML 1.2."""
    return _WORDS.get(value, value) if isinstance(value, str) else value


def _patience(value: object) -> object:
    """One message for what would be a mistake in each of two ways."""
    value = _switch(value)
    if value is True or value == "learned":
        return "learned"
    if value is not False:
        with suppress(ValueError):
            value = seconds(value)
        if not isinstance(value, float) or value < 1:
            raise ValueError("expected 'learned', 'off' or a duration of 1s or more")
    return value


Switch = Annotated[bool, BeforeValidator(_switch)]
Patience = Annotated[Literal["learned", False] | float, BeforeValidator(_patience)]


class BlindSection(Section):
    """`blind: {moved: off, after: 20s}`."""

    frozen: Patience = "learned"
    """`learned`: still for clearly longer than this camera's picture ever was; or a time after which a picture without
    any change is frozen."""
    black: Switch = True
    white: Switch = True
    defocused: Switch = True
    covered: Switch = True
    moved: Switch = True
    after: Annotated[Seconds, Field(ge=1)] = 6.0
    """So for so long without a break, the camera is blind (`frozen` has its own time)."""
    accept: Annotated[Seconds, Field(ge=10)] = 1800.0
    """What a moved camera has shown for so long is what it shall show."""

    def watches(self, reason: Reason) -> bool:
        """Whether that is to be told."""
        return getattr(self, reason) is not False


class MotionSection(Section):
    """`motion: gate`, or `motion: {heartbeat: 10s, hold: 3s}`."""

    heartbeat: Annotated[Seconds, Field(gt=0)] = 10.0
    """A still picture is looked at so often all the same."""
    hold: Seconds = 3.0
    """After the last change every frame is looked at for so long."""


def _blind(value: object) -> object:
    value = _switch(value)
    if value is True:
        return {}
    if isinstance(value, str):
        raise ValueError("expected 'on', 'off' or a mapping of keys")
    return dict.fromkeys(REASONS, False) if value is False else value


def _motion(value: object) -> Any:
    if value == "gate":
        return {}
    if _switch(value) is False:
        return None
    if isinstance(value, str):
        raise ValueError("expected 'gate', 'off' or a mapping of keys")
    return value


Blind = Annotated[BlindSection | None, BeforeValidator(_blind)]
"""`on`, `off` or a section; None: as the source is."""
Motion = Annotated[MotionSection | None, BeforeValidator(_motion)]
"""`gate`, `off` or a section."""
