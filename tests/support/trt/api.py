"""What the bindings of one version offer, asked by name."""

from __future__ import annotations

import re
from typing import Any

from tests.support.trt import signatures
from tests.support.trt.signatures import Signature


class Api:
    """One version's answers (`tests.support.trt.say`), with the types that signatures name found again."""

    def __init__(self, said: dict[str, Any]) -> None:
        self.version: str = said["version"]
        self.classes: dict[str, Any] = said["classes"]
        self.others: dict[str, Any] = said["others"]
        self.features: dict[str, Any] = said["features"]
        self._overloads: dict[tuple[str | None, str], list[Signature]] = {}
        self._named: dict[str, str | None] = {}

    def member(self, owner: str, name: str) -> dict[str, Any] | None:
        """`owner.name`, inherited or its own; None: there is no such."""
        found: dict[str, Any] | None = self.classes[owner]["members"].get(name)
        return found

    def is_enum(self, name: str) -> bool:
        """Its members are constants, which are always true."""
        return "__members__" in self.classes[name]["members"]

    def is_a(self, name: str, wanted: str) -> bool:
        """The one class is the other or derives from it."""
        return name == wanted or wanted in self.classes[name]["bases"]

    def named(self, text: str) -> str | None:
        """The class that a signature means: `tensorrt_bindings.tensorrt.Dims`, `nvonnxparser::IParserError`."""
        if text not in self._named:
            self._named[text] = self._find(text)
        return self._named[text]

    def _find(self, text: str) -> str | None:
        parts = re.split(r"\.|::", text)
        for start in range(len(parts)):
            rest = parts[start:]
            # C++ writes an I before what Python knows without.
            for candidate in (".".join(rest), ".".join([*rest[:-1], rest[-1].removeprefix("I")])):
                if candidate in self.classes:
                    return candidate
        return None

    def overloads(self, owner: str | None, name: str) -> list[Signature]:
        """Of a method, of what makes a class (`__init__`), or of a function (owner None); []: nobody knows."""
        if (owner, name) not in self._overloads:
            found = self.others.get(name) if owner is None else self.member(owner, name)
            read = [signatures.read(line) for line in (found or {}).get("signatures", ())]
            self._overloads[owner, name] = read
        return self._overloads[owner, name]
