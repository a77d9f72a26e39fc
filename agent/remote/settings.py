"""`commands:` of the configuration."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field

from agent.values import Section

Name = Literal["snapshot", "enable", "disable", "set_threshold", "reload"]


class CommandsSection(Section):
    """`commands: {allow: [enable, disable]}`."""

    allow: tuple[Name, ...] = ()
    """What may be asked over MQTT. None unless named: without any, the agent does not even subscribe."""
    per_second: Annotated[float, Field(gt=0, le=1000)] = 20
    """More are answered `busy`, in bursts over five seconds' worth."""


def allowed(settings: CommandsSection) -> dict[str, Any]:
    """What status says of commands."""
    if settings.allow:
        return {"allowed": list(settings.allow)}
    return {"allowed": [], "reason": "the configuration allows none, e.g. commands: {allow: [enable, disable]}"}
