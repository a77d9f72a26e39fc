"""A driver that counts what is asked of it: does a frame allocate, how often does a batch wait?"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Any

from engines.cuda.driver import Driver

TAKING = ("allocate", "pin")
"""Calls that take memory."""


class Counting(Driver):
    """Another driver, with `calls`: name -> how often."""

    def __init__(self, driver: Driver) -> None:
        self.driver, self.calls = driver, Counter[str]()
        self.binding, self.facts = driver.binding, driver.facts


def _counted(name: str) -> Callable[..., Any]:
    def call(self: Counting, *arguments: Any) -> Any:
        self.calls[name] += 1
        return getattr(self.driver, name)(*arguments)

    return call


for _name in Driver.__abstractmethods__:
    setattr(Counting, _name, _counted(_name))
Counting.__abstractmethods__ = frozenset()
