"""What a check says: that something is well, worth knowing, or to be mended and how."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

State = Literal["ok", "note", "problem"]


@dataclass(frozen=True)
class Finding:
    """One line of the examination."""

    topic: str
    state: State
    text: str
    mend: str | None = None
    """The command that mends it, or what to write in the configuration."""


def ok(topic: str, text: str) -> Finding:
    """Something is there and well."""
    return Finding(topic, "ok", text)


def note(topic: str, text: str, mend: str | None = None) -> Finding:
    """Something to know; nothing has to be done."""
    return Finding(topic, "note", text, mend)


def problem(topic: str, text: str, mend: str) -> Finding:
    """Something that will not work until it is mended; there is no problem without a way out."""
    return Finding(topic, "problem", text, mend)
