"""A driver that counts what is asked of it: does a frame allocate, how often does a batch wait?"""

from __future__ import annotations

from collections import Counter
from typing import Any

from engines.cuda.driver import Driver

TAKING = ("allocate", "pin")
"""Calls that take memory."""


class Counting:
    """All that another driver is, with `calls`: name -> how often."""

    def __init__(self, driver: Driver) -> None:
        self.driver, self.calls = driver, Counter[str]()

    def __getattr__(self, name: str) -> Any:
        found = getattr(self.driver, name)
        if name not in Driver.__abstractmethods__:
            return found

        def call(*arguments: Any) -> Any:
            self.calls[name] += 1
            return found(*arguments)

        return call
