"""Input that means harm, or was harmed on its way: made from a number, fed to the agent's parts in child processes.

The same number makes the same input, always: what is reported can be had again (`scripts/prove fuzz --only KIND
--first NUMBER --count 1`). A child feeds many inputs one after the other and says which one it is at, so that one that
crashes or hangs it is known, and the next child goes on behind it.
"""

from __future__ import annotations

import random
from pathlib import Path
from typing import Protocol


class Wrong(Exception):
    """What a part did with an input that no input may make it do."""


class Inputs(Protocol):
    """One kind of hostile input, and what takes it."""

    most_s: float
    """An input that takes longer hangs. Far more than any needs: machines are busy."""
    most_mb: float
    """Memory that one input may take for a moment."""

    def __init__(self, folder: Path) -> None:
        """`folder`: one of this kind's own, kept from child to child; what is costly to make is made there once."""

    def make(self, number: int) -> bytes:
        """The input of that number."""

    def feed(self, data: bytes) -> str:
        """Give it to the agent's part; returns the outcome in a word or two. Raises Wrong, or what the part raises."""


def dice(kind: str, number: int) -> random.Random:
    """The chances that make input `number`."""
    return random.Random(f"{kind} {number}")
